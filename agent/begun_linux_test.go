package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestBegunOnce: a run that has removed its own directory isn't started again, by whichever
// connection, whether or not something is prepared for it before.
func TestBegunOnce(t *testing.T) {
	m := newMachine(t)
	before := map[string]func(t *testing.T, c *Client, s Spec){
		"nothing": func(*testing.T, *Client, Spec) {},
		"prepare": func(t *testing.T, c *Client, s Spec) {
			r, err := c.Prepare(t.Context(), []Spec{s})
			must(t, err)
			must(t, r[0].Err())
		},
		"inputs": func(t *testing.T, c *Client, s Spec) {
			_, err := c.LayInputs(t.Context(), s.Run, nil, "list", []byte("x"))
			must(t, err)
		},
	}
	for name, prepare := range before {
		t.Run(name, func(t *testing.T) {
			count := filepath.Join(t.TempDir(), "count")
			s := m.command("")
			s.Command = fmt.Appendf(nil, "echo began >> %s; rm -rf %s", count, m.dir(s.Run))
			c := m.connect()
			prepare(t, c, s)
			startResult(t, c, s) // which may not see it start
			for m.ctx().Err() == nil {
				if _, err := os.Stat(m.dir(s.Run)); errors.Is(err, fs.ErrNotExist) {
					break
				}
			}
			for _, c := range []*Client{c, m.connect()} {
				prepare(t, c, s)
				if r := startResult(t, c, s); r.Err() != nil || !r.StartedAt.IsZero() {
					t.Errorf("it is started again: %+v", r)
				}
				if p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run}, nil); err != nil ||
					p.State != None {
					t.Errorf("it is %v, %v", p.State, err)
				}
			}
			if text, err := os.ReadFile(count); err != nil || string(text) != "began\n" {
				t.Errorf("it ran: %q, %v", text, err)
			}
		})
	}
}

// TestBegunIsBounded: what began long ago is forgotten, and the newest stay, also for who reads the
// file later.
func TestBegunIsBounded(t *testing.T) {
	a := &agent{root: t.TempDir()}
	run := func(n int) RunID {
		return RunID{Server: "s", Machine: "m", Job: uint64(n), Attempt: 1, Token: "t"}
	}
	b, err := a.begunOn(run(0))
	must(t, err)
	const all = 5*maxBegun + 7
	for n := range all {
		must(t, b.note(run(n)))
		must(t, b.note(run(n))) // which changes nothing
	}
	a.closeBegun()
	later, err := (&agent{root: a.root}).begunOn(run(0))
	must(t, err)
	for _, b := range []*begun{b, later} {
		if n := len(b.known); n < maxBegun || n > 2*maxBegun {
			t.Errorf("%d are known", n)
		}
		if b.has(run(0)) || !b.has(run(all-1)) || !b.has(run(all-maxBegun)) {
			t.Errorf("not the newest are known")
		}
	}
	// Whoever removes all of it keeps no run from beginning.
	must(t, later.note(run(all))) // it has the file open
	must(t, os.RemoveAll(a.root))
	for n := range all {
		must(t, later.note(run(all+n)))
	}
	if again, err := (&agent{root: a.root}).begunOn(run(0)); err != nil ||
		!again.has(run(2*all-1)) {
		t.Errorf("it isn't noted anew: %v", err)
	}
}
