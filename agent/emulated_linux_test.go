package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onEachKernel runs a test on machines with Linux, and with an emulated kernel.
func onEachKernel(t *testing.T, test func(t *testing.T, m *machine)) {
	t.Run("Linux", func(t *testing.T) { test(t, newMachine(t)) })
	t.Run("emulated", func(t *testing.T) {
		m := newMachine(t)
		m.exe = filepath.Join(t.TempDir(), "agent")
		self, err := os.Executable()
		must(t, err)
		must(t, os.WriteFile(m.exe, fmt.Appendf(nil,
			"#!/bin/sh\nexec %s helper emulated \"$@\"\n", self), 0o755))
		test(t, m)
	})
}

// emulated becomes the program that is given words, on a kernel that doesn't know what qemu-user's
// doesn't: what it starts has that kernel, too (seccomp(2)).
func emulated(words []string) int {
	runtime.LockOSThread()
	const number, argument = 0, 16 // offsets in struct seccomp_data, of a little-endian machine
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(test uint16, value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: value, Jf: skip}
	}
	answer := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	filter := []unix.SockFilter{
		load(number), unless(unix.BPF_JEQ, unix.SYS_PRCTL, 3),
		load(argument), unless(unix.BPF_JEQ, unix.PR_SET_CHILD_SUBREAPER, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)),
		load(number), unless(unix.BPF_JEQ, unix.SYS_CLONE, 3),
		load(argument), unless(unix.BPF_JSET, unix.CLONE_PIDFD, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)),
		answer(unix.SECCOMP_RET_ALLOW),
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
			unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
		if errno == 0 {
			errno = syscall.Exec("/proc/self/exe", append([]string{"jobserver"}, words...),
				os.Environ()).(syscall.Errno)
		}
		err = errno
	}
	fmt.Fprintln(os.Stderr, "emulate a kernel:", err)
	return 2
}

// TestEscapes: a run that is ended takes all with it that got away from its processes' tree, and
// says how many had to be killed.
func TestEscapes(t *testing.T) {
	onEachKernel(t, func(t *testing.T, m *machine) {
		c := m.connect()
		if got, want := c.Machine().NoSubreaper, m.exe != "/proc/self/exe"; got != want {
			t.Fatalf("the machine says of subreapers that it has none: %v", got)
		}
		pids := filepath.Join(m.login, "pids")
		s := m.command(escapes, pids)
		id := start(t, c, s)
		awaitOutput(t, c, id, "ready")
		steer(t, m, c, id, Control{SetPause: true, Pause: true})
		awaitPause(t, m, c, id, 1)
		for _, pid := range livingOf(t, pids) {
			if p, ok := readStat(pid); !ok || p.state != 'T' {
				t.Errorf("process %d is %c while the run is paused", pid, p.state)
			}
		}
		must(t, c.Control(m.ctx(), id, Control{Cancel: true, Grace: -1}))
		e := follow(t, c, id)
		if e.exit == nil || e.exit.Cause != Canceled || e.exit.Killed < 3 || e.exit.Left != 0 {
			t.Errorf("%v, %+v", e.state, e.exit)
		}
		if living := livingOf(t, pids); len(living) > 0 {
			t.Errorf("processes %v live", living)
		}
		// The next run has the same supervisor, and nothing of this one.
		again := m.command("(sleep 0.01; echo late) & echo early")
		start(t, c, again)
		if e := follow(t, c, again.Run); string(e.out) != "early\nlate\n" || e.exit.Killed != 0 {
			t.Errorf("another run: %q, %+v", e.out, e.exit)
		}
	})
}
