package main

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"jobserver/cli"
	"jobserver/ssh"
	"jobserver/ssh/sshtest"
)

// hostileWords are what nobody may see raw.
const hostileWords = "\x1b]0;mine\a\x1b[2J\u202e"

// says takes a channel, and says the same to every command, once or without end.
func says(text string, forever bool) func(*xssh.ServerConn, xssh.NewChannel) {
	return func(_ *xssh.ServerConn, c xssh.NewChannel) {
		ch, reqs, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range reqs {
				_ = r.Reply(true, nil) // the client may be gone
			}
		}()
		go func() {
			for _, err := io.WriteString(ch, text); forever && err == nil; {
				_, err = io.WriteString(ch, text)
			}
			ch.Close()
		}()
	}
}

// TestHostileHost: a host that is reached with --host may say nothing, too much, or nonsense, at
// each step; the command ends by itself, says so, and nothing of it reaches the terminal raw.
func TestHostileHost(t *testing.T) {
	t.Parallel()
	type handler = func(*xssh.ServerConn, xssh.NewChannel)
	silent := func(*xssh.ServerConn, xssh.NewChannel) {}
	deaf := func(_ *xssh.ServerConn, c xssh.NewChannel) {
		_, _, _ = c.Accept() // and answers nothing
	}
	refuses := func(_ *xssh.ServerConn, c xssh.NewChannel) {
		_ = c.Reject(xssh.Prohibited, hostileWords)
	}
	// afterwards answers the question for the socket, and does the rest with the channel to it.
	afterwards := func(then handler) handler {
		return func(conn *xssh.ServerConn, c xssh.NewChannel) {
			if c.ChannelType() == "session" {
				says("JOBSERVER /run/s\nUSER 0\nREAL /run/s\nSOCKET srw------- 1 0 0 0 /run/s\n"+
					"DIR drwxr-xr-x 1 0 0 0 /run/\nDIR drwxr-xr-x 1 0 0 0 /\n", false)(conn, c)
			} else {
				then(conn, c)
			}
		}
	}
	for name, channel := range map[string]handler{
		"no channel":             silent,
		"no channel, with words": refuses,
		"no answer":              deaf,
		"no end":                 says("motd\n", true),
		"escapes":                says(hostileWords+"\n", false),
		"a path of escapes":      says("JOBSERVER /"+hostileWords+"\n", false),
		"a long path":            says("JOBSERVER /"+strings.Repeat("x", 60000)+"\n", false),
		"a path, and no more":    says("JOBSERVER /run/s\n", false),
		"a relative path":        says("JOBSERVER s\n", false),
		"no socket":              afterwards(silent),
		"no socket, with words":  afterwards(refuses),
		"a deaf socket":          afterwards(deaf),
		"a socket that ends":     afterwards(says("", false)),
		"a socket of zeros":      afterwards(says(strings.Repeat("\x00", 1000), true)),
		"a hello of 4 GB":        afterwards(says("\xff\xff\xff\xff"+hostileWords, true)),
		"a hello of words":       afterwards(says("\x00\x00\x00\x10"+hostileWords, true)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			alias, client := sshtest.Fake(t, channel)
			s := newSession(t)
			s.env.Dial = nil
			s.env.SSH = ssh.Options{ConfigFile: client.ConfigFile, DialTimeout: time.Minute}
			s.env.HostAnswers = 200 * time.Millisecond
			code := s.run("--host", alias, "ping")
			out := s.stdout.String() + s.stderr.String()
			if code != cli.ExitUnavailable && code != cli.ExitIncompatible || len(out) > 4<<10 ||
				strings.ContainsAny(out, "\x1b\a\u202e") {
				t.Errorf("exit code %d, %d bytes: %q", code, len(out), out[:min(len(out), 1000)])
			}
		})
	}
}

// TestLyingDaemon: what is on the daemon's socket says nonsense without an end.
func TestLyingDaemon(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				junk := bytes.Repeat([]byte{0, 0, 1, 0}, 1<<10)
				for err := error(nil); err == nil; {
					_, err = c.Write(junk)
				}
			}()
		}
	}()
	s := newSession(t)
	s.env.Dial = nil
	code := s.run("--socket", socket, "ls")
	if out := s.stdout.String() + s.stderr.String(); code == 0 ||
		len(out) > 4<<10 || strings.ContainsAny(out, "\x00\x1b") {
		t.Errorf("exit code %d: %q", code, out)
	}
}
