package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh/sshtest"
)

// given has a run's inputs read, as the scheduler does, and starts it.
func (h *host) given(r sched.Run, paths ...string) []*statepb.Input {
	h.t.Helper()
	for _, path := range paths {
		r.Inputs = append(r.Inputs, &statepb.Input{Name: filepath.Base(path), Path: path})
	}
	h.Start(r)
	read := await(h, func(o sched.InputsRead) bool { return o.Ref.Job == r.Ref.Job })
	r.Inputs = read.Inputs
	h.Start(r)
	return read.Inputs
}

// putFile writes a file of the host, with the directories that it is in.
func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestInputsAreSentOnce: to each machine once, whoever wants them and however often, also in
// another daemon's life; and with them the list of what a job has waited for.
func TestInputsAreSentOnce(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m, func(o *Options) {
		o.AfterList = func(_ context.Context, job uint64) ([]byte, error) {
			return fmt.Appendf(nil, "list of %d\n", job), nil
		}
	})
	h.connected(m.Name)
	dir := t.TempDir()
	putFile(t, filepath.Join(dir, "d", "a", "f"), "one\n")
	putFile(t, filepath.Join(dir, "g"), "two\n")
	all := []string{filepath.Join(dir, "d"), filepath.Join(dir, "g")}
	show := "cat $JOBSERVER_INPUTS/d/a/f $JOBSERVER_INPUTS/g"
	for jid := uint64(1); jid <= 10; jid++ {
		read := h.given(job(m.Name, jid, show), all...)
		if len(read) != 2 || !read[0].Dir || read[0].Bytes != 4 || read[1].Dir ||
			read[1].Hash == "" {
			t.Fatalf("what was read is %v", read)
		}
	}
	for jid := uint64(1); jid <= 10; jid++ {
		h.ends(job(m.Name, jid, ""), "one\ntwo\n")
	}
	h.halt()
	h.run()
	h.connected(m.Name)
	r := job(m.Name, 11, show+" $JOBSERVER_INPUTS/after.jsonl")
	r.After = true
	h.given(r, all...)
	h.ends(job(m.Name, 11, ""), "one\ntwo\nlist of 11\n")
	if n := h.times("sent an input"); n != 2 {
		t.Errorf("two inputs were sent %d times", n)
	}
	putFile(t, filepath.Join(dir, "g"), "too\n")
	h.given(job(m.Name, 12, show), all...)
	h.ends(job(m.Name, 12, ""), "one\ntoo\n")
	if n := h.times("sent an input"); n != 3 {
		t.Errorf("when one has changed, %d were sent", n)
	}
}

// TestInputsNotThere: what can't be had of the host holds the job, whenever that is seen, and
// nobody is to blame.
func TestInputsNotThere(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	h.connected(m.Name)
	h.connected("local:a")
	dir := t.TempDir()
	at := filepath.Join(dir, "f")
	for i, addr := range []string{m.Name, "local:a"} {
		for k, tt := range []struct {
			name string
			// between the reading and the sending; nil: it is missing from the start
			then func()
			want string
		}{
			{"missing", nil, "is not there"},
			{"changed after it was read", func() { putFile(t, at, "another\n") }, "changed since"},
			{"gone after it was read", func() { os.Remove(at) }, "is not there"},
			{"a pipe by then", func() {
				os.Remove(at)
				sh(t, "mkfifo", at)
			}, "a named pipe"},
		} {
			t.Run(addr[:5]+" "+tt.name, func(t *testing.T) {
				r := job(addr, uint64(10*i+k+1), "cat $JOBSERVER_INPUTS/f")
				r.Inputs = []*statepb.Input{{Name: "f", Path: at}}
				os.Remove(at)
				if tt.then != nil {
					putFile(t, at, fmt.Sprintf("%d %d\n", i, k))
				}
				h.Start(r)
				if tt.then != nil {
					read := await(h, func(o sched.InputsRead) bool {
						return o.Ref.Job == r.Ref.Job
					})
					tt.then()
					r.Inputs = read.Inputs
					h.Start(r)
				}
				o := await(h, func(o sched.NotStarted) bool { return o.Ref.Job == r.Ref.Job })
				if !o.Hold || !strings.Contains(o.Reason, tt.want) {
					t.Errorf("it is not started: %+v", o)
				}
			})
		}
	}
}

// TestInputsOfADriver: it finds links to where they are.
func TestInputsOfADriver(t *testing.T) {
	h := newHost(t, nil)
	at := filepath.Join(t.TempDir(), "f")
	putFile(t, at, "here\n")
	r := job("away", 1, "")
	r.Ref.Driver, r.Command = true, nil
	r.Argv = []string{"sh", "-c", "readlink $JOBSERVER_INPUTS/f; cat $JOBSERVER_INPUTS/f"}
	h.given(r, at)
	h.ends(r, at+"\nhere\n")
}

// TestInputsCanceled: a run that is canceled before it is known what was read for it is never
// started, and one that is dropped is forgotten.
func TestInputsCanceled(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local:a")
	at := filepath.Join(t.TempDir(), "f")
	putFile(t, at, "x\n")
	for jid := uint64(1); jid <= 2; jid++ {
		r := job("local:a", jid, "echo it runs")
		r.Inputs = []*statepb.Input{{Name: "f", Path: at}}
		h.Start(r)
		read := await(h, func(o sched.InputsRead) bool { return o.Ref.Job == jid })
		if jid == 1 {
			h.Cancel(r.Ref)
			await(h, func(o sched.NotStarted) bool { return o.Ref.Job == jid && !o.Hold })
			continue
		}
		h.Drop(r.Ref)
		r = job("local:a", 3, "cat $JOBSERVER_INPUTS/f")
		r.Inputs = read.Inputs
		h.Start(r)
		h.ends(r, "x\n")
	}
}

// TestKnownInputs: a tree that the file system says is the same isn't read again, and one that was
// written to just now is.
func TestKnownInputs(t *testing.T) {
	h := newHost(t, nil, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Hour) } // it is all settled
	})
	m := newMachine(h.Fleet, "local:a") // one that nobody has set going
	m.ctx = t.Context()
	at := filepath.Join(t.TempDir(), "f")
	hashes := map[string]bool{}
	for _, text := range []string{"a", "b", "b"} {
		if len(hashes) < 2 {
			putFile(t, at, text)
		}
		in, err := h.inputs.find(m, at)
		if err != nil {
			t.Fatal(err)
		}
		hashes[in.Hash] = true
	}
	if len(hashes) != 2 || len(h.inputs.known) != 1 {
		t.Errorf("hashes %v, known %v", hashes, h.inputs.known)
	}
}
