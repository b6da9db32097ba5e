package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBegunOnce: a run that has removed its own directory isn't started again, by whichever
// connection, whether or not something is prepared for it before.
func TestBegunOnce(t *testing.T) {
	m := newMachine(t)
	// What the command does with its records, $1, and their directory, $2.
	for name, what := range map[string]string{
		"its directory made anew": `rm -rf "$2"; mkdir -p "$2/scratch"`,
		"its records removed":     `rm "$1"`,
		"its records cut":         `: > "$1"`,
		"a record damaged":        `printf '\0\0\0\0\0\0' | dd of="$1" conv=notrunc 2> /dev/null`,
		"everything made empty":   `find "$2" -type f -exec sh -c ': > "$1"' - {} \;`,
	} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			count, done := filepath.Join(tmp, "count"), filepath.Join(tmp, "done")
			must(t, syscall.Mkfifo(done, 0o600))
			s := m.command("")
			dir := m.dir(s.Run)
			s.Command = fmt.Appendf(nil, "echo began >> %s; set %s %s; %s; echo > %s", count,
				filepath.Join(dir, fileRun), dir, what, done)
			c := m.connect()
			startResult(t, c, s) // which may not see it start
			_, err := os.ReadFile(done)
			must(t, err)
			if err := c.Kill(m.ctx(), s.Run); err != nil && !errors.Is(err, ErrNoRun) {
				t.Error(err)
			}
			for _, c := range []*Client{c, m.connect()} {
				r := startResult(t, c, s) // a record of its end may be there
				if p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run}, nil); err != nil ||
					!p.State.Final() && p.State != None {
					t.Errorf("it is %v, %v after %+v", p.State, err, r)
				}
			}
			if text, err := os.ReadFile(count); err != nil || string(text) != "began\n" {
				t.Errorf("it ran: %q, %v", text, err)
			}
			must(t, c.Forget(m.ctx(), []RunID{s.Run}, true))
			if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it is left: %v", err)
			}
		})
	}
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

// TestBegunInTheWay: whatever is in the place of the notes keeps no run from starting, and what was
// cut or written over says nothing of others.
func TestBegunInTheWay(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"a directory": func(t *testing.T, file string) {
			must(t, os.Mkdir(file, 0o700))
		},
		"a directory with something in it": func(t *testing.T, file string) {
			must(t, os.MkdirAll(filepath.Join(file, "a", "b"), 0o700))
		},
		"a pipe":          func(t *testing.T, file string) { must(t, syscall.Mkfifo(file, 0o600)) },
		"a dangling link": func(t *testing.T, file string) { must(t, os.Symlink("nowhere", file)) },
		"a link to a directory": func(t *testing.T, file string) {
			must(t, os.Symlink(t.TempDir(), file))
		},
		"a link to a device": func(t *testing.T, file string) {
			must(t, os.Symlink("/dev/full", file))
		},
		"a file that can't be read": func(t *testing.T, file string) {
			must(t, os.WriteFile(file, []byte("x\n"), 0))
		},
		"nothing to be written in": func(t *testing.T, file string) {
			must(t, os.Chmod(filepath.Dir(file), 0o500))
		},
		"a file for its directory": func(t *testing.T, file string) {
			must(t, os.RemoveAll(filepath.Dir(file)))
			must(t, os.WriteFile(filepath.Dir(file), nil, 0o600))
		},
		"a file for all of it": func(t *testing.T, file string) {
			all := filepath.Dir(filepath.Dir(file))
			must(t, os.RemoveAll(all))
			must(t, os.WriteFile(all, nil, 0o600))
		},
		"bytes": func(t *testing.T, file string) {
			must(t, os.WriteFile(file, make([]byte, 20<<20), 0o600))
		},
		"lines of another boot": func(t *testing.T, file string) {
			must(t, os.WriteFile(file, bytes.Repeat([]byte("1.1.0-abc\n"), 1<<20), 0o600))
		},
		"a line that was cut": func(t *testing.T, file string) {
			must(t, os.WriteFile(file, []byte("1.1.0-a"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.command("exit 3")
			file := begunFile(m.root, s.Run.Server, s.Run.Machine)
			must(t, os.MkdirAll(filepath.Dir(file), 0o700))
			spoil(t, file)
			c := m.connect()
			start(t, c, s)
			follow(t, c, s.Run)
			must(t, os.RemoveAll(m.dir(s.Run)))
			if r := startResult(t, m.connect(), s); r.Err() != nil || !r.StartedAt.IsZero() {
				t.Errorf("it is started again: %+v", r)
			}
		})
	}
}

// TestBegunOnAFullDisk: a note that can't be written keeps the run from starting, with what helps,
// and one that follows it is whole.
func TestBegunOnAFullDisk(t *testing.T) {
	a := &agent{root: t.TempDir()}
	one := RunID{Server: "s", Machine: "m", Job: 1, Attempt: 1, Token: "t"}
	b, err := a.begunOn(one)
	must(t, err)
	b.out, err = os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	if err := b.note(one); !errors.Is(err, syscall.ENOSPC) || b.has(one) ||
		!strings.Contains(err.Error(), filepath.Join(a.root, "begun")) {
		t.Errorf("a full disk: %v", err)
	}
	must(t, os.MkdirAll(filepath.Dir(b.file), 0o700))
	must(t, os.WriteFile(b.file, []byte("1.1.0-cu"), 0o600)) // what there was room for
	must(t, b.note(one))
	a.closeBegun()
	if again, err := (&agent{root: a.root}).begunOn(one); err != nil || !again.has(one) {
		t.Errorf("what was noted next isn't known: %v", err)
	}
}

// TestAwaitedStart: whoever repeats a start doesn't wait without end for one whose records say
// nothing, though somebody has the lock; it may run, and that is followed.
func TestAwaitedStart(t *testing.T) {
	m := newMachine(t)
	s := m.command("")
	must(t, os.MkdirAll(m.dir(s.Run), 0o700))
	lock, ok, err := openLock(filepath.Join(m.dir(s.Run), fileRun))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer os.RemoveAll(m.dir(s.Run))
	defer lock.Close()
	watch := newWatcher()
	defer watch.close()
	a := &agent{root: m.root, bootID: "boot-1", watch: watch}
	r, again := a.awaitStart(m.ctx(), m.dir(s.Run), time.Millisecond)
	if r.Err() != nil || !r.StartedAt.IsZero() || again {
		t.Errorf("%+v, %v", r, again)
	}
}
