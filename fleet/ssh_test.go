package fleet

import (
	"bytes"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh/sshtest"
)

// behindProxy gives a machine a second alias, by which it is reached through a proxy.
func behindProxy(t *testing.T, m *sshtest.Machine) (*sshtest.Proxy, string) {
	t.Helper()
	p := sshtest.NewProxy(t, net.JoinHostPort(m.Host, strconv.Itoa(m.Port)))
	key, err := os.ReadFile(m.HostKeyFile("ed25519") + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Know(p.Host, p.Port, string(key)); err != nil {
		t.Fatal(err)
	}
	alias := m.Name + "-proxied"
	if err := m.AddHost(alias, m.User, p.Host, p.Port); err != nil {
		t.Fatal(err)
	}
	return p, alias
}

func TestRunSSH(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	c := h.connected(m.Name)
	if want := m.Home + "/.local/state/jobserver"; c.Facts.Root != want || c.Facts.BootId == "" ||
		c.Facts.Cores < 1 {
		t.Errorf("the machine's facts are %v, want root %s", c.Facts, want)
	}
	r := job(m.Name, 1, "echo $HOME; echo $X")
	r.Env = []string{"X=a=b"}
	h.Start(r)
	h.ends(r, m.Home+"\na=b\n")
	h.settled(&statepb.Obligation{Run: r.Ref})

	h.halt()
	h.run() // its binary is there now
	h.connected(m.Name)
	if n := strings.Count(m.LogText(), "Starting session"); n > 6 {
		t.Errorf("%d sessions were used for two connections", n)
	}
}

// Whatever happens to the connection, the run goes on, its log is complete and it runs once.
func TestConnectionLost(t *testing.T) {
	tests := map[string]func(t *testing.T, h *host, m *sshtest.Machine, p *sshtest.Proxy){
		"sessions killed": func(t *testing.T, h *host, m *sshtest.Machine, p *sshtest.Proxy) {
			if n, err := m.KillSessions(); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		},
		"reset": func(t *testing.T, h *host, m *sshtest.Machine, p *sshtest.Proxy) { p.Reset() },
		"cut for longer than the keepalive": func(t *testing.T, h *host, m *sshtest.Machine,
			p *sshtest.Proxy) {
			p.Cut()
			await[sched.Away](h, nil)
			p.Heal()
		},
		"sshd stopped and started": func(t *testing.T, h *host, m *sshtest.Machine,
			p *sshtest.Proxy) {
			if err := m.Stop(); err != nil {
				t.Fatal(err)
			}
			await[sched.Away](h, nil)
			if err := m.Restart(); err != nil {
				t.Fatal(err)
			}
		},
		"daemon restarted": func(t *testing.T, h *host, m *sshtest.Machine,
			p *sshtest.Proxy) {
			h.halt()
		},
	}
	for name, fail := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := sshtest.Start(t)
			proxy, alias := behindProxy(t, m)
			h := newHost(t, m, func(o *Options) {
				if strings.HasPrefix(name, "cut") {
					o.SSH.KeepaliveInterval, o.SSH.KeepaliveTimeout = 100*time.Millisecond,
						2*time.Second
				}
			})
			h.connected(alias)
			g := newGate(t)
			r := job(alias, 7, "head -c 100000 /dev/zero; "+g.command()+
				"; head -c 100000 /dev/zero; echo end >&2; exit 4")
			h.Start(r)
			await[sched.Started](h, nil)
			g.reached()
			fail(t, h, m, proxy)
			if name == "daemon restarted" {
				h.run()
				h.Connect(sched.Pool{Addr: alias})
				r.Known = true
				h.Start(r)
			}
			g.open(t)
			a := h.ends(r, string(bytes.Repeat([]byte{0}, 200000)))
			if a.ExitCode != 4 || a.Error != "" || a.OutLen != 200000 {
				t.Errorf("it ended with %v", a)
			}
			if got := h.log(r, true); got != "end\n" {
				t.Errorf("stderr is %q", got)
			}
			if n := count[sched.Started](h, nil); n > 1 {
				t.Errorf("it was started %d times", n)
			}
			h.settled(&statepb.Obligation{Run: r.Ref})
		})
	}
}

func TestCancelWhileAway(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	h.connected(m.Name)
	g := newGate(t)
	r := job(m.Name, 1, g.command())
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	await[sched.Away](h, nil)
	h.Cancel(r.Ref)
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	if a := h.ends(r, ""); a.Cause != statepb.Cause_CANCELED_BY_USER || a.Signal != "SIGTERM" {
		t.Errorf("it ended with %v", a)
	}
}

// A start of which the daemon doesn't know whether it arrived is repeated, and the run is the same.
func TestStartRepeated(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	h.connected(m.Name)
	g := newGate(t)
	r := job(m.Name, 1, "echo once; "+g.command())
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	h.halt()
	h.run()
	h.connected(m.Name)
	h.Start(r)
	await[sched.Started](h, nil)
	g.open(t)
	h.ends(r, "once\n")
}

func TestLost(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	h.connected(m.Name)
	g := newGate(t)
	r := job(m.Name, 1, g.command()+"; kill -KILL $PPID; sleep 100")
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	g.open(t)
	lost := await[sched.RunLost](h, nil)
	if !strings.Contains(lost.Reason, "supervisor died") {
		t.Errorf("the reason is %q", lost.Reason)
	}
	h.settled(&statepb.Obligation{Run: r.Ref})

	other := job(m.Name, 2, "echo never")
	other.BootID = "another"
	h.Start(other)
	lost = await(h, func(o sched.RunLost) bool { return o.Ref.Job == 2 })
	if !strings.Contains(lost.Reason, "rebooted") {
		t.Errorf("the reason is %q", lost.Reason)
	}
	h.settled(&statepb.Obligation{Run: other.Ref})

	unknown := job(m.Name, 3, "")
	unknown.Known = true
	h.Start(unknown)
	lost = await(h, func(o sched.RunLost) bool { return o.Ref.Job == 3 })
	if !strings.Contains(lost.Reason, "no longer on the machine") {
		t.Errorf("the reason is %q", lost.Reason)
	}
}

// TestShutDown: what the machine's own shutdown ended is lost, with the log that it had written.
func TestShutDown(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	h.connected(m.Name)
	g := newGate(t)
	r := job(m.Name, 1, "echo before; "+g.command()+"; kill -TERM $PPID; sleep 100")
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	g.open(t)
	lost := await[sched.RunLost](h, nil)
	if !strings.Contains(lost.Reason, "told to end") {
		t.Errorf("the reason is %q", lost.Reason)
	}
	if got := h.log(r, false); got != "before\n" {
		t.Errorf("its log is %q", got)
	}
	h.settled(&statepb.Obligation{Run: r.Ref})
}

func TestLoginShells(t *testing.T) {
	for _, shell := range []string{"sh", "bash", "dash", "zsh", "fish", "csh", "tcsh"} {
		t.Run(shell, func(t *testing.T) {
			path := lookPath(t, shell)
			m := sshtest.Start(t, sshtest.Shell(path),
				sshtest.Banner("Welcome!\nroot ok /nowhere\n\x1b[1mjobserver\x1b[0m"))
			h := newHost(t, m)
			h.connected(m.Name)
			r := job(m.Name, 1, "echo it works")
			h.Start(r)
			h.ends(r, "it works\n")
		})
	}
}

func TestCommandsAreShort(t *testing.T) {
	for _, command := range []string{
		launchCommand, probeCommand, uploadCommand, unpackCommand, placeCommand,
	} {
		inner, ok := strings.CutPrefix(command, "sh -c '")
		inner, end := strings.CutSuffix(inner, "'")
		if !ok || !end || strings.ContainsAny(inner, "'\\!\n") || len(command) > 1000 {
			t.Errorf("%d bytes, or a character that some shell interprets: %s", len(command),
				command)
		}
	}
}
