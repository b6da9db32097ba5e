package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// runOnTerminal is the script command `tty CODE INPUT PROGRAM ARG…`: the program runs on a terminal
// of its own of 60 columns, on which INPUT, a line, is typed; of ^C the key, once a question is
// asked. What the terminal shows is then in the file "tty", and CODE is the exit code that it has
// to have.
func runOnTerminal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: tty code input program args…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	master, slave := openTerminal(ts)
	defer master.Close()

	program, err := exec.LookPath(args[2])
	ts.Check(err)
	cmd := exec.Command(program, args[3:]...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"HOME", "PATH", "XDG_CONFIG_HOME", "NO_COLOR", "CLICOLOR_FORCE"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	ts.Check(slave.Close())
	shown := typeAndRead(ts, master, args[1])
	got := 0
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Check(err)
		}
		got = exit.ExitCode()
	}
	text := strings.ReplaceAll(shown, "\r\n", "\n")
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("WORK"), "tty"), []byte(text), 0o600))
	if got != want {
		ts.Fatalf("exit code %d, want %d; the terminal shows:\n%s", got, want, text)
	}
}

// typeAndRead types, and returns all that the terminal shows until nobody has it open.
func typeAndRead(ts *testscript.TestScript, master *os.File, input string) string {
	var shown bytes.Buffer
	if input == "^C" {
		input = "\x03"
		for b := make([]byte, 1024); !bytes.HasSuffix(shown.Bytes(), []byte("[y/N] ")); {
			n, err := master.Read(b)
			shown.Write(b[:n])
			if err != nil {
				ts.Fatalf("no question was asked: %v\n%s", err, shown.String())
			}
		}
	} else {
		input += "\n"
	}
	_, err := master.WriteString(input)
	ts.Check(err)
	if _, err := io.Copy(&shown, master); err != nil && !errors.Is(err, syscall.EIO) {
		// EIO: nobody has it open
		ts.Check(err)
	}
	return shown.String()
}

// openTerminal makes a pseudo-terminal of 60 columns.
func openTerminal(ts *testscript.TestScript) (master, slave *os.File) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	ts.Check(err)
	fd := int(master.Fd())
	ts.Check(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	ts.Check(err)
	ts.Check(unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60}))
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	ts.Check(err)
	return master, slave
}
