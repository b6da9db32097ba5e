package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/ssh/sshtest"
)

func TestMeasure(t *testing.T) {
	h := newHost(t, nil, func(opt *Options) { opt.MeasureEvery = 2 * time.Millisecond })
	h.connected("local:a")
	seen := 0
	got := await(h, func(o sched.Measured) bool { seen++; return seen == 3 })
	if got.Addr != "local:a" || got.Vitals.FreeBytes <= 0 || got.Vitals.Latency <= 0 ||
		got.Vitals.ClockOffset.Abs() > time.Minute {
		t.Errorf("measured %+v", got)
	}
}

// stopAgent has the agent that runs on a machine hang until the test ends, and its connection live.
func stopAgent(t *testing.T, m *sshtest.Machine) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		words, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(words), m.Home) ||
			!strings.Contains(string(words), "\x00agent\x00") {
			continue // of another program, or gone
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) }) // it may be gone already
		return
	}
	t.Fatal("no agent runs there")
}

// An agent that hangs is left, and another one is started.
func TestAgentHangs(t *testing.T) {
	for name, ask := range map[string]func(*testing.T, *host, *sshtest.Machine){
		"measured": func(*testing.T, *host, *sshtest.Machine) {},
		"listed": func(t *testing.T, h *host, m *sshtest.Machine) {
			if err := h.Clean(t.Context(), m.Name, nil); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := sshtest.Start(t)
			h := newHost(t, m, func(opt *Options) {
				opt.AnswerTime = 2 * time.Second
				if name == "measured" {
					opt.MeasureEvery = 100 * time.Millisecond
				}
			})
			h.connected(m.Name)
			stopAgent(t, m)
			ask(t, h, m)
			if away := await[sched.Away](h, nil); !strings.Contains(away.Reason,
				"the agent gave no answer within 2s") {
				t.Errorf("the reason is %q", away.Reason)
			}
			seen := 0
			await(h, func(sched.Connected) bool { seen++; return seen == 2 })
		})
	}
}

// An agent of this host that says nothing is given up, too.
func TestLocalAgentHangs(t *testing.T) {
	mute := filepath.Join(t.TempDir(), "mute")
	if err := os.WriteFile(mute, []byte("#!/bin/sh\ncat >/dev/null\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, nil, func(opt *Options) {
		opt.Binary, opt.AnswerTime = mute, 50*time.Millisecond
	})
	h.Connect(sched.Pool{Addr: "local"})
	if away := await[sched.Away](h, nil); !strings.Contains(away.Reason, "no answer within 50ms") {
		t.Errorf("away: %s", away.Reason)
	}
}

// TestAgentLeavesACallUnanswered: an agent that answers all but one kind of call is left, too, and
// what was asked for is asked of the next one.
func TestAgentLeavesACallUnanswered(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		method int // see package agenttest
		ask    func(h *host, r sched.Run)
		asked  func(h *host, r sched.Run) // waits until it is carried out
	}{
		"poll": {4, func(*host, sched.Run) {}, func(h *host, r sched.Run) {
			if err := os.WriteFile(filepath.Join(h.opt.StateDir, "end"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"control": {
			method: 5,
			ask:    func(h *host, r sched.Run) { h.Cancel(r.Ref) },
			asked:  func(*host, sched.Run) {},
		},
		"steer": {
			method: 13,
			ask:    func(h *host, r sched.Run) { h.Pause(r.Ref, true) },
			asked: func(h *host, r sched.Run) {
				await(h, func(o sched.Paused) bool { return o.On })
				h.Cancel(r.Ref)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			mode, binary := filepath.Join(dir, "mode"), filepath.Join(dir, "relay")
			write := func(file, text string, perm os.FileMode) {
				t.Helper()
				// in one piece: it is read at every frame, and run
				err := os.WriteFile(file+".new", []byte(text), perm)
				if err == nil {
					err = os.Rename(file+".new", file)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			write(mode, "honest", 0o600)
			write(binary, fmt.Sprintf("#!/bin/sh\nexec %s relay %s %s \"$@\"\n",
				self, program, mode), 0o700)
			h := newHost(t, nil, func(opt *Options) {
				opt.Binary, opt.AnswerTime = binary, time.Second
				opt.PollWait = 50 * time.Millisecond
			})
			h.connected("local")
			r := job("local", 1, "until [ -e "+filepath.Join(h.opt.StateDir, "end")+
				" ]; do sleep 0.1; done")
			h.Start(r)
			await[sched.Started](h, nil)
			write(mode, fmt.Sprintf("silent %d", tt.method), 0o600)
			tt.ask(h, r)
			await(h, func(o sched.Away) bool {
				return strings.Contains(o.Reason, "the agent doesn't answer")
			})
			write(mode, "honest", 0o600)
			tt.asked(h, r)
			h.ends(r, "")
		})
	}
}
