package server

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"jobserver/cli"

	"golang.org/x/sys/unix"
)

// TestSecretPromptInterrupted ends with the interruption, not
// with the next line, and leaves the terminal with its echo.
func TestSecretPromptInterrupted(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	check(err)
	check(unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	check(err)
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	check(err)
	defer slave.Close()
	defer master.Close() // which ends the read that goes on
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	check(err)

	ctx, cancel := context.WithCancel(t.Context())
	// Interrupted is who already reads: when the echo is off.
	go func() {
		defer cancel()
		for echo := true; echo; runtime.Gosched() {
			now, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			echo = err == nil && now.Lflag&unix.ECHO != 0
		}
	}()
	var shown bytes.Buffer
	e := &cli.Env{Stdin: slave, Stderr: &shown}
	if _, err := readSecret(ctx, e, "value: "); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	check(err)
	if *after != *before {
		t.Errorf("the terminal is left in %+v, was in %+v", *after, *before)
	}
	if shown.String() != "value: \n" {
		t.Errorf("shown: %q", shown.String())
	}
}
