package torture_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"jobserver/api"
)

// damageJournal flips a byte in the middle of the state's only batches.
func (w *world) damageJournal(name string) {
	w.t.Helper()
	file := filepath.Join(w.StateDir, name)
	content := []byte(read(w.t, file))
	content[len(bytes.TrimRight(content, "\x00"))/2] ^= 1
	write(w.t, file, string(content), 0o600)
}

// wrecked is a state of three jobs that can't be loaded; the daemon doesn't run.
func wrecked(t *testing.T) *world {
	w := newWorld(t)
	for range 3 {
		w.submit(api.JobSpec{Class: "nowhere", Cmd: "true"})
	}
	w.stop()
	w.damageJournal("wal-00000001")
	return w
}

// TestSetAsideInterrupted kills a daemon at each step of setting a damaged state aside: whichever
// it was, no id is given out again.
func TestSetAsideInterrupted(t *testing.T) {
	t.Parallel()
	for _, place := range []string{
		"snapshot.aside-begun:1", "snapshot.aside-moved:1", "snapshot.aside-complete:1",
		"serve.opened:1", "serve.salvaged:1", "serve.reserved:1", "serve.recovered:1",
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := wrecked(t)
			w.Args = append(w.Args, "--allow-snap-fail")
			w.Env = []string{"JOBSERVER_FAILPOINT=" + place}
			if err := w.Start(t.Context()); err == nil {
				t.Fatal("it never came to its fail point")
			}
			w.start()
			if id := w.submit(api.JobSpec{Class: "nowhere", Cmd: "true"}); id != 4 {
				t.Errorf("after the ids 1 to 3, %d was given out", id)
			}
			w.restart() // and what was done is not done again
			if id := w.submit(api.JobSpec{Class: "nowhere", Cmd: "true"}); id != 5 {
				t.Errorf("after the ids 1 to 4, %d was given out", id)
			}
		})
	}
}

// TestSetAsideTwice: a state that was set aside passes the ids that it had taken over on to the
// third.
func TestSetAsideTwice(t *testing.T) {
	t.Parallel()
	w := wrecked(t)
	w.Args = append(w.Args, "--allow-snap-fail")
	w.start()
	w.stop()
	w.damageJournal("format")
	w.start()
	if id := w.submit(api.JobSpec{Class: "nowhere", Cmd: "true"}); id != 4 {
		t.Errorf("after the ids 1 to 3, %d was given out", id)
	}
}

// TestLogsOutliveState: when nothing of a state can be read, and even when it is gone, no job gets
// an id that has a log.
func TestLogsOutliveState(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"unreadable", "removed"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			call[api.Empty](w, "AddMachines",
				&api.AddMachinesArgs{Addrs: []string{"local"}, Class: "x", Slots: 1})
			var last uint64
			for range 3 {
				last = w.submit(api.JobSpec{Cmd: "echo its own words"})
				w.wait(last)
			}
			w.stop()
			files, err := filepath.Glob(filepath.Join(w.StateDir, "wal-*"))
			must(t, err)
			for _, file := range files {
				write(t, file, fmt.Sprintf("%4096d", 0), 0o600)
			}
			if way == "removed" {
				must(t, os.Remove(filepath.Join(w.StateDir, "format")))
				for _, file := range files {
					must(t, os.Remove(file))
				}
			}
			w.Args = append(w.Args, "--allow-snap-fail")
			w.start()
			if id := w.submit(api.JobSpec{Cmd: "true"}); id <= last {
				t.Errorf("the id %d was given out, and job %d has a log", id, last)
			}
		})
	}
}

// TestLogsOfForgotten: a daemon that dies with jobs forgotten and their logs still there leaves
// them to the next one, which removes these and no other.
func TestLogsOfForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	call[api.Empty](w, "AddMachines",
		&api.AddMachinesArgs{Addrs: []string{"local"}, Class: "x", Slots: 1})
	for range 4 {
		w.wait(w.submit(api.JobSpec{Cmd: "echo words"}))
	}
	logs := func(jid uint64) []string {
		files, err := filepath.Glob(filepath.Join(w.StateDir, "logs/000000", number(jid)+".*"))
		must(t, err)
		return files
	}
	for jid := range uint64(3) {
		w.change(api.OpForget, jid+1)
	}
	w.kill() // before its next second, in which it would have removed them
	if len(logs(1)) == 0 {
		t.Log("it had removed them")
		write(t, filepath.Join(w.StateDir, "logs/000000/1.1.out"), "words\n", 0o600)
	}
	w.start()
	eventually(t, "the logs of what was forgotten go", func() bool {
		return len(logs(1))+len(logs(2))+len(logs(3)) == 0
	})
	if len(logs(4)) == 0 {
		t.Error("the log of a job that is known is gone")
	}
}
