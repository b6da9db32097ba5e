package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRunSpoilsItsFiles: whatever a job puts in the place of its own run's files, the agent answers
// about that run and others, and the run can be ended and forgotten.
func TestRunSpoilsItsFiles(t *testing.T) {
	instead := func(put func(name string) error) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			for _, name := range []string{
				fileRun, streamFiles[Stdout], streamFiles[Stderr], fileMarks,
			} {
				name = filepath.Join(dir, name)
				must(t, os.RemoveAll(name))
				must(t, put(name))
			}
		}
	}
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"pipes":       instead(func(name string) error { return unix.Mkfifo(name, 0o600) }),
		"directories": instead(func(name string) error { return os.Mkdir(name, 0o700) }),
		"devices":     instead(func(name string) error { return os.Symlink("/dev/zero", name) }),
		"links":       instead(func(name string) error { return os.Symlink("nowhere", name) }),
		"junk": instead(func(name string) error {
			return os.WriteFile(name, []byte("jobserver launching 1 \xff\n"), 0o600)
		}),
		"nothing": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
		"a lock": func(t *testing.T, dir string) {
			d, err := os.Open(dir)
			must(t, err)
			t.Cleanup(func() { d.Close() })
			must(t, flock(d, unix.LOCK_EX))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			c := m.connect()
			s := m.command("echo up; sleep 1000")
			start(t, c, s)
			awaitOutput(t, c, s.Run, "up")
			spoil(t, m.dir(s.Run))
			ctx, cancel := context.WithTimeout(m.ctx(), time.Minute)
			defer cancel()
			c = m.connect() // an agent that knows nothing of the run
			_, err := c.List(ctx, s.Run.Server, s.Run.Machine)
			must(t, err)
			_, _ = c.Poll(ctx, PollRequest{Run: s.Run}, nil)
			_ = c.Control(ctx, s.Run, Control{Cancel: true, Grace: -1})
			if err := c.Kill(ctx, s.Run); err != nil && !errors.Is(err, ErrNoRun) {
				t.Errorf("it can't be killed: %v", err)
			}
			if err := c.Forget(ctx, []RunID{s.Run}, true); err != nil {
				t.Errorf("it can't be forgotten: %v", err)
			}
			follow(t, c, start(t, c, m.command("true"))) // another run
			if ctx.Err() != nil {
				t.Error("the agent didn't answer for a minute")
			}
			if left := family(s.Run, supervisorOf(s.Run)); len(left) > 0 {
				t.Errorf("of the run live %+v", left)
			}
			if _, err := os.Lstat(m.dir(s.Run)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("its directory: %v", err)
			}
		})
	}
}

// TestStopsItsSupervisor: a job that stops its supervisor, which may not have said yet that it has
// begun, is started all the same, and ends when it is canceled.
func TestStopsItsSupervisor(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	s := m.command("kill -STOP $PPID; mkdir $JOBSERVER_SCRATCH/stopped; sleep 1000")
	start(t, c, s)
	// It may be told to cancel before its job has come to that, and then isn't woken.
	ctx, tick := m.ctx(), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for stopped := filepath.Join(m.dir(s.Run), "scratch", "stopped"); ; {
		if _, err := os.Lstat(stopped); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the job doesn't come to it")
		}
	}
	must(t, c.Control(m.ctx(), s.Run, Control{Cancel: true}))
	if e := follow(t, c, s.Run); e.exit == nil || e.exit.Cause != Canceled {
		t.Errorf("state %v, exit %+v", e.state, e.exit)
	}
}
