package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/ssh"
	"jobserver/ssh/sshtest"
)

// hostService is a daemon that only answers pings.
type hostService struct{}

// Ping answers.
func (hostService) Ping(_ *api.Empty, reply *api.Status) error {
	reply.Version = "of the other host"
	return nil
}

// AddJobs takes any, and keeps where its results go.
func (hostService) AddJobs(args *api.AddJobsArgs, reply *api.AddJobsReply) error {
	path := args.Jobs[0].CpPath
	if path == "/no/such" {
		return api.Errorf(api.Invalid,
			"CP_PATH can't be written: /no/such: no such file or directory")
	}
	return api.Errorf(api.Invalid, "it would go to %q", path)
}

// TestHost reaches a daemon through a real sshd: at the place where the other host's own
// environment has it, and at one that is named; by our own connection, and with the system's ssh
// where the configuration needs that.
func TestHost(t *testing.T) {
	machine := sshtest.Start(t, sshtest.Named("lab"))
	// ProxyCommand is for OpenSSH alone.
	proxied := sshtest.Start(t, sshtest.Named("far"), sshtest.Shared(machine.Client),
		sshtest.ClientConfig("ProxyCommand ssh -F "+machine.ConfigFile+" -W %h:%p lab"))
	for _, m := range []*sshtest.Machine{machine, proxied} {
		serveHost(t, filepath.Join(m.Home, ".local", "state", "jobserver", "socket"))
	}
	// One whose key nobody has recorded, and one whose key is another's.
	stranger := sshtest.Start(t, sshtest.Named("stranger"))
	changed := sshtest.Start(t, sshtest.Named("changed"))
	key, err := os.ReadFile(machine.HostKeyFile("ed25519") + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*sshtest.Machine{stranger, changed} {
		if err := machine.AddHost(m.Name, m.User, m.Host, m.Port); err != nil {
			t.Fatal(err)
		}
	}
	if err := machine.Know(changed.Host, changed.Port, string(key)); err != nil {
		t.Fatal(err)
	}
	// One whose login runs no commands.
	mute := sshtest.Start(t, sshtest.Named("mute"), sshtest.Shared(machine.Client),
		sshtest.Shell("/bin/false"))
	serveHost(t, filepath.Join(mute.Home, ".local", "state", "jobserver", "socket"))
	named := filepath.Join(t.TempDir(), "s")
	serveHost(t, named)
	quoted := filepath.Join(t.TempDir(), `it's-$HOME`, "s")
	serveHost(t, quoted)
	linked := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(named, linked); err != nil {
		t.Fatal(err)
	}
	// A place where others may put a socket of theirs.
	open := filepath.Join(t.TempDir(), "open", "d", "s")
	serveHost(t, open)
	if err := os.Chmod(filepath.Dir(filepath.Dir(open)), 0o777); err != nil {
		t.Fatal(err)
	}

	foreign := filepath.Join(t.TempDir(), "s")
	serveHost(t, foreign)
	code, whose := 0, "OK"
	if os.Geteuid() == 0 { // else nobody can give it away
		if err := os.Lchown(foreign, 12345, -1); err != nil {
			t.Fatal(err)
		}
		code, whose = cli.ExitFailed, "the socket is user 12345's, and you are user 0 there"
	}

	s := newSession(t)
	s.env.Dial = nil
	s.env.SSH = ssh.Options{ConfigFile: machine.ConfigFile}
	for _, test := range []struct {
		line string
		code int
		want string // in stdout or stderr
	}{
		{"--host lab ping", 0, "OK"},
		{"--host lab --socket " + named + " ping", 0, "OK"},
		{"--host lab --socket " + quoted + " ping", 0, "OK"},
		{"--host lab --socket " + linked + " ping", 0, "OK"},
		{"--host far --socket " + named + " ping", 0, "OK"},
		{"--host lab --socket " + open + " ping", cli.ExitFailed,
			"everybody may put another one there"},
		{"--host lab --socket " + foreign + " ping", code, whose},
		{"--host mute --socket " + named + " ping", cli.ExitFailed, "--trust-socket"},
		{"--host mute --trust-socket --socket " + named + " ping", 0, "OK"},
		{"--host mute --trust-socket ping", cli.ExitUnavailable, "no answer that makes sense"},
		{"--host lab --trust-socket --socket " + open + " ping", cli.ExitFailed,
			"everybody may put another one there"},
		{"--host lab --socket " + filepath.Dir(named) + " ping", cli.ExitUnavailable,
			"is no socket"},
		{"--host lab --socket /no/where ping", cli.ExitUnavailable, "is it running there?"},
		{"--host nosuch.invalid ping", cli.ExitUnavailable, "nosuch.invalid"},
		{"--host far ping", 0, "OK"},
		{"--host stranger ping", cli.ExitUnavailable,
			"compare the fingerprint, and have it recorded: ssh stranger"},
		{"--host changed ping", cli.ExitUnavailable, "ssh-keygen -R"},
		{"--host lab add foo true res", cli.ExitUsage, `it would go to "~/res" (on lab)`},
		{"--host lab add foo true res", cli.ExitUsage, "the results will be in ~/res on lab"},
		{"--host lab add foo true ~/res", cli.ExitUsage, `it would go to "~/res" (on lab)`},
		{"--host lab add foo true /res", cli.ExitUsage, `it would go to "/res" (on lab)`},
		{"--host lab add foo true {TAG}/res", cli.ExitUsage,
			`it would go to "~/{TAG}/res" (on lab)`},
		{"--host lab add foo true /no/such", cli.ExitUsage,
			"/no/such: no such file or directory (on lab)"},
		{"--host lab matrix add foo true res A=1", cli.ExitIncompatible,
			"the results will be in ~/res on lab"},
	} {
		if got := s.run(strings.Fields(test.line)...); got != test.code ||
			!strings.Contains(s.stdout.String()+s.stderr.String(), test.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", test.line, got, s.stdout.String(),
				s.stderr.String())
		}
	}
}

// serveHost serves at the socket until the end of the test.
func serveHost(t *testing.T, socket string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- api.Serve(ctx, listener, api.ServerOptions{
			Hello: api.HelloReply{Version: "test", StateDir: filepath.Dir(socket)},
			Register: func(context.Context, api.Peer) []api.Method {
				return []api.Method{api.Handle("Ping", hostService{}.Ping),
					api.Handle("AddJobs", hostService{}.AddJobs)}
			},
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the daemon doesn't end")
		}
	})
}

// hostileWords are what nobody may see raw.
const hostileWords = "\x1b]0;mine\a\x1b[2J\u202e"

// says takes a channel, and says the same to every command once it has said that it starts it, once
// or without end.
func says(text string, forever bool) func(*xssh.ServerConn, xssh.NewChannel) {
	return func(_ *xssh.ServerConn, c xssh.NewChannel) {
		ch, reqs, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			if c.ChannelType() == "session" {
				if r := <-reqs; r != nil {
					_ = r.Reply(true, nil) // the client may be gone
				}
			}
			go xssh.DiscardRequests(reqs)
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
	for _, tt := range []struct {
		name  string
		there handler
		want  string
	}{
		{"no channel", silent, "no answer within"},
		{"no channel, with words", refuses, "the machine refuses: ␛]0;mine"},
		{"no answer", deaf, "no answer within"},
		{"no end", says("motd\n", true), "no answer that makes sense"},
		{"escapes", says(hostileWords+"\n", false), "no answer that makes sense"},
		{"a path of escapes", says("JOBSERVER /"+hostileWords+"\n", false),
			"the login there doesn't say who it is"},
		{"a long path", says("JOBSERVER /"+strings.Repeat("x", 60000)+"\n", false),
			"no answer that makes sense"},
		{"a path, and no more", says("JOBSERVER /run/s\n", false),
			"the login there doesn't say who it is"},
		{"a relative path", says("JOBSERVER s\n", false), "no answer that makes sense"},
		{"no socket", afterwards(silent), "no answer within"},
		{"no socket, with words", afterwards(refuses),
			"nothing listens there, or sshd forbids it"},
		{"a deaf socket", afterwards(deaf), "didn't answer within"},
		{"a socket that ends", afterwards(says("", false)),
			"before the daemon said hello"},
		{"a socket of zeros", afterwards(says(strings.Repeat("\x00", 1000), true)),
			"before the daemon said hello"},
		{"a hello of 4 GB", afterwards(says("\xff\xff\xff\xff"+hostileWords, true)),
			"what answers is no daemon"},
		{"a hello of words", afterwards(says("\x00\x00\x00\x10"+hostileWords, true)),
			"before the daemon said hello"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			alias, client := sshtest.Fake(t, tt.there)
			s := newSession(t)
			s.env.Dial = nil
			s.env.SSH = ssh.Options{ConfigFile: client.ConfigFile, DialTimeout: time.Minute}
			s.env.HostAnswers = time.Minute
			if strings.Contains(tt.want, "answer within") {
				s.env.HostAnswers = 200 * time.Millisecond
			}
			code := s.run("--host", alias, "ping")
			out := s.stdout.String() + s.stderr.String()
			if code == 0 || !strings.Contains(out, tt.want) || len(out) > 4<<10 ||
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
