package torture_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jobserver/api"
	"jobserver/ssh/sshtest"
)

// mayMount tells whether this user may mount file systems, which the tests that fill a disk do.
// Where not, they come as near to it as an ordinary user can.
func mayMount(t testing.TB) bool {
	t.Helper()
	out, err := exec.Command("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", t.TempDir()).
		CombinedOutput()
	if err != nil {
		t.Logf("without a file system of its own: %v: %s", err, out)
	}
	return err == nil
}

// small mounts a small file system of its own at dir.
func small(t testing.TB, dir, options string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs",
		dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a small file system: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount: %v\n%s", err, out)
		}
	})
}

// withHome prepares the machine's home before its sshd starts.
func withHome(prepare func(home string)) machineOption {
	return func(m *machineOptions) { m.prepare = prepare }
}

// TestMachineDiskFull: a job that fills its machine's disk loses bytes of its log, which is said;
// it never loses its exit status.
func TestMachineDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	full, room := w.addFull()
	full()
	id := w.submit(api.JobSpec{Cmd: w.marked("echo before; cat /dev/zero > ~/fill 2>/dev/null; " +
		"head -c 1000000 /dev/zero; exit 6")})
	j := w.ended(id, "failed", "exited")
	if code, _ := j.ExitCode.Get(); code != 6 {
		t.Errorf("it exited with %d", code)
	}
	if dropped := j.Attempts[0].LogDropped; dropped == 0 ||
		!strings.HasPrefix(read(t, j.Log), "before\n") {
		t.Errorf("%d bytes of the log are said to be missing", dropped)
	}
	// A machine without any room starts nothing, and says why.
	id = w.submit(api.JobSpec{Cmd: w.marked("echo it runs")})
	eventually(t, "the job can't start, or could", func() bool {
		return len(w.job(id).Attempts) > 0 && w.job(id).Attempts[0].Outcome != "running"
	})
	room()
	if j := w.wait(id); j.Status != "done" || w.began(id, j.Attempt) != 1 {
		t.Errorf("the next job is %s: %s", j.Status, j.Error)
	}
}

// addFull adds a machine whose disk a job can fill, from the call of full to that of room. Where
// nothing may be mounted, it is the size of each file that comes to an end.
func (w *world) addFull() (full, room func()) {
	if mayMount(w.t) {
		m := w.add(withHome(func(home string) { small(w.t, home, "size=64m,mode=700") }))
		return func() {}, func() { must(w.t, os.Remove(filepath.Join(m.Home, "fill"))) }
	}
	limit, shell := filepath.Join(w.dir, "limit"), filepath.Join(w.dir, "limited")
	write(w.t, limit, "unlimited", 0o600)
	write(w.t, shell, fmt.Sprintf("#!/bin/sh\nulimit -f $(cat %s)\nexec /bin/sh \"$@\"\n", limit),
		0o700)
	m := w.add(withSSH(sshtest.Shell(shell)))
	set := func(blocks string) {
		write(w.t, limit, blocks, 0o600)
		_, err := m.KillSessions()
		must(w.t, err)
		w.link(m, "away")
		w.link(m, "connected")
	}
	return func() { set("100") }, func() { set("unlimited") }
}

// TestNoExec: a home that is mounted noexec is passed over, and one that is read-only too.
func TestNoExec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stop()
	// a program of its own, which no other machine finds in /var/tmp
	program := read(t, w.Binary) + "\n"
	w.Binary = filepath.Join(w.dir, "jobserver")
	write(t, w.Binary, program, 0o755)
	w.start()
	fallback := fmt.Sprintf("/var/tmp/jobserver-%d", os.Getuid())
	// Others may use it too: only what is ours goes.
	binary := sha256.Sum256([]byte(program))
	server := strings.TrimSpace(read(t, filepath.Join(w.StateDir, "server-id")))
	t.Cleanup(func() {
		os.RemoveAll(filepath.Join(fallback, "runs", server))
		os.Remove(filepath.Join(fallback, "bin", "jobserver-"+hex.EncodeToString(binary[:])))
	})
	homes := map[string]func(home string){
		"read-only": func(home string) {
			must(t, os.MkdirAll(home, 0o700))
			must(t, os.Chmod(home, 0o500))
		},
	}
	if mayMount(t) {
		homes = map[string]func(home string){
			"read-only": func(home string) { small(t, home, "size=1m,ro") },
			"noexec":    func(home string) { small(t, home, "size=64m,noexec") },
		}
	}
	for what, prepare := range homes {
		m := w.add(withHome(prepare), notInPool)
		call[api.Empty](w, "AddMachines",
			&api.AddMachinesArgs{Addrs: []string{m.alias}, Class: m.alias})
		w.link(m, "connected")
		if root := w.machine(m).Root; root != fallback {
			t.Errorf("with a home that is %s, runs are in %s", what, root)
		}
		w.ended(w.submit(api.JobSpec{Class: m.alias, Cmd: w.marked("true")}), "done", "exited")
	}
}

// TestHostDiskFull fills the disk of the state: running jobs end durably, new ones are refused, and
// all goes on when there is space. Where nothing may be mounted, the disk has less than is to be
// left free on it.
func TestHostDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stop()
	usual, mounted := w.Args, mayMount(t)
	if mounted {
		must(t, os.RemoveAll(w.StateDir))
		small(t, w.StateDir, "size=96m,mode=700")
		usual = append(slices.Clone(w.Args), "--min-free", "32M")
	}
	w.Args = usual
	w.start()
	w.add(slots(2))
	g := w.gate("full")
	runs, silent := w.submit(api.JobSpec{Cmd: w.marked(g.wait() + "; echo the end; exit 3")}),
		w.submit(api.JobSpec{Cmd: w.marked(g.wait() + "; exit 4")})
	w.running(runs)
	w.running(silent)
	fill := filepath.Join(w.StateDir, "fill")
	if mounted {
		_ = exec.Command("sh", "-c", "cat /dev/zero > "+fill).Run() // until there is no room
	} else {
		w.Args = append(slices.Clone(usual), "--min-free", "1000000T")
		w.restart()
	}
	var err error
	eventually(t, "new work is refused", func() bool {
		_, err = try[api.AddJobsReply](w, "AddJobs",
			&api.AddJobsArgs{Jobs: []api.JobSpec{{Class: "x", Cmd: "true"}}})
		return api.KindOf(err) == api.Full
	})
	g.open(t)
	w.ended(silent, "failed", "exited") // the other's log may have to wait
	w.kill()                            // what it knows is on the disk, full as that is
	w.start()
	w.ended(silent, "failed", "exited")
	if mounted {
		must(t, os.Remove(fill))
	} else {
		w.Args = usual
		w.restart()
	}
	j := w.ended(runs, "failed", "exited")
	if code, _ := j.ExitCode.Get(); code != 3 || read(t, j.Log) != "the end\n" {
		t.Errorf("it exited with %d and printed %q", code, read(t, j.Log))
	}
	var id uint64
	eventually(t, "new work is taken again", func() bool {
		reply, err := try[api.AddJobsReply](w, "AddJobs",
			&api.AddJobsArgs{Jobs: []api.JobSpec{{Class: "x", Cmd: w.marked("true")}}})
		if err == nil {
			id = reply.JIDs[0]
		}
		return err == nil
	})
	w.ended(id, "done", "exited")
	w.cleanEnd()
}
