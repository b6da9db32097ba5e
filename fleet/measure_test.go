package fleet

import (
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
