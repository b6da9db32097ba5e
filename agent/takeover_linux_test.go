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

// TestStartComesLate has a start come over a connection that the host has given up, when the run
// was forgotten, or canceled, over a later one.
func TestStartComesLate(t *testing.T) {
	for name, settle := range map[string]func(t *testing.T, c *Client, s Spec){
		"forgotten": func(t *testing.T, c *Client, s Spec) {
			start(t, c, s)
			follow(t, c, s.Run)
			must(t, c.Forget(t.Context(), []RunID{s.Run}, false))
		},
		"canceled": func(t *testing.T, c *Client, s Spec) {
			if err := c.Control(t.Context(), s.Run, Control{Cancel: true}); !errors.Is(err,
				ErrNoRun) {
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

// TestTakeOverOthers takes over what is another machine's, which leaves ours alone; so does a
// connection that takes nothing over.
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

// TestNotTakenOver: a connection that couldn't take the machine over starts nothing, also when it
// could by now, and takes it from nobody.
func TestNotTakenOver(t *testing.T) {
	m := newMachine(t)
	file := linkFile(m.root, m.server, "m1")
	must(t, os.MkdirAll(file, 0o700)) // a directory in its place stands for a disk that is full
	old := m.connect()
	if err := old.TakeOver(t.Context(), m.server, "m1"); err == nil || errors.Is(err, ErrClosed) {
		t.Fatalf("take over: %v", err)
	}
	must(t, os.Remove(file))
	later := m.connect()
	must(t, later.TakeOver(t.Context(), m.server, "m1"))
	s := m.command("printf x >>ran")
	follow(t, later, start(t, later, s))
	must(t, later.Forget(t.Context(), []RunID{s.Run}, false))
	if _, err := old.Start(t.Context(), []Spec{s}); !errors.Is(err, ErrClosed) {
		t.Errorf("the late start: %v", err)
	}
	start(t, later, m.command("true"))
	must(t, os.Remove(file))
	if _, err := later.Start(t.Context(), []Spec{m.command("true")}); !errors.Is(err, ErrClosed) {
		t.Errorf("start without the file: %v", err)
	}
	if m.ran() != 1 {
		t.Errorf("the command ran %d times", m.ran())
	}
}

// TestLinkFile finds garbage, and what other connections have counted.
func TestLinkFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "link")
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
