package ssh

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"jobserver/ssh/sshtest"
)

// forwardVar has the test program connect to a socket of a machine through the system's ssh, say
// so, and wait for its end: CONFIG ALIAS SOCKET.
const forwardVar = "JOBSERVER_SSH_TEST_FORWARD"

func forward(what string) int {
	words := strings.Fields(what)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGUSR1)
	defer stop()
	c, err := NewDialer(Options{ConfigFile: words[0], OpenSSH: true}).Dial(ctx, words[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	conn, err := c.DialUnix(ctx, words[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	fmt.Println("connected")
	<-ctx.Done()
	return 0
}

// TestNothingIsLeft: however a program ends that reaches a socket through the system's ssh, that
// ssh and its ProxyCommand end with it.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(p *os.Process) error{
		"killed":  func(p *os.Process) error { return p.Kill() },
		"hung up": func(p *os.Process) error { return p.Signal(syscall.SIGHUP) },
		"told to": func(p *os.Process) error { return p.Signal(syscall.SIGTERM) },
		"ends":    func(p *os.Process) error { return p.Signal(syscall.SIGUSR1) },
		"ctrl-C":  func(p *os.Process) error { return p.Signal(syscall.SIGINT) },
		"core":    func(p *os.Process) error { return p.Signal(syscall.SIGQUIT) },
	} {
		t.Run(name, func(t *testing.T) {
			m := sshtest.Start(t)
			// Whoever holds the writing end of the FIFO lives: the proxy, which ignores what would
			// end it, and its ssh.
			alive := t.TempDir() + "/alive"
			if err := syscall.Mkfifo(alive, 0o600); err != nil {
				t.Fatal(err)
			}
			script := t.TempDir() + "/proxy"
			write(t, script, "#!/bin/sh\nexec 9<>"+alive+"\ntrap '' HUP TERM INT\n"+
				fmt.Sprintf("%s=%s:%d %s\n", relayVar, m.Host, m.Port, program))
			if err := os.Chmod(script, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := m.AddHost("far", m.User, m.Host, m.Port, "ProxyCommand "+script); err != nil {
				t.Fatal(err)
			}
			socket := listenUnix(t)
			// Whoever runs the tests may have ignored signals, as nohup does.
			cmd := exec.Command("env", "--default-signal", program)
			cmd.Env = append(os.Environ(), forwardVar+"="+m.ConfigFile+" far "+socket)
			cmd.Stderr = io.Discard
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if line != "connected\n" {
				t.Fatalf("it says %q, %v", line, err)
			}
			held, err := os.Open(alive)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			if err := end(cmd.Process); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if _, err := io.ReadAll(held); err != nil { // to the end of the last that holds it
				t.Fatal(err)
			}
		})
	}
}

// listenUnix accepts connections at a socket, and keeps them.
func listenUnix(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "unix") // t.TempDir's names may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		os.RemoveAll(dir)
	})
	return dir + "/s"
}
