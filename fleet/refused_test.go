package fleet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/ssh"
	"jobserver/ssh/sshtest"
)

// TestKinds: each error has its kind, wherever it stands in a chain.
func TestKinds(t *testing.T) {
	for _, test := range []struct {
		err   error
		final bool
	}{
		{&ssh.HostKeyError{}, true},
		{&ssh.AuthError{}, true},
		{&ssh.AlgorithmError{}, true},
		{&ssh.ConfigError{Err: errors.New("x")}, true},
		{&ssh.ResolveError{Err: &net.DNSError{IsNotFound: true}}, true},
		{&ssh.ResolveError{Err: &net.DNSError{IsTimeout: true}}, false},
		{&ssh.ResolveError{Err: &net.DNSError{IsTemporary: true, Err: "server misbehaving"}},
			false},
		{&ssh.ResolveError{Err: errors.New("x"), NotFound: true}, true},
		{&ssh.DialError{Err: errors.New("connection refused")}, false},
		{&ssh.LostError{Err: errors.New("EOF")}, false},
		{&ssh.ExitError{Code: 1}, false},
		{ssh.ErrTooManySessions, false},
		{&installError{Reason: "noexec"}, true},
		{&buildError{Target: "plan9/mips"}, true},
		{agent.ErrVersion, true},
		{agent.ErrNoAgent, false},
		{agent.ErrProtocol, false},
		{errors.New("no place for the agent: it is not writable"), false},
		{fmt.Errorf("dial: %w", &ssh.AuthError{}), true},
		{&agent.Error{Kind: agent.KindOther, Err: &ssh.ConfigError{Err: errors.New("x")}}, true},
		{errors.Join(errors.New("x"), &ssh.HostKeyError{}), true},
		{nil, false},
	} {
		if got := ssh.IsFinal(test.err); got != test.final {
			t.Errorf("%T %v: final %v, want %v", test.err, test.err, got, test.final)
		}
	}
}

// aDisturbance refuses logins until it is over.
type aDisturbance struct {
	begin, end func(t *testing.T, m *sshtest.Machine)
	here       bool // on this host: its end is seen at once
}

// moved takes a file away for a while.
func moved(name func(*sshtest.Machine) string, here bool) aDisturbance {
	rename := func(t *testing.T, from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	return aDisturbance{
		func(t *testing.T, m *sshtest.Machine) { rename(t, name(m), name(m)+".away") },
		func(t *testing.T, m *sshtest.Machine) { rename(t, name(m)+".away", name(m)) }, here,
	}
}

// written has another content in a file for a while.
func written(name func(*sshtest.Machine) string, content string) aDisturbance {
	var before []byte
	return aDisturbance{
		func(t *testing.T, m *sshtest.Machine) {
			var err error
			if before, err = os.ReadFile(name(m)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name(m), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		func(t *testing.T, m *sshtest.Machine) {
			if err := os.WriteFile(name(m), before, 0o600); err != nil {
				t.Fatal(err)
			}
		}, true,
	}
}

// TestRefusedForAWhile: what refuses a machine for a while is over by itself, without a word of the
// user's.
func TestRefusedForAWhile(t *testing.T) {
	config := func(m *sshtest.Machine) string { return m.ConfigFile }
	known := func(m *sshtest.Machine) string { return m.KnownHosts }
	key := func(m *sshtest.Machine) string { return m.KeyFile }
	for name, d := range map[string]aDisturbance{
		"authorized_keys missing": moved(func(m *sshtest.Machine) string {
			return m.KeyFile + ".pub"
		}, false),
		"known_hosts missing":        moved(known, true),
		"known_hosts empty":          written(known, ""),
		"key missing":                moved(key, true),
		"key is another":             written(key, "no key\n"),
		"configuration broken":       written(config, "Nonsense yes\n"),
		"configuration empty":        written(config, ""),
		"configuration beyond us":    written(config, "ProxyCommand false\n"),
		"configuration of algorithm": written(config, "Ciphers nonsense\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := sshtest.Start(t, sshtest.Named("no-such-name.invalid"))
			d.begin(t, m)
			h := newHost(t, m, func(o *Options) {
				o.RefusedMin, o.RefusedMax, o.RefusedLook = 10*time.Millisecond,
					50*time.Millisecond, 5*time.Millisecond
				if d.here {
					o.RefusedMin, o.RefusedMax = time.Hour, time.Hour
				}
			})
			h.Connect(sched.Pool{Addr: m.Name})
			r := await[sched.Refused](h, nil)
			if !strings.Contains(r.Hint, "it is tried again at ") ||
				!strings.Contains(r.Hint, "machine check") {
				t.Errorf("the hint doesn't say when it is tried again: %s", r.Hint)
			}
			d.end(t, m)
			await[sched.Connected](h, nil)
			if n := count[sched.Connecting](h, nil); n != 1 {
				t.Errorf("it was said %d times that it connects: refused is what it stays", n)
			}
		})
	}
}

// TestRefusedOnce: that a machine was dialed, by which its keys and known_hosts files became known,
// is no change of them: it isn't tried again before its time.
func TestRefusedOnce(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	if err := os.Rename(m.KeyFile+".pub", m.KeyFile+".away"); err != nil { // its authorized_keys
		t.Fatal(err)
	}
	h := newHost(t, m, func(o *Options) {
		o.RefusedMin, o.RefusedMax, o.RefusedLook = time.Hour, time.Hour, time.Millisecond
	})
	h.Connect(sched.Pool{Addr: m.Name})
	await[sched.Refused](h, nil)
	if err := os.WriteFile(m.KnownHosts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await[sched.Refused](h, func(r sched.Refused) bool { return r.HostKey })
	if n := count[sched.Refused](h, nil); n != 2 {
		t.Errorf("it was refused %d times, want once for its keys and once for known_hosts", n)
	}
}

// TestRefusedPause: the pause grows, and one that is refused for another reason begins anew.
func TestRefusedPause(t *testing.T) {
	h := newHost(t, nil, func(o *Options) {
		o.RefusedMin, o.RefusedMax = time.Minute, 15*time.Minute
	})
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	h.Fleet.opt.Now = func() time.Time { return now }
	m := newMachine(h.Fleet, "gpu1")
	pause := func() time.Duration {
		h.tell(func() { h.reports = nil })
		m.unreached(&ssh.AuthError{Addr: "gpu1"})
		hint := await[sched.Refused](h, nil).Hint
		_, rest, _ := strings.Cut(hint, "tried again at ")
		at, err := time.Parse(time.TimeOnly, rest[:8])
		if err != nil {
			t.Fatalf("%s: %v", hint, err)
		}
		return time.Duration(
			at.Hour()-12,
		)*time.Hour + time.Duration(
			at.Minute(),
		)*time.Minute + time.Duration(at.Second())*time.Second
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 15, 15} {
		if got := pause(); got < want*time.Minute || got > want*time.Minute*11/10+time.Second {
			t.Errorf("tried again after %v, want %d min", got, want)
		}
	}
	m.unreached(&ssh.DialError{Addr: "gpu1", Err: errors.New("refused")})
	if got := pause(); got > 2*time.Minute {
		t.Errorf("after it was away, tried again after %v", got)
	}
}

// TestDeafMachine: each step of connecting has a limit, whatever a machine doesn't answer.
func TestDeafMachine(t *testing.T) {
	accept := func(c xssh.NewChannel) (xssh.Channel, <-chan *xssh.Request) {
		ch, reqs, err := c.Accept()
		if err != nil {
			return nil, nil
		}
		return ch, reqs
	}
	for name, deaf := range map[string]func(conn *xssh.ServerConn, c xssh.NewChannel){
		"no channel": func(*xssh.ServerConn, xssh.NewChannel) {},
		"no answer to exec": func(_ *xssh.ServerConn, c xssh.NewChannel) {
			_, _ = accept(c)
		},
		"exec, and silence": func(_ *xssh.ServerConn, c xssh.NewChannel) {
			if _, reqs := accept(c); reqs != nil {
				go func() {
					for r := range reqs {
						_ = r.Reply(true, nil)
					}
				}()
			}
		},
		"junk without end": func(_ *xssh.ServerConn, c xssh.NewChannel) {
			if ch, reqs := accept(c); ch != nil {
				go func() {
					for r := range reqs {
						_ = r.Reply(true, nil)
					}
				}()
				go func() {
					for {
						if _, err := ch.Write([]byte("motd motd motd\n")); err != nil {
							return
						}
					}
				}()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, client := sshtest.Fake(t, deaf)
			h := newHost(t, nil, func(o *Options) {
				o.SSH = ssh.Options{ConfigFile: client.ConfigFile}
				o.AnswerTime = 100 * time.Millisecond
			})
			h.Connect(sched.Pool{Addr: addr})
			if o := await[sched.Away](h, nil); o.Reason == "" {
				t.Error("no reason is given")
			}
			if _, err := h.Check(t.Context(), addr); err == nil {
				t.Error("the check found it well")
			}
		})
	}
}
