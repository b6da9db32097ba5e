package torture_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/ssh/sshtest"
)

// TestDamagedState: whichever byte of the history is wrong, a start either has the same state or is
// refused, with a text that names the file and the place; nothing is touched then. Package snapshot
// tries every bit of a small history; here are some of a real one.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	w := newWorld(t)
	for range 20 {
		w.submit(api.JobSpec{Class: "nowhere", Cmd: "echo something to remember"})
	}
	w.stop()
	kept := w.StateDir + ".kept"
	must(t, os.Remove(w.Socket))
	must(t, os.Rename(w.StateDir, kept))
	files, err := filepath.Glob(filepath.Join(kept, "wal-*"))
	must(t, err)
	snaps, err := filepath.Glob(filepath.Join(kept, "snap-*"))
	must(t, err)
	files = append(append(files, snaps...), filepath.Join(kept, "format"),
		filepath.Join(kept, "server-id"))
	refused, same := 0, 0
	for range 24 {
		must(t, os.RemoveAll(w.StateDir))
		must(t, os.CopyFS(w.StateDir, os.DirFS(kept)))
		file := filepath.Join(w.StateDir, filepath.Base(files[rng.IntN(len(files))]))
		content := []byte(read(t, file))
		used := bytes.TrimRight(content, "\x00") // the rest is room for later
		at := rng.IntN(len(used))
		content[at] ^= 1 << rng.IntN(8)
		write(t, file, string(content), 0o600)
		must(t, os.RemoveAll(w.Console()))
		err := w.Start(t.Context())
		w.stopped = err != nil
		if err == nil {
			if n := len(w.allJobs()); n != 20 {
				t.Errorf("with byte %d of %s wrong, there are %d jobs, and nobody says why", at,
					filepath.Base(file), n)
			}
			w.stop()
			same++
			continue
		}
		refused++
		said := err.Error() // a server id that differs is one that the others don't have
		if !strings.Contains(said, filepath.Base(file)) &&
			!(strings.HasSuffix(file, "server-id") && strings.Contains(said, "another server id")) {
			t.Errorf("byte %d of %s is wrong, and the refusal says: %v", at, filepath.Base(file),
				err)
		}
		if got := read(t, file); got != string(content) {
			t.Errorf("%s was changed by a start that was refused", filepath.Base(file))
		}
	}
	t.Logf("%d times the state was the same, %d times it was refused", same, refused)
	if refused == 0 {
		t.Error("no damage was noticed")
	}
	must(t, os.RemoveAll(w.StateDir))
	must(t, os.Rename(kept, w.StateDir))
	w.start()
}

// TestHostileBytes sends the socket what no client would; the daemon answers others meanwhile, and
// takes little memory.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	w := newWorld(t)
	before := w.resident(t, "VmRSS")
	var senders sync.WaitGroup
	for i := range 32 {
		own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		senders.Go(func() {
			for range 20 {
				c, err := net.Dial("unix", w.Socket)
				if err != nil {
					t.Errorf("the socket refuses: %v", err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
				p := make([]byte, 1+own.IntN(8<<10))
				for i := range p {
					p[i] = byte(own.Uint32())
				}
				if own.IntN(2) == 0 { // a length that is large, and bytes that never come
					copy(p, []byte{0, 0xff, 0xff, 0xff})
				}
				_, _ = c.Write(p)
				_, _ = c.Read(p)
				c.Close()
			}
		})
	}
	for range 50 {
		call[api.Status](w, "Status", &api.Empty{})
	}
	senders.Wait()
	call[api.Status](w, "Status", &api.Empty{})
	if peak := w.resident(t, "VmHWM"); peak > before+128<<20 {
		t.Errorf("the daemon took %d MiB for it", (peak-before)>>20)
	}
}

// TestHostileMachines: machines that answer with noise, with nothing, without end, or with the
// beginning of an agent. They are named and set aside; another machine does the work.
func TestHostileMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.resident(t, "VmRSS")
	shells := map[string]string{
		"noise":   "exec head -c 30000000 /dev/urandom",
		"endless": "exec yes",
		"silent":  "exec sleep 1000",
		"ends":    "exit 1",
		"zeros":   "exec head -c 100000000 /dev/zero",
		"liar":    "echo root ok /; echo jobserver agent; exec head -c 1000000 /dev/urandom",
	}
	var hostile []*machine
	for _, name := range []string{"noise", "endless", "silent", "ends", "zeros", "liar"} {
		shell := filepath.Join(w.dir, "shell-"+name)
		write(t, shell, "#!/bin/sh\n"+shells[name]+"\n", 0o755)
		m := w.add(withSSH(sshtest.Shell(shell)), notInPool)
		hostile = append(hostile, m)
		call[api.Empty](w, "AddMachines",
			&api.AddMachinesArgs{Addrs: []string{m.alias}, Class: "x"})
	}
	w.add()
	var ids []uint64
	for range 20 {
		ids = append(ids, w.submit(api.JobSpec{Cmd: w.marked("true")}))
	}
	for _, id := range ids {
		w.ended(id, "done", "exited")
	}
	for _, m := range hostile {
		if slices.Contains([]string{"refused", "away"}, w.machine(m).State) &&
			w.machine(m).LastError == "" {
			t.Errorf("%s is %s, and nobody says why", m.alias, w.machine(m).State)
		}
		if w.machine(m).State == "connected" {
			t.Errorf("%s is connected", m.alias)
		}
	}
	if peak := w.resident(t, "VmHWM"); peak > before+192<<20 {
		t.Errorf("the daemon took %d MiB for it", (peak-before)>>20)
	}
}
