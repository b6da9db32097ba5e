package fleet

import (
	"context"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// TestPlaces: a place for a copy goes to the machine that has the fewest, and among those to who
// came first.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(2)
		a, b, c := &machine{}, &machine{}, &machine{}
		names := map[*machine]string{a: "a", b: "b", c: "c"}
		var got []string
		want := func(m *machine) {
			go func() {
				if p.take(t.Context(), m) == nil {
					got = append(got, names[m])
				}
			}()
			synctest.Wait()
		}
		want(a)
		want(a)
		ctx, giveUp := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { gone <- p.take(ctx, c) }()
		synctest.Wait()
		giveUp()
		if err := <-gone; err == nil {
			t.Error("a place was given to who had gone")
		}
		for _, m := range []*machine{a, a, b, c} { // they wait
			want(m)
		}
		for _, m := range []*machine{a, a, b, c} {
			p.leave(m)
			synctest.Wait()
		}
		if !slices.Equal(got, []string{"a", "a", "b", "a", "c", "a"}) {
			t.Errorf("places were given to %v", got)
		}
		p.leave(a)
		p.leave(a)
		if p.free != 2 || len(p.held) != 0 || len(p.waiting) != 0 {
			t.Errorf("in the end %d are free, %v held", p.free, p.held)
		}
	})
}

// TestQueuedCopiesWait: a copy that has no turn says so, whatever it waits for, and so gives up its
// slot.
func TestQueuedCopiesWait(t *testing.T) {
	t.Run("behind others of its machine", func(t *testing.T) {
		from, to := t.TempDir(), t.TempDir()
		plant(t, from, map[string]string{"out": "1"})
		h := newHost(t, nil, func(o *Options) { o.MinFree = 1 << 62 }) // none has room
		h.connected("local")
		for id := range uint64(copiesPerMachine + 1) {
			h.Copy(
				results(
					"local",
					id+1,
					filepath.Join(to, "x", string('a'+rune(id))),
					filepath.Join(from, "out"),
				),
			)
		}
		o := await(h, func(o sched.CopyWaits) bool { return o.Job == copiesPerMachine+1 })
		if !strings.Contains(o.Reason, "other copies from this machine") {
			t.Errorf("the reason is %q", o.Reason)
		}
	})
	t.Run("for a machine that is never reached", func(t *testing.T) {
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		addr := "u@" + silent.Addr().String()
		h := newHost(t, nil)
		h.Connect(sched.Pool{Addr: addr})
		h.Copy(results(addr, 1, filepath.Join(t.TempDir(), "1"), "/nothing"))
		o := await[sched.CopyWaits](h, nil)
		if !strings.Contains(o.Reason, "away") {
			t.Errorf("the reason is %q", o.Reason)
		}
	})
}

// TestLogRemoved: the log of a run that is quiet is removed here; the machine has it, and it is
// there in the end.
func TestLogRemoved(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 3) },
		"longer": func(path string) error {
			return os.WriteFile(path, []byte("what somebody else has written\n"), 0o600)
		},
		"its folder": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, nil)
			h.connected("local")
			g := newGate(t)
			r := job("local", 1, "echo first; "+g.command())
			h.Start(r)
			g.reached()
			path := sched.LogPath(h.opt.LogDir, r.Ref, false)
			for { // each look is one at the disk
				if b, _ := os.ReadFile(path); string(b) == "first\n" {
					break
				}
			}
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			g.open(t)
			h.ends(r, "first\n")
		})
	}
}

// TestLogLimit: of a stream no more is kept than may be, whatever the machine sends; what was too
// much is counted, and compared.
func TestLogLimit(t *testing.T) {
	s := logFile{path: filepath.Join(t.TempDir(), "log"), limit: 10}
	all := ""
	for _, piece := range []string{"12345", "6789", "abc", "", "defghijklmnop"} {
		if err := s.open(); err != nil {
			t.Fatal(err)
		}
		if err := s.append([]byte(piece)); err != nil {
			t.Fatal(err)
		}
		if all += piece; s.offset() != int64(len(all)) ||
			s.all != crc32.Checksum([]byte(all), castagnoli) {
			t.Errorf("after %q it is at %d, with the checksum %x", all, s.offset(), s.all)
		}
	}
	kept, err := os.ReadFile(s.path)
	if err != nil || string(kept) != all[:10] || s.crc != crc32.Checksum(kept, castagnoli) ||
		s.excess != int64(len(all)-10) {
		t.Errorf("kept is %q, dropped %d, %v", kept, s.excess, err)
	}
	again := logFile{
		path:  s.path,
		limit: 10,
	} // a daemon that is started again gets the rest once more
	if err := again.open(); err != nil || again.offset() != 10 || again.all != s.crc {
		t.Errorf("found again at %d, %v", again.offset(), err)
	}
}

// TestLogLimitOfARun: a run that has printed more than the daemon keeps by now ends as it ended.
func TestLogLimitOfARun(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	g := newGate(t)
	r := job("local", 1, g.command()+"; printf 1234567890abc; exit 3")
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	h.halt()
	h.opt.MaxLog = 10 // less than what it was started with
	h.run()
	h.connected("local")
	r.Known = true
	h.Start(r)
	g.open(t)
	a := h.ends(r, "1234567890")
	if a.ExitCode != 3 || a.Dropped != 3 || a.OutLen != 10 || a.Error != "" {
		t.Errorf("it ended with %v", a)
	}
	h.settled(&statepb.Obligation{Run: r.Ref})
}

// TestLogSpace: while there is less room than is to stay free only the beginnings of logs come, and
// none when it is nearly used.
func TestLogSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keep = 100 << 20
		s := logSpace{keep: keep, at: time.Now()}
		a, b := 0, 0
		take := func(lean *int, free int64, n int, ok bool) {
			t.Helper()
			s.free = free
			if err := s.take(lean, n); (err == nil) != ok {
				t.Errorf("%d bytes with %d free: %v", n, free, err)
			}
		}
		take(&a, keep, leanBytes*10, true)
		take(&a, keep-1, leanBytes, true)
		take(&a, keep-1, 1, false)
		take(&b, keep-1, leanBytes+1, false)
		take(&b, keep-1, leanBytes, true)
		take(&a, keep, 1, true) // there is room again
		take(&a, keep-1, 1, true)
		take(&a, keep/leanShare-1, 1, false)
	})
}

// TestPacedPolls: an agent that answers polls at once with nothing is asked less and less often;
// one with little to say, not too often.
func TestPacedPolls(t *testing.T) {
	for name, tt := range map[string]struct {
		reply agent.PollReply
		most  int // polls in a minute
	}{
		"nothing":             {agent.PollReply{}, 40},
		"a byte":              {agent.PollReply{Bytes: 1}, 61 * pollsPerSecond},
		"much":                {agent.PollReply{Bytes: little}, 1 << 30},
		"empty marks forever": {agent.PollReply{Marks: []agent.Mark{{}}}, 61 * pollsPerSecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, r := &machine{polls: pace{rate: pollsPerSecond}}, &run{}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				polls := 0
				for ; polls < 200*pollsPerSecond; polls++ {
					if m.pacePolls(ctx, r, agent.PollReply{}, tt.reply, time.Now()) != nil {
						break
					}
				}
				if polls > tt.most || tt.most > 200*pollsPerSecond && polls < 200*pollsPerSecond {
					t.Errorf("%d polls in a minute, at most %d should be", polls, tt.most)
				}
			})
		})
	}
}
