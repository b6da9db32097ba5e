package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"jobserver/tests/budget"
)

// fakeAgent is an agent's end of a connection that does what a test says with each call.
type fakeAgent struct {
	peer  net.Conn
	ended chan struct{}
}

// connectFake connects to an agent that has answer called with each call's id and method; it writes
// frames with send.
func connectFake(t *testing.T, answer func(f *fakeAgent, id uint32, method byte)) *Client {
	t.Helper()
	host, peer := net.Pipe()
	f := &fakeAgent{peer: peer, ended: make(chan struct{})}
	var calls sync.WaitGroup
	go func() {
		defer close(f.ended)
		defer calls.Wait()
		r := bufio.NewReader(peer)
		_, _ = peer.Write(greeting(hello{MinVersion: minVersion, MaxVersion: maxVersion}))
		for {
			got, err := readFrame(r, maxFrame, freshBuffer)
			if err != nil {
				return
			}
			if got.kind == typeCall {
				calls.Go(func() { answer(f, got.id, got.payload[0]) })
			}
		}
	}()
	c, err := Connect(t.Context(), host)
	must(t, err)
	t.Cleanup(func() {
		c.Close()
		peer.Close()
		<-f.ended
	})
	return c
}

// send writes a frame; an error is the connection's end.
func (f *fakeAgent) send(kind byte, id uint32, payload []byte) error {
	_, err := f.peer.Write(makeFrame(kind, id, payload))
	return err
}

// calls are one call of every method.
var calls = map[string]func(ctx context.Context, c *Client) error{
	"ping":     func(ctx context.Context, c *Client) error { return c.Ping(ctx) },
	"facts":    func(ctx context.Context, c *Client) error { _, err := c.Facts(ctx); return err },
	"takeover": func(ctx context.Context, c *Client) error { return c.TakeOver(ctx, "s", "m") },
	"start": func(ctx context.Context, c *Client) error {
		_, err := c.Start(ctx, []Spec{{}})
		return err
	},
	"prepare": func(ctx context.Context, c *Client) error {
		_, err := c.Prepare(ctx, []Spec{{}})
		return err
	},
	"poll": func(ctx context.Context, c *Client) error {
		began := time.Now()
		_, err := c.Poll(ctx, PollRequest{Wait: 20 * time.Minute}, nil)
		if waited := time.Since(began); errors.Is(err, ErrStalled) && waited < 21*time.Minute {
			return fmt.Errorf("it waited for %v only", waited)
		}
		return err
	},
	"control": func(ctx context.Context, c *Client) error {
		return c.Control(ctx, RunID{}, Control{})
	},
	"steer": func(ctx context.Context, c *Client) error {
		return c.Steer(ctx, RunID{}, Control{})
	},
	"forget": func(ctx context.Context, c *Client) error {
		return c.Forget(ctx, []RunID{{}}, true)
	},
	"kill": func(ctx context.Context, c *Client) error { return c.Kill(ctx, RunID{}) },
	"list": func(ctx context.Context, c *Client) error {
		_, err := c.List(ctx, "s", "m")
		return err
	},
	"code": func(ctx context.Context, c *Client) error {
		_, _, err := c.FindCode(ctx, "h")
		return err
	},
	"input": func(ctx context.Context, c *Client) error {
		_, _, err := c.FindInput(ctx, "h")
		return err
	},
	"lay": func(ctx context.Context, c *Client) error {
		_, err := c.LayInputs(ctx, RunID{}, nil, "", nil)
		return err
	},
	"manifest": func(ctx context.Context, c *Client) error {
		_, err := c.Manifest(ctx, ManifestRequest{Paths: []string{"p", "q"}, MaxFiles: 100})
		return err
	},
	"output": func(ctx context.Context, c *Client) error {
		_, err := c.Output(ctx, OutputRequest{Until: 1 << 20}, func([]byte) error { return nil })
		return err
	},
	"fetch": func(ctx context.Context, c *Client) error {
		return c.Fetch(ctx, FetchRequest{Files: []FetchFile{{Source: "p"}}}, nothingKept{})
	},
}

type nothingKept struct{}

func (nothingKept) Data(int, []byte) error  { return nil }
func (nothingKept) Hole(int, int64) error   { return nil }
func (nothingKept) Done(int, Fetched) error { return nil }

// TestEveryMethodHasLimits: a method that is added gets its limits, and its call in these tests.
func TestEveryMethodHasLimits(t *testing.T) {
	for m := byte(methodPing); m < methodsEnd; m++ {
		if limits[m].reply == 0 || limits[m].silence == 0 {
			t.Errorf("method %d has the limits %+v", m, limits[m])
		}
	}
	if n := methodsEnd - 1; len(limits) != n || len(calls) != n {
		t.Errorf(
			"%d methods have limits, %d are called here, of %d",
			len(limits),
			len(calls),
			n,
		)
	}
}

// TestNeverAnswered: every call ends by itself when no answer comes, a poll when it has waited as
// long as it was to, and some time more.
func TestNeverAnswered(t *testing.T) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := connectFake(t, func(*fakeAgent, uint32, byte) {})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := call(ctx, c)
				if !errors.Is(err, ErrStalled) {
					t.Errorf("the error is %v", err)
				}
			})
		})
	}
}

// TestDripping: an answer that comes byte by byte, without an end, doesn't hold a call; one that is
// slow but goes forward does.
func TestDripping(t *testing.T) {
	for name, tt := range map[string]struct {
		piece int           // bytes of the file at a time
		pause time.Duration // after each
		want  error
	}{
		"a byte a second":                 {1, time.Second, ErrStalled},
		"a byte each time it is too late": {1, DefaultPatience - 1, ErrStalled},
		"slow": {64 << 10, DefaultPatience / 2,
			context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := connectFake(t, func(f *fakeAgent, id uint32, _ byte) {
					piece := append(
						[]byte{
							0x80 | byte(tt.piece&0x7f),
							0x80 | byte(tt.piece>>7&0x7f),
							byte(tt.piece >> 14),
						},
						make([]byte, tt.piece)...)
					for range 100 {
						if f.send(typePart, id, piece) != nil {
							return
						}
						time.Sleep(tt.pause) // the bubble's clock
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
				defer cancel()
				err := calls["fetch"](ctx, c)
				if !errors.Is(err, tt.want) {
					t.Errorf("the error is %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// TestAnswerTooLong: an answer that is longer than its method's ever is ends the connection.
func TestAnswerTooLong(t *testing.T) {
	for name, call := range calls {
		for kind, size := range map[byte]func(method byte) int{
			typeDone: func(method byte) int { return limits[method].reply + 1 },
			typeFail: func(byte) int { return failSize + 1 },
		} {
			t.Run(fmt.Sprint(name, kind), func(t *testing.T) {
				c := connectFake(t, func(f *fakeAgent, id uint32, method byte) {
					_ = f.send(kind, id, make([]byte, size(method)))
				})
				if err := call(t.Context(), c); !errors.Is(err, ErrProtocol) {
					t.Errorf("the error is %v", err)
				}
			})
		}
	}
}

// TestStrayAnswers: who goes on answering what nobody asks is left.
func TestStrayAnswers(t *testing.T) {
	c := connectFake(t, func(f *fakeAgent, id uint32, _ byte) {
		for f.send(typePart, id+1, make([]byte, 1000)) == nil {
			continue
		}
	})
	if err := c.Ping(t.Context()); !errors.Is(err, ErrProtocol) {
		t.Errorf("the error is %v", err)
	}
}

// TestListOfOthers: runs that were not asked for, or that no run can be called, are in no list.
func TestListOfOthers(t *testing.T) {
	good := RunID{Server: "s", Machine: "m", Job: 1, Attempt: 1, Token: "t"}
	for name, change := range map[string]func(*RunID){
		"good":            func(*RunID) {},
		"another server":  func(id *RunID) { id.Server = "x" },
		"another machine": func(id *RunID) { id.Machine = "x" },
		"no token":        func(id *RunID) { id.Token = "" },
		"a long token":    func(id *RunID) { id.Token = strings.Repeat("t", 65) },
		"an escape":       func(id *RunID) { id.Token = "\x1b[2J" },
		"a path":          func(id *RunID) { id.Token = "../.." },
	} {
		t.Run(name, func(t *testing.T) {
			id := good
			change(&id)
			c := connectFake(t, func(f *fakeAgent, call uint32, _ byte) {
				_ = f.send(typePart, call, encode((&runInfos{Runs: []RunInfo{{Run: id}}}).fields))
				_ = f.send(typeDone, call, nil)
			})
			_, err := c.List(t.Context(), "s", "m")
			if bad := id != good; bad != errors.Is(err, ErrProtocol) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestImpossibleNumbers: what no machine can mean doesn't get past the decoder, nor do texts that
// nobody would read.
func TestImpossibleNumbers(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	bad := Exit{
		Duration:     math.MinInt64,
		UserCPU:      -1,
		SystemCPU:    math.MaxInt64,
		MaxRSS:       -1,
		OutLen:       math.MinInt64,
		ErrLen:       -1,
		OutDropped:   -1,
		ErrDropped:   math.MinInt64,
		MarksDropped: -1,
		Killed:       -1,
		Left:         -1,
		LogError:     long,
		StartError:   long,
		SignalName:   long,
		BootID:       long,
		StartedAt:    time.Unix(0, math.MinInt64),
		EndedAt:      time.Unix(0, math.MaxInt64),
	}
	var e Exit
	must(t, decode(encode(bad.fields), e.fields))
	if e.Duration != 0 || e.UserCPU != 0 || e.SystemCPU > maxDuration || e.MaxRSS != 0 ||
		e.OutLen != 0 || e.ErrLen != 0 ||
		e.OutDropped != 0 || e.ErrDropped != 0 || e.MarksDropped != 0 ||
		e.Killed != 0 ||
		e.Left != 0 ||
		!e.StartedAt.IsZero() ||
		!e.EndedAt.IsZero() {
		t.Errorf("of impossible numbers became %+v", e)
	}
	if n := len(e.LogError) + len(e.StartError) + len(e.SignalName) + len(e.BootID); n > 4*maxText {
		t.Errorf("texts of %d bytes came through", n)
	}
	worst := Facts{
		Cores:       math.MinInt,
		MemoryBytes: -1,
		FreeBytes:   -1,
		Load1:       -1e15,
		Now:         time.Unix(0, math.MinInt64),
		CPUModel:    long,
	}
	var f Facts
	must(t, decode(encode(worst.fields), f.fields))
	if f.Cores != 0 || f.MemoryBytes != 0 || f.FreeBytes != 0 || f.Load1 != 0 || !f.Now.IsZero() ||
		len(f.CPUModel) > maxText {
		t.Errorf("of impossible facts became %.300v", f)
	}
}

// TestMoreRunsThanCalls: more runs are followed than a connection carries calls, and the others are
// heard of at once all the same.
func TestMoreRunsThanCalls(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	run := start(t, c, m.command("echo ready; sleep 300"))
	ctx, cancel := context.WithCancel(m.ctx())
	var polls sync.WaitGroup
	for range maxCalls + 100 {
		polls.Go(func() {
			for ctx.Err() == nil {
				_, _ = c.Poll(
					ctx,
					PollRequest{Run: run, OutOff: 6, ErrOff: 1, Wait: time.Hour},
					nil,
				) // it ends with ctx
			}
		})
	}
	defer polls.Wait()
	defer cancel()
	for len(c.polls) < pollPlaces { // until no other has a place
		must(t, c.Ping(m.ctx()))
	}
	must(t, startResult(t, c, m.command("true")).Err())
	if _, err := c.Facts(m.ctx()); err != nil {
		t.Errorf("facts: %v", err)
	}
	must(t, c.Control(m.ctx(), run, Control{Cancel: true, Grace: -1}))
}

// TestShortPartsTakeLittle: what waits for a call takes about as much memory as its window says,
// however short its parts are.
func TestShortPartsTakeLittle(t *testing.T) {
	defer budget.Hold(t, 4<<20)()
	var c Client
	k := &call{ready: make(chan struct{}, 1), window: window(methodManifest)}
	n := 0
	for k.add(frame{kind: typePart, payload: c.alloc(typePart, n%100)}) {
		n++
	}
	if n != maxWaiting {
		t.Errorf("%d parts wait", n)
	}
}
