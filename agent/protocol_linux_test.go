package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

func greeting(h hello) []byte {
	return append(bytes.Clone(magic), makeFrame(typeHello, 0, encode(h.fields))...)
}

func TestConnect(t *testing.T) {
	good := greeting(hello{MinVersion: 1, MaxVersion: maxVersion + 2, Facts: Facts{BootID: "b"}})
	for name, tt := range map[string]struct {
		said []byte
		want *Error
		text string
	}{
		"good": {said: good},
		"banner": {said: append([]byte("Welcome!\r\n\x1b[1mnews\n\x00\xffjobserver"),
			good...)},
		"long banner": {said: append(bytes.Repeat([]byte("x"), maxJunk), good...),
			want: ErrNoAgent, text: `"xxx`},
		"no agent": {said: []byte("bash: jobserver-123: No such file or directory\n"),
			want: ErrNoAgent, text: "No such file"},
		"nothing": {want: ErrNoAgent, text: "nothing came"},
		"newer": {said: greeting(hello{MinVersion: maxVersion + 1,
			MaxVersion: maxVersion + 2}), want: ErrVersion,
			text: fmt.Sprintf("%d to %d", maxVersion+1, maxVersion+2)},
		"cut short":  {said: good[:len(good)-3], want: ErrProtocol},
		"only magic": {said: magic, want: &Error{Kind: KindOther}},
		"not a hello": {said: append(bytes.Clone(magic), makeFrame(typeDone, 7)...),
			want: ErrProtocol},
		"hello malformed": {said: append(bytes.Clone(magic),
			makeFrame(typeHello, 0, []byte{0x80})...), want: ErrProtocol},
		"oversized": {said: append(bytes.Clone(magic), 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0),
			want: ErrProtocol, text: "length"},
		"negative": {said: append(bytes.Clone(magic), 0, 0, 0, 1, 1, 0, 0, 0, 0),
			want: ErrProtocol, text: "length"},
		"machine's fault": {said: append(bytes.Clone(magic),
			makeFrame(typeFail, 0, encode(errorf(KindLimit, "no room").fields))...), want: ErrLimit,
			text: "no room"},
	} {
		t.Run(name, func(t *testing.T) {
			host, peer := net.Pipe()
			go func() {
				_, _ = peer.Write(tt.said)
				if tt.want == nil {
					readFrame(bufio.NewReader(peer), 10, freshBuffer) // the host's hello
				}
				peer.Close()
			}()
			c, err := Connect(t.Context(), host)
			if tt.want == nil {
				must(t, err)
				if c.Machine().BootID != "b" {
					t.Errorf("facts: %+v", c.Machine())
				}
				c.Close()
				return
			}
			if tt.want.Kind != KindOther && !errors.Is(err, tt.want) ||
				!strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestConnectGivesUp(t *testing.T) {
	host, peer := net.Pipe()
	defer peer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, host); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestHostilePeer has an agent answer the first call wrongly.
func TestHostilePeer(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<40)
	for name, tt := range map[string]struct {
		answer []byte
		want   *Error
	}{
		"closed": {want: ErrClosed},
		"cut short": {answer: makeFrame(typeDone, 1, []byte("abc"))[:10],
			want: ErrProtocol},
		"oversized": {answer: []byte{0xff, 0xff, 0xff, 0xff, typeDone, 0, 0, 0, 1},
			want: ErrProtocol},
		"unknown frame":    {answer: makeFrame(99, 1), want: ErrProtocol},
		"part unasked for": {answer: makeFrame(typePart, 1, []byte("x")), want: ErrProtocol},
		"huge list":        {answer: makeFrame(typeDone, 1, huge), want: ErrProtocol},
		"list of nothing": {answer: makeFrame(typeDone, 1, binary.AppendUvarint(nil, 1<<15),
			make([]byte, 4)), want: ErrProtocol},
		"number of results": {answer: makeFrame(typeDone, 1, []byte{0}), want: ErrProtocol},
		"connection's end": {answer: makeFrame(typeFail, 0,
			encode(errorf(KindVersion, "no").fields)), want: ErrClosed},
		"typed error": {answer: append(makeFrame(typeDone, 77),
			makeFrame(typeFail, 1, encode(errorf(KindNoRun, "gone").fields))...), want: ErrNoRun},
	} {
		t.Run(name, func(t *testing.T) {
			host, peer := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				r := bufio.NewReader(peer)
				_, _ = peer.Write(greeting(hello{MinVersion: minVersion, MaxVersion: maxVersion}))
				for range 2 { // the host's hello and its call
					readFrame(r, maxFrame, freshBuffer)
				}
				_, _ = peer.Write(tt.answer)
				peer.Close()
			}()
			c, err := Connect(t.Context(), host)
			must(t, err)
			if _, err := c.Start(t.Context(), []Spec{{}}); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			c.Close()
			<-done
		})
	}
}

// TestEndlessList has an agent list runs without an end.
func TestEndlessList(t *testing.T) {
	id := RunID{Server: "s", Machine: "m", Token: "t"}
	for name, tt := range map[string]struct {
		part runInfos
		want string
	}{
		"many": {part: runInfos{Runs: slices.Repeat([]RunInfo{{Run: id}}, 5000)},
			want: "more than 100000 runs"},
		"long": {part: runInfos{Runs: []RunInfo{{Run: id,
			Exit: &Exit{LogError: strings.Repeat("x", 4<<20)}}}}, want: "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := endless(t, methodList, encode(tt.part.fields))
			_, err := c.List(t.Context(), "", "")
			if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// endless is an agent that answers the first call with the same part for ever. It counts the parts.
func endless(t *testing.T, method byte, payload []byte) (*Client, *atomic.Int64) {
	host, peer := net.Pipe()
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := bufio.NewReader(peer)
		_, _ = peer.Write(greeting(hello{MinVersion: minVersion, MaxVersion: maxVersion}))
		for range 2 { // the host's hello and its call
			readFrame(r, maxFrame, freshBuffer)
		}
		part := makeFrame(typePart, 1, payload)
		for credit := window(method); ; {
			if credit < len(part) {
				f, err := readFrame(r, maxFrame, freshBuffer)
				if err != nil || f.kind != typeCredit {
					return
				}
				credit += int(binary.BigEndian.Uint32(f.payload))
				continue
			}
			if _, err := peer.Write(part); err != nil {
				return
			}
			credit -= len(part)
			sent.Add(1)
		}
	}()
	c, err := Connect(t.Context(), host)
	must(t, err)
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return c, &sent
}

// TestEndlessManifest has an agent name results without an end: the host's memory has one.
func TestEndlessManifest(t *testing.T) {
	long := strings.Repeat("x", 4000)
	many := func(e Entry) (m Manifest) {
		for range 400 {
			m.Entries = append(m.Entries, e)
		}
		return m
	}
	for name, tt := range map[string]struct {
		part Manifest
		want error
	}{
		"long names": {part: many(Entry{Name: long, Source: "/" + long, Kind: File}),
			want: ErrLimit},
		"other names": {part: many(Entry{Name: "a", Source: "/" + long, Kind: File}),
			want: ErrLimit},
		"short names": {part: many(Entry{Name: "a", Kind: File}), want: ErrLimit},
		"targets": {part: many(Entry{Name: "a", Kind: Symlink, Target: long}),
			want: ErrLimit},
		"errors": {part: Manifest{Errors: []PathError{{Path: "a",
			Reason: strings.Repeat("x", 1<<20)}}}, want: ErrLimit},
		"long errors": {part: Manifest{Errors: []PathError{{Path: strings.Repeat("x", 1<<20)}}},
			want: ErrLimit},
		"missing": {part: Manifest{Missing: []string{strings.Repeat("x", 1<<20)}},
			want: ErrProtocol},
		"no such path": {part: many(Entry{Name: long + long, Kind: File}), want: ErrProtocol},
		"no such link": {part: many(Entry{Name: "a", Kind: Symlink, Target: long + long}),
			want: ErrProtocol},
		"zero in a path": {part: many(Entry{Name: "a", Source: "/x\x00", Kind: File}),
			want: ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			part := encode(tt.part.fields)
			c, sent := endless(t, methodManifest, part)
			_, err := c.Manifest(t.Context(), ManifestRequest{Paths: []string{"x"}})
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			parts := sent.Load()
			took := max(int64(len(part)), int64(len(tt.part.Entries))*int64(unsafe.Sizeof(Entry{})))
			ahead := int64((window(methodManifest)+dataSize)/len(part)) + 1
			if (parts-ahead)*took > maxManifestBytes {
				t.Errorf("%d parts were taken, which have %d bytes each", parts, took)
			}
		})
	}
}

// TestHostileHost sends an agent what no host sends.
func TestHostileHost(t *testing.T) {
	m := newMachine(t)
	for name, tt := range map[string]struct {
		said []byte
		want *Error
	}{
		"oversized": {said: []byte{0xff, 0xff, 0xff, 0xff, typeCall, 0, 0, 0, 1},
			want: ErrProtocol},
		"garbage":       {said: []byte("GET / HTTP/1.0\r\n\r\n"), want: ErrProtocol},
		"wrong version": {said: makeFrame(typeHello, 0, []byte{9}), want: ErrVersion},
		"second hello": {said: append(makeFrame(typeHello, 0, []byte{maxVersion}),
			makeFrame(typeHello, 0, []byte{maxVersion})...), want: ErrProtocol},
		"empty call": {said: makeFrame(typeCall, 1), want: ErrProtocol},
		"unknown method": {said: makeFrame(typeCall, 1, []byte{200}),
			want: &Error{Kind: KindBadRequest}},
		"bad request": {said: makeFrame(typeCall, 1, []byte{methodStart, 0x80}),
			want: ErrProtocol},
		"no run": {said: makeFrame(typeCall, 1, []byte{methodPoll}),
			want: &Error{Kind: KindBadRequest}},
		"escape": {said: makeFrame(typeCall, 1, []byte{methodForget},
			encode((&runsRequest{Runs: []RunID{{Server: "..", Machine: "..", Token: "x"}},
				Force: true}).fields)),
			want: &Error{Kind: KindBadRequest}},
		"list of elsewhere": {said: makeFrame(typeCall, 1, []byte{methodList},
			encode((&listRequest{Server: "../.."}).fields)), want: &Error{Kind: KindBadRequest}},
	} {
		t.Run(name, func(t *testing.T) {
			l := m.dial()
			r := bufio.NewReader(l)
			must(t, skipJunk(r))
			_, err := readFrame(r, maxJunk, freshBuffer)
			must(t, err)
			_, err = l.Write(tt.said)
			must(t, err)
			f, err := readFrame(r, maxFrame, freshBuffer)
			must(t, err)
			if err := failure(f.payload); f.kind != typeFail || !errors.Is(err, tt.want) {
				t.Errorf("frame %d: %v", f.kind, err)
			}
		})
	}
}

// TestManyCallsAtOnce: an agent refuses more calls than it may have at once. A client of ours never
// makes them.
func TestManyCallsAtOnce(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	c.polls = make(chan struct{}, 4*maxCalls)
	s := m.command("sleep 1000")
	start(t, c, s)
	ctx, cancel := context.WithCancel(m.ctx())
	polls := make(chan error, maxCalls+1)
	for range cap(polls) {
		go func() {
			_, err := c.Poll(ctx, PollRequest{Run: s.Run, Wait: time.Hour}, nil)
			polls <- err
		}()
	}
	if err := <-polls; !errors.Is(err, &Error{Kind: KindBusy}) {
		t.Errorf("one call too many: %v", err)
	}
	cancel()
	for range cap(polls) - 1 {
		if err := <-polls; !errors.Is(err, context.Canceled) {
			t.Errorf("poll: %v", err)
		}
	}
	// The ping may overtake the cancels.
	for errors.Is(c.Ping(m.ctx()), &Error{Kind: KindBusy}) {
		continue
	}
	must(t, c.Ping(m.ctx()))
}

func TestFacts(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	f, err := c.Facts(m.ctx())
	must(t, err)
	if f.BootID != "boot-1" || f.OS != "linux" || f.Root != m.root || f.Cores < 1 ||
		f.MemoryBytes < 1<<20 || f.FreeBytes < 1 || f.Kernel == "" ||
		time.Since(f.Now).Abs() > time.Minute {
		t.Errorf("%+v", f)
	}
	f.Now, f.FreeBytes, f.Load1 = time.Time{}, 0, 0
	first := c.Machine()
	first.Now, first.FreeBytes, first.Load1 = time.Time{}, 0, 0
	if diff := cmp.Diff(first, f); diff != "" {
		t.Errorf("facts differ from those of the greeting: %s", diff)
	}
}

func TestChooseRoot(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_STATE_HOME", "")
	got, err := chooseRoot()
	must(t, err)
	if want := filepath.Join(home, ".local/state/jobserver"); got != want {
		t.Errorf("without XDG_STATE_HOME: %s, want %s", got, want)
	}
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	got, err = chooseRoot()
	must(t, err)
	if want := filepath.Join(state, "jobserver"); got != want {
		t.Errorf("with XDG_STATE_HOME: %s, want %s", got, want)
	}
	t.Setenv("XDG_STATE_HOME", "/proc/self") // not writable
	got, err = chooseRoot()
	must(t, err)
	if want := filepath.Join(home, ".local/state/jobserver"); got != want {
		t.Errorf("with an unusable XDG_STATE_HOME: %s, want %s", got, want)
	}
}

func TestKillsUserProcesses(t *testing.T) {
	session := "0::/user.slice/user-1000.slice/session-3.scope\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"no systemd": {files: map[string]string{"proc/self/cgroup": session,
			"etc/systemd/logind.conf": "KillUserProcesses=yes\n"}},
		"default": {files: map[string]string{"run/systemd/sessions/3": "",
			"proc/self/cgroup": session, "etc/systemd/logind.conf": "#KillUserProcesses=yes\n"}},
		"yes": {files: map[string]string{"run/systemd/sessions/3": "",
			"proc/self/cgroup":        session,
			"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n"}, want: true},
		"no session": {files: map[string]string{"run/systemd/sessions/3": "",
			"proc/self/cgroup":        "0::/system.slice/ssh.service\n",
			"etc/systemd/logind.conf": "KillUserProcesses=yes\n"}},
		"lingers": {files: map[string]string{"run/systemd/sessions/3": "",
			"proc/self/cgroup": session, "etc/systemd/logind.conf": "KillUserProcesses=yes\n",
			"var/lib/systemd/linger/me": ""}},
		"drop-in off": {files: map[string]string{"run/systemd/sessions/3": "",
			"proc/self/cgroup": session, "etc/systemd/logind.conf": "KillUserProcesses=yes\n",
			"etc/systemd/logind.conf.d/1.conf": "KillUserProcesses=no\n"}},
		"hidden drop-in": {files: map[string]string{"run/systemd/sessions/3": "",
			"proc/self/cgroup":                     session,
			"usr/lib/systemd/logind.conf.d/1.conf": "KillUserProcesses=no\n",
			"etc/systemd/logind.conf.d/1.conf":     "KillUserProcesses=yes\n"}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, content := range tt.files {
				write(t, filepath.Join(root, file), content)
			}
			if got := killsUserProcesses(root, "me"); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// FuzzAgentFrames feeds an agent's reader and every request's decoder.
func FuzzAgentFrames(f *testing.F) {
	f.Add(makeFrame(typeHello, 0, []byte{maxVersion}))
	spec := startRequest{Specs: []Spec{{Run: RunID{Server: "s", Machine: "m", Job: 1, Token: "t"},
		Command: []byte("true"), Env: []Pair{{"A", "b"}}}}}
	f.Add(makeFrame(typeCall, 1, []byte{methodStart}, encode(spec.fields)))
	f.Add(makeFrame(typeCall, 1, []byte{methodPoll}, encode((&PollRequest{OutOff: -1}).fields)))
	f.Fuzz(func(t *testing.T, p []byte) {
		defer budget.Hold(t, 1<<20+64*len(p))()
		r := bufio.NewReader(bytes.NewReader(p))
		for {
			fr, err := readFrame(r, 1<<16, freshBuffer)
			if err != nil {
				return
			}
			for _, fields := range []func(*coder){
				new(startRequest).fields, new(PollRequest).fields, new(controlRequest).fields,
				new(runsRequest).fields,
				new(listRequest).fields, new(ManifestRequest).fields, new(FetchRequest).fields,
				new(hello).fields, new(order).fields,
				new(startReply).fields, new(PollReply).fields, new(runInfos).fields,
				new(Manifest).fields, new(Fetched).fields, new(Error).fields,
			} {
				if decode(fr.payload, fields) == nil {
					encode(fields)
				}
			}
			in := &fetchReader{sink: &discard{}, files: 3, crc: newCRC()}
			_ = in.frame(fr.payload)
		}
	})
}

// FuzzMessage checks that what is decoded is encoded to something that means the same.
func FuzzMessage(f *testing.F) {
	f.Add(encode(fullExit.fields))
	f.Fuzz(func(t *testing.T, p []byte) {
		defer budget.Hold(t, 1<<20+64*len(p))()
		var e, again Exit
		if decode(p, e.fields) != nil {
			return
		}
		must(t, decode(encode(e.fields), again.fields))
		if e != again {
			t.Errorf("%+v is not %+v", again, e)
		}
	})
}

// stopped is a Sink of a host that is gone, or as good as that.
type stopped struct{ ctx context.Context }

func (s stopped) Data(int, []byte) error {
	<-s.ctx.Done()
	return s.ctx.Err()
}

func (s stopped) Hole(int, int64) error { return nil }

func (s stopped) Done(int, Fetched) error { return nil }

// TestSilentHostOfACopy: a call that waits for the host's credit is no reason to wait for the host
// for ever.
func TestSilentHostOfACopy(t *testing.T) {
	m := newMachine(t)
	big := filepath.Join(m.login, "big")
	must(t, os.WriteFile(big, nil, 0o600))
	must(t, os.Truncate(big, 4*int64(window(methodFetch))))
	man, err := m.connect().Manifest(m.ctx(),
		ManifestRequest{Base: m.login, Paths: []string{"big"}})
	must(t, err)
	c, err := Connect(m.ctx(), m.dial("--silence", "1s"))
	must(t, err)
	ctx, cancel := context.WithCancel(m.ctx())
	fetched := make(chan error, 1)
	go func() {
		e := man.Entries[0]
		fetched <- c.Fetch(ctx,
			FetchRequest{Files: []FetchFile{{Source: e.Source, Size: e.Size, ModTime: e.ModTime}}},
			stopped{ctx})
	}()
	select {
	case <-c.Done():
	case <-m.ctx().Done():
		t.Error("the agent waits for ever")
	}
	cancel()
	<-fetched
	c.Close()
}

// TestSilentHost: an agent whose host is gone without a word ends, with its connection; what was
// asked of it is done first.
func TestSilentHost(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("exec sleep 1000")
	start(t, c, s)
	silent, err := Connect(m.ctx(), m.dial("--silence", "1s"))
	must(t, err)
	if _, err := silent.Poll(t.Context(), PollRequest{Run: s.Run, Wait: time.Hour},
		nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a poll: %v", err)
	}
	<-silent.Done()
	if r, err := c.Poll(t.Context(), PollRequest{Run: s.Run, Wait: -1}, nil); err != nil ||
		r.State != Running {
		t.Errorf("the run doesn't go on: %+v, %v", r, err)
	}
	must(t, c.Kill(t.Context(), s.Run))

	in, out, err := os.Pipe()
	must(t, err)
	defer in.Close()
	defer out.Close()
	a := &agent{silence: time.Millisecond, calls: map[uint32]*serving{1: {method: methodFetch}}}
	heard := make(chan error)
	go func() { heard <- a.hear(in, bufio.NewReader(in)) }()
	select {
	case err := <-heard:
		t.Errorf("while it works: %v", err)
	case <-time.After(20 * a.silence):
		a.mu.Lock()
		a.calls[1] = &serving{method: methodPoll}
		a.mu.Unlock()
		if err := <-heard; err != errSilent {
			t.Errorf("when there is only a poll: %v", err)
		}
	}
}
