package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// ran is how often the commands of runs that append to this file have run.
func (m *machine) ran() int {
	p, err := os.ReadFile(filepath.Join(m.login, "ran"))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return len(p)
}

// TestStartComesLate has a start come over a connection that the host has given up, when the run was forgotten, or canceled, over a later one.
func TestStartComesLate(t *testing.T) {
	for name, settle := range map[string]func(t *testing.T, c *Client, s Spec){
		"forgotten": func(t *testing.T, c *Client, s Spec) {
			start(t, c, s)
			follow(t, c, s.Run)
			must(t, c.Forget(t.Context(), []RunID{s.Run}, false))
		},
		"canceled": func(t *testing.T, c *Client, s Spec) {
			if err := c.Control(t.Context(), s.Run, Control{Cancel: true}); !errors.Is(err, ErrNoRun) {
				t.Fatalf("cancel: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			old := m.connect()
			must(t, old.TakeOver(t.Context(), m.server, "m1"))
			start(t, old, m.command("true")) // as long as it has the machine
			later := m.connect()
			must(t, later.TakeOver(t.Context(), m.server, "m1"))
			s := m.command("printf x >>ran")
			settle(t, later, s)
			before := m.ran()
			if _, err := old.Start(t.Context(), []Spec{s}); !errors.Is(err, ErrClosed) {
				t.Errorf("the late start: %v", err)
			}
			<-old.Done()
			if v, err := look(m.dir(s.Run), "boot-1"); err != nil || v.state != None {
				t.Errorf("the run is %v, %v", v.state, err)
			}
			if m.ran() != before {
				t.Errorf("the command ran %d times, and %d after that", before, m.ran()-before)
			}
			must(t, later.TakeOver(t.Context(), m.server, "m1")) // once more by who has it already
			start(t, later, s)
		})
	}
}

// TestTakeOverOthers takes over what is another machine's, which leaves ours alone; so does a connection that takes nothing over.
func TestTakeOverOthers(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	must(t, c.TakeOver(t.Context(), m.server, "m1"))
	other := m.connect()
	must(t, other.TakeOver(t.Context(), m.server, "m2"))
	start(t, m.connect(), m.command("true"))
	start(t, c, m.command("true"))
	if err := c.TakeOver(t.Context(), "..", "m1"); err == nil {
		t.Error("a path was taken for an id")
	}
}

// TestTakeOverLater: what kept a machine from being taken over only keeps runs from being started, and only as long as it is there.
func TestTakeOverLater(t *testing.T) {
	m := newMachine(t)
	dir := filepath.Dir(m.dir(m.command("").Run))
	must(t, os.MkdirAll(filepath.Join(dir, takeoverFile), 0o700)) // a directory in its place stands for a disk that is full
	c := m.connect()
	if err := c.TakeOver(t.Context(), m.server, "m1"); !errors.Is(err, &Error{}) || errors.Is(err, ErrClosed) {
		t.Fatalf("take over: %v", err)
	}
	s := m.command("printf x >>ran")
	if r := startResult(t, c, s); r.Status != StartFailed {
		t.Errorf("start: %+v", r)
	}
	must(t, os.Remove(filepath.Join(dir, takeoverFile)))
	follow(t, c, start(t, c, s))
	if m.ran() != 1 {
		t.Errorf("the command ran %d times", m.ran())
	}
}

// TestTakeoverFile finds garbage, and what other connections have counted.
func TestTakeoverFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), takeoverFile)
	var last string
	for _, there := range []string{"", "garbage", "-1"} {
		must(t, os.WriteFile(file, []byte(there), 0o600))
		one := &takeover{file: file}
		must(t, one.take())
		if one.number == last || len(one.number) != takeoverSize {
			t.Errorf("after %q: %q, before that %q", there, one.number, last)
		}
		last = one.number
	}
	two := &takeover{file: file}
	must(t, two.take())
	if two.number <= last {
		t.Errorf("%q after %q", two.number, last)
	}
}
