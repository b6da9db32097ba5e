package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMemory: where groups can be made, who takes more memory than it may is ended as a whole, and
// nobody else is; where they can't, that is said, and nothing is promised.
func TestMemory(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	why := tryGroups()
	facts, err := c.Facts(m.ctx())
	must(t, err)
	if facts.LimitsMemory != (why == nil) {
		t.Fatalf("the machine says %v, and groups: %v", facts.LimitsMemory, why)
	}
	// dd has one block of that size in memory, the shell beside it little.
	s := m.command("echo up; dd if=/dev/zero of=/dev/null bs=100M count=1; echo $?; echo over")
	s.Memory = 32 << 20
	r := startResult(t, c, s)
	if why != nil {
		if r.Status != StartFailed || !strings.Contains(r.Reason, "limit its memory") {
			t.Errorf("without groups (%v) it is started: %+v", why, r)
		}
		return
	}
	must(t, r.Err())
	e := follow(t, c, s.Run)
	if e.exit == nil || !e.exit.OOM || e.exit.Signal != int(unix.SIGKILL) ||
		string(e.out) != "up\n" {
		t.Errorf("%+v, %q, %q", e.exit, e.out, e.err)
	}
	within := m.command("cat /proc/self/cgroup; dd if=/dev/zero of=/dev/null bs=8M count=1; " +
		"(setsid sleep 1000 &) ; echo over")
	within.Memory = 64 << 20
	start(t, c, within)
	e = follow(t, c, within.Run)
	if e.exit == nil || e.exit.OOM || e.exit.Code != 0 || !strings.Contains(string(e.out),
		"/"+groupsName+"/") || !strings.HasSuffix(string(e.out), "over\n") {
		t.Errorf("%+v, %q", e.exit, e.out)
	}
	// A supervisor that dies leaves its group, which goes with the run's directory.
	lost := m.command("echo up; sleep 1000")
	lost.Memory = 64 << 20
	start(t, c, lost)
	awaitOutput(t, c, lost.Run, "up")
	killSupervisor(t, m, lost.Run)
	follow(t, c, lost.Run)
	must(t, c.Forget(m.ctx(), []RunID{lost.Run}, false))
	for _, run := range []RunID{s.Run, within.Run, lost.Run} {
		if _, err := os.Stat(groupOf(run)); err == nil {
			t.Errorf("the group of %s is still there", run.Name())
		}
	}
}

// TestGroupMount finds groups of version 2 among what is mounted, if they know of memory.
func TestGroupMount(t *testing.T) {
	both, only := t.TempDir(), t.TempDir()
	for dir, controllers := range map[string]string{both: "cpu memory pids\n", only: "hugetlb\n"} {
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte(controllers), 0o644))
	}
	for _, tt := range []struct{ mounts, want string }{
		{"30 24 0:26 / " + both + " rw,nosuid - cgroup2 cgroup2 rw\n", both},
		{"30 24 0:26 / " + only + " rw shared:4 - cgroup2 cgroup2 rw\n", ""},
		{"29 24 0:26 / " + only + " rw - cgroup2 x rw\n30 24 0:26 / " + both +
			" rw,relatime shared:9 - cgroup2 cgroup rw,nsdelegate\n", both},
		{"30 24 0:26 / " + both + " rw - cgroup cgroup rw,memory\n", ""},
		{"nonsense\n", ""},
		{"", ""},
	} {
		if got := groupMount([]byte(tt.mounts)); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.mounts, got, tt.want)
		}
	}
}

// TestUnlimitedWords: what is said where groups can't be made.
func TestUnlimitedWords(t *testing.T) {
	write := func(no unix.Errno) error {
		return &os.PathError{Op: "write", Path: "/sys/fs/cgroup/cgroup.subtree_control", Err: no}
	}
	for _, tt := range []struct {
		err  error
		root bool
		want string // part of what is said
	}{
		{nil, true, ""},
		{write(unix.EACCES), false, "made by root alone"},
		{write(unix.EROFS), false, "made by root alone"},
		{write(unix.EROFS), true, "read-only, as in a container"},
		{write(unix.EBUSY), true, "processes of its own, as in a container"},
		{write(unix.EACCES), true, "write /sys/fs/cgroup/cgroup.subtree_control: permission"},
		{write(unix.ENOSPC), true, "no space left"},
	} {
		got := unlimitedWords(tt.err, tt.root)
		if !strings.Contains(got, tt.want) || (got == "") != (tt.err == nil) {
			t.Errorf("%v, root %v: %q, want %q", tt.err, tt.root, got, tt.want)
		}
	}
}
