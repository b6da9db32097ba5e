package torture_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/api"
	"jobserver/daemontest"
)

// small mounts a small file system of its own at dir. It needs root, as everything does that fills a disk.
func small(t testing.TB, dir, options string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may mount: run it as root")
	}
	must(t, os.MkdirAll(dir, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
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

// TestMachineDiskFull: a job that fills its machine's disk loses bytes of its log, which is said; it never loses its exit status.
func TestMachineDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.add(withHome(func(home string) { small(t, home, "size=64m,mode=700") }))
	id := w.submit(api.JobSpec{Cmd: w.marked("echo before; cat /dev/zero > ~/fill 2>/dev/null; head -c 1000000 /dev/zero; exit 6")})
	j := w.ended(id, "failed", "exited")
	if code, _ := j.ExitCode.Get(); code != 6 {
		t.Errorf("it exited with %d", code)
	}
	if dropped := j.Attempts[0].LogDropped; dropped == 0 || !strings.HasPrefix(read(t, j.Log), "before\n") {
		t.Errorf("%d bytes of the log are said to be missing", dropped)
	}
	// A machine without any room starts nothing, and says why.
	id = w.submit(api.JobSpec{Cmd: w.marked("echo it runs")})
	eventually(t, "the job can't start, or could", func() bool { return len(w.job(id).Attempts) > 0 && w.job(id).Attempts[0].Outcome != "running" })
	must(t, os.Remove(filepath.Join(m.Home, "fill")))
	if j := w.wait(id); j.Status != "done" || w.began(id, j.Attempt) != 1 {
		t.Errorf("the next job is %s: %s", j.Status, j.Error)
	}
}

// TestNoExec: a home that is mounted noexec is passed over, and one that is read-only too.
func TestNoExec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stop()
	program := read(t, w.Binary) + "\n" // a program of its own, which no other machine finds in /var/tmp
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
	for _, options := range []string{"size=64m,noexec", "size=1m,ro"} {
		m := w.add(withHome(func(home string) { small(t, home, options) }), notInPool)
		call[api.Empty](w, "AddMachines", &api.AddMachinesArgs{Addrs: []string{m.alias}, Class: m.alias})
		w.link(m, "connected")
		if root := w.machine(m).Root; root != fallback {
			t.Errorf("with a home that is %s, runs are in %s", options, root)
		}
		w.ended(w.submit(api.JobSpec{Class: m.alias, Cmd: w.marked("true")}), "done", "exited")
	}
}

// TestHostDiskFull fills the disk of the state: running jobs end durably, new ones are refused, and all goes on when there is space.
func TestHostDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stop()
	must(t, os.RemoveAll(w.StateDir))
	small(t, w.StateDir, "size=96m,mode=700")
	w.Daemon = &daemontest.Daemon{Binary: w.Binary, StateDir: w.StateDir, Args: append(w.Args, "--min-free", "32M")}
	w.start()
	w.add(slots(2))
	g := w.gate("full")
	runs := w.submit(api.JobSpec{Cmd: w.marked(g.wait() + "; echo the end; exit 3")})
	w.running(runs)
	fill := filepath.Join(w.StateDir, "fill")
	_ = exec.Command("sh", "-c", "cat /dev/zero > "+fill).Run() // until there is no room
	var err error
	eventually(t, "new work is refused", func() bool {
		_, err = try[api.AddJobsReply](w, "AddJobs", &api.AddJobsArgs{Jobs: []api.JobSpec{{Class: "x", Cmd: "true"}}})
		return api.KindOf(err) == api.Full
	})
	g.open(t)
	eventually(t, "the job has ended on its machine", func() bool { return len(w.machines[0].runs(t)) > 0 })
	w.kill() // what it knows is on the disk, full as that is
	w.start()
	must(t, os.Remove(fill))
	j := w.ended(runs, "failed", "exited")
	if code, _ := j.ExitCode.Get(); code != 3 || read(t, j.Log) != "the end\n" {
		t.Errorf("it exited with %d and printed %q", code, read(t, j.Log))
	}
	var id uint64
	eventually(t, "new work is taken again", func() bool {
		reply, err := try[api.AddJobsReply](w, "AddJobs", &api.AddJobsArgs{Jobs: []api.JobSpec{{Class: "x", Cmd: w.marked("true")}}})
		if err == nil {
			id = reply.JIDs[0]
		}
		return err == nil
	})
	w.ended(id, "done", "exited")
	w.cleanEnd()
}
