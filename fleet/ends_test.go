package fleet

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh/sshtest"
)

// files lists what is below a directory.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != dir {
			all = append(all, strings.TrimPrefix(path, dir))
		}
		if os.IsNotExist(err) { // it is being removed
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// descriptors counts this process's open files.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestMonthOfChurn adds machines, has them run a job, and removes them, as they come and go in a
// month. Nothing is left of them: no file on the machine, no actor, goroutine or descriptor here.
func TestMonthOfChurn(t *testing.T) {
	h := newHost(t, nil)
	root := filepath.Join(h.opt.StateDir, "local")
	visit := func(i int) {
		addr := fmt.Sprintf("local:m%d", i)
		h.connected(addr)
		r := job(addr, uint64(i), "echo hello")
		h.Start(r)
		h.ends(r, "hello\n")
		h.settled(&statepb.Obligation{Run: r.Ref})
		h.Disconnect(addr)
	}
	quiet := func() { // until nobody is left
		for {
			h.Fleet.mu.Lock()
			n := len(h.machines)
			h.Fleet.mu.Unlock()
			if n == 0 {
				return
			}
			runtime.Gosched()
		}
	}
	visit(1)
	quiet()
	before, open := runtime.NumGoroutine(), descriptors(t)
	for i := range 30 {
		visit(i + 2)
	}
	quiet()
	// What is closing may take a moment: counts are compared when they don't fall any more.
	for n := runtime.NumGoroutine(); n > before; n = runtime.NumGoroutine() {
		runtime.Gosched()
	}
	for n := descriptors(t); n > open; n = descriptors(t) {
		runtime.Gosched()
	}
	for left := files(t, root); len(left) > 3; left = files(t, root) { // runs, links, begun
		runtime.Gosched()
	}
}

// TestComesBackAtOnce: a machine that is removed and added in the same moment works.
func TestComesBackAtOnce(t *testing.T) {
	h := newHost(t, nil)
	for i := range 30 {
		h.tell(func() { h.reports = nil })
		h.Connect(sched.Pool{Addr: "local:a"})
		if i%3 == 0 {
			h.connected("local:a")
		}
		h.Disconnect("local:a")
		h.Connect(sched.Pool{Addr: "local:a"})
		r := job("local:a", uint64(i+1), "echo hello")
		h.Start(r)
		h.ends(r, "hello\n")
		h.Disconnect("local:a")
	}
}

// TestOldPrograms: programs that no daemon uses, and uploads that were cut, are removed; those that
// others use or run stay.
func TestOldPrograms(t *testing.T) {
	m := sshtest.Start(t)
	root := filepath.Join(m.Home, ".local/state/jobserver")
	bin := filepath.Join(root, "bin")
	long := time.Now().Add(-time.Hour)
	put := func(name, content string) string {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, long, long); err != nil {
			t.Fatal(err)
		}
		return file
	}
	old, others := put("bin/jobserver-old", "x"), put("bin/jobserver-others", "x")
	cut, open := put("bin/.new-cut", "x"), put("bin/.new-open", "x")
	put("links/another/machine", fmt.Sprintf("%019d\njobserver-others\n", 1))
	f, err := os.Open(open)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ours := put("bin/jobserver-just-put", "x")
	if err := os.Chtimes(ours, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	month := time.Now().Add(-31 * 24 * time.Hour)
	forgotten := put("links/gone/machine", fmt.Sprintf("%019d\n", 1))
	if err := os.Chtimes(forgotten, month, month); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, m)
	h.connected(m.Name)
	for _, file := range []string{old, cut, forgotten} {
		for { // the agent is at it
			if _, err := os.Stat(file); os.IsNotExist(err) {
				break
			}
		}
	}
	for _, file := range []string{others, open, ours} {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if all, err := filepath.Glob(
		filepath.Join(bin, "jobserver-????????????????*"),
	); err != nil ||
		len(all) < 1 {
		t.Errorf("its own program is %v, %v", all, err)
	}
}
