package sshtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
)

// emulators are qemu-user's, and the processor's number in the programs that they run (e_machine).
var emulators = map[string]struct {
	program string
	number  byte
}{
	"arm64":   {"qemu-aarch64", 0xb7},
	"riscv64": {"qemu-riscv64", 0xf3},
}

// entries numbers those of this process.
var entries atomic.Int32

// Emulator is the program that runs programs for a processor on this host.
func Emulator(t testing.TB, goarch string) string {
	t.Helper()
	path, err := exec.LookPath(emulators[goarch].program)
	if err != nil {
		t.Fatalf("%v: install qemu-user", err)
	}
	return path
}

// Emulate lets this host run programs for a processor while the test lasts, and tells whether its
// kernel allows that. Several tests may do so at once: each has an entry, and a mount, of its own.
func Emulate(t testing.TB, goarch string) bool {
	t.Helper()
	if goarch == runtime.GOARCH {
		return true
	}
	emulator := Emulator(t, goarch)
	if os.Geteuid() != 0 {
		return false
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "binfmt_misc", "none", dir).
		CombinedOutput(); err != nil {
		t.Logf("%v: %s", err, out)
		return false
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	// The first bytes of its programs, and which of their bits count.
	name := fmt.Sprintf("jobserver-%s-%d-%d", goarch, os.Getpid(), entries.Add(1))
	entry := fmt.Sprintf(`:%s:M::`+
		`\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x%02x\x00:`+
		`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:%s:`,
		name, emulators[goarch].number, emulator)
	if err := os.WriteFile(filepath.Join(dir, "register"), []byte(entry), 0o200); err != nil {
		t.Log(err)
		return false
	}
	t.Cleanup(func() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("-1"), 0o200); err != nil {
			t.Error(err)
		}
	})
	return true
}
