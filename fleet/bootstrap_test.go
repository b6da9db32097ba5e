package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh"
	"jobserver/ssh/sshtest"
)

// lookPath finds a program that the machine may lack.
func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// tool puts a program of the test's own first in a machine's PATH.
func tool(t *testing.T, name, script string) sshtest.Option {
	t.Helper()
	return toolbox(t, map[string]string{name: script})
}

// toolbox is tool for several.
func toolbox(t *testing.T, scripts map[string]string) sshtest.Option {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"),
			0o755); err != nil {
			t.Fatal(err)
		}
	}
	return sshtest.Env("PATH=" + dir + ":" + os.Getenv("PATH"))
}

// varTmp is the last candidate for a root on this host's machines. After the test it is as before.
func varTmp(t *testing.T) string {
	t.Helper()
	dir := fmt.Sprintf("/var/tmp/jobserver-%d", os.Getuid())
	_, err := os.Stat(dir)
	if os.IsNotExist(err) {
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	b, err := newBuilds(program, "", nil).own()
	if err != nil {
		t.Fatal(err)
	}
	b.file.Close()
	t.Cleanup(func() { os.Remove(filepath.Join(dir, "bin", "jobserver-"+b.hash)) })
	return dir
}

func TestNoAgent(t *testing.T) {
	other := filepath.Join(t.TempDir(), "jobserver")
	if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		option       func(t *testing.T) sshtest.Option
		change       func(*Options)
		reason, hint string
	}{
		"no build for it": {
			option: func(t *testing.T) sshtest.Option {
				return tool(t, "uname", "echo Linux aarch64")
			},
			change: func(o *Options) { o.Builds = "/builds" },
			reason: "/builds/jobserver-linux-arm64",
			hint: "GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -o " +
				"/builds/jobserver-linux-arm64 ./slim/program",
		},
		"no such processor": {
			option: func(t *testing.T) sshtest.Option {
				return tool(t, "uname", "echo Linux sparc64")
			},
			reason: "no agent for linux/sparc64: there is none inside this program, and Go makes",
			hint:   "take the machine out",
		},
		"another system": {
			option: func(t *testing.T) sshtest.Option {
				return tool(t, "uname", "echo FreeBSD amd64")
			},
			reason: "no agent for freebsd/amd64: only Linux can be a machine",
			hint:   "take the machine out",
		},
		"no name": {
			option: func(t *testing.T) sshtest.Option {
				return tool(t, "uname", "echo 'Linux ../../$(reboot)'")
			},
			reason: `no agent for "linux/../../$(reboot)"`,
		},
		"nothing may be run": {
			// A file that chmod doesn't make executable is refused like one on a file system
			// mounted noexec.
			option: func(t *testing.T) sshtest.Option { return tool(t, "chmod", "exit 0") },
			reason: "jobserver is mounted noexec", hint: "XDG_STATE_HOME",
		},
		"not static": {
			change: func(o *Options) { o.Binary = "/bin/sh" },
			reason: "/bin/sh is not linked statically", hint: "CGO_ENABLED=0 go build",
		},
		"no program": {change: func(o *Options) {
			o.Binary = other
		}, reason: "is not an ELF executable", hint: "go build"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			varTmp(t)
			var options []sshtest.Option
			if test.option != nil {
				options = append(options, test.option(t))
			}
			m := sshtest.Start(t, options...)
			var change []func(*Options)
			if test.change != nil {
				change = append(change, test.change)
			}
			h := newHost(t, m, change...)
			h.Connect(sched.Pool{Addr: m.Name})
			got := await[sched.Refused](h, nil)
			if !strings.Contains(got.Reason, test.reason) ||
				!strings.Contains(got.Hint, test.hint) || got.HostKey {
				t.Errorf("it was refused with %+v", got)
			}
		})
	}
}

func TestReadOnlyHome(t *testing.T) {
	root := varTmp(t)
	m := sshtest.Start(t,
		sshtest.ServerConfig("SetEnv HOME=/proc/none XDG_STATE_HOME=/proc/none/state"))
	h := newHost(t, m, func(o *Options) { o.ServerID = "readonly-" + randomToken() })
	if c := h.connected(m.Name); c.Facts.Root != root {
		t.Errorf("the root is %s, want %s", c.Facts.Root, root)
	}
	r := job(m.Name, 1, "echo it works")
	h.Start(r)
	h.ends(r, "it works\n")
	h.settled(&statepb.Obligation{Run: r.Ref})
}

// A binary that is there but doesn't run, as on a home shared with machines of another kind, is
// replaced.
func TestDamagedBinary(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	h.connected(m.Name)
	h.halt()
	all, err := filepath.Glob(filepath.Join(m.Home, ".local/state/jobserver/bin/jobserver-*"))
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if err := os.Remove(all[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(all[0], []byte("\x7fELF garbage"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.run()
	h.connected(m.Name)
}

// What keeps the agent from a machine for a while, as a full disk does, is waited for.
func TestInstallFails(t *testing.T) {
	varTmp(t)
	for program, test := range map[string]struct{ script, reason string }{
		"chmod": {`exit 1`, "not writable"},
		"mv":    {`echo exit 1 >"$3"; exec chmod 700 "$3"`, "doesn't answer"},
		// As on a full disk, which takes some of it.
		"cat": {`head -c 100000; echo "cat: write error: No space left on device" >&2; exit 1`,
			"exit code 1: cat: write error: No space left on device"},
	} {
		t.Run(program, func(t *testing.T) {
			well := filepath.Join(t.TempDir(), "well")
			ill := "[ -e " + well + " ] && exec "
			m := sshtest.Start(t, toolbox(t, map[string]string{
				program: ill + lookPath(t, program) + ` "$@"; ` + test.script,
				"gzip":  ill + lookPath(t, "gzip") + ` "$@"; exit 1`,
			}))
			h := newHost(t, m)
			h.Connect(sched.Pool{Addr: m.Name})
			if away := await[sched.Away](h, nil); !strings.Contains(away.Reason, test.reason) {
				t.Errorf("the reason is %q", away.Reason)
			}
			if err := os.WriteFile(well, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			await[sched.Connected](h, nil)
		})
	}
}

// A machine may stop in the middle of an installation, and its connection live.
func TestInstallHangs(t *testing.T) {
	varTmp(t)
	for name, c := range map[string]struct{ hangs, want string }{
		"mkdir": {"mkdir", "look for a place"},
		"gzip":  {"gzip", "bytes compressed) to "},
		"cat":   {"cat", "bytes) to "},
		"mv":    {"mv", "rename the agent"},
	} {
		t.Run(name, func(t *testing.T) {
			tools := map[string]string{c.hangs: "exec sleep 100"}
			if name == "cat" {
				tools["gzip"] = "exit 1"
			}
			m := sshtest.Start(t, toolbox(t, tools))
			conn, err := ssh.NewDialer(ssh.Options{ConfigFile: m.ConfigFile}).
				Dial(t.Context(), m.Name)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			builds := newBuilds(program, "", nil)
			defer builds.close()
			in := &installer{conn: conn, builds: builds, unique: "x", patience: 2 * time.Second}
			_, err = in.start(t.Context(), "")
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), "nothing was heard from the machine for 2s") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// Machines with one home may be installed at the same time.
func TestSharedHome(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	for i := range 4 {
		alias := fmt.Sprintf("%s-%d", m.Name, i)
		if err := m.AddHost(alias, m.User, m.Host, m.Port); err != nil {
			t.Fatal(err)
		}
		h.Connect(sched.Pool{Addr: alias})
		h.Start(job(alias, uint64(i+1), "echo here"))
	}
	for i := range 4 {
		h.ends(job(m.Name, uint64(i+1), ""), "here\n")
	}
}

func TestUnknownHostKey(t *testing.T) {
	m := sshtest.Start(t)
	if err := os.WriteFile(m.KnownHosts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, m)
	h.Connect(sched.Pool{Addr: m.Name})
	got := await[sched.Refused](h, nil)
	if !got.HostKey || !strings.Contains(got.Reason, "host key") || got.Hint == "" {
		t.Errorf("it was refused with %+v", got)
	}
	keys, err := h.HostKeys(t.Context(), m.Name)
	if err != nil || len(keys) != 1 || keys[0].Known {
		t.Fatal(keys, err)
	}
	if err := h.Trust(t.Context(), m.Name, keys...); err != nil {
		t.Fatal(err)
	}
	await[sched.Connected](h, nil)
}

func TestCheckAndClean(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	c := h.connected(m.Name)
	got, err := h.Check(t.Context(), m.Name)
	if err != nil {
		t.Fatal(err)
	}
	if got.Facts.BootId != c.Facts.BootId || got.Vitals.FreeBytes == 0 || got.Vitals.Latency <= 0 ||
		len(got.HostKeys) != 1 ||
		!got.HostKeys[0].Known || got.Info.User != m.User {
		t.Errorf("the check found %+v", got)
	}
	g := newGate(t)
	r := job(m.Name, 1, g.command())
	h.Start(r)
	await[sched.Started](h, nil)
	g.reached()
	h.halt()
	h.run() // a daemon that has lost its state
	c = h.connected(m.Name)
	if len(c.Runs) != 1 || c.Runs[0].Token != r.Ref.Token || c.Runs[0].Job != 1 ||
		c.Runs[0].Machine != m.Name {
		t.Fatalf("the runs there are %v", c.Runs)
	}
	if err := h.Clean(t.Context(), m.Name, c.Runs); err != nil {
		t.Fatal(err)
	}
	c = await(h, func(o sched.Connected) bool { return len(o.Runs) == 0 })
	if _, err := os.Stat(filepath.Join(c.Facts.Root, "runs", "srv", machineID(m.Name),
		"1.1.0-t1")); !os.IsNotExist(err) {
		t.Error("its directory is still there")
	}
}

func TestDriver(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	g := newGate(t)
	r := job(m.Name, 1, "")
	r.Ref.Driver, r.Command, r.BootID = true, nil, "the machine's"
	r.Argv = []string{"/bin/sh", "-c", "echo on the host; " + g.command() + "; echo \"$0\"",
		"a word"}
	h.Start(r)
	g.reached()
	h.halt()
	h.run()
	c := h.connected(m.Name)
	if len(c.Runs) != 1 || !c.Runs[0].Driver || c.Runs[0].Token != r.Ref.Token {
		t.Errorf("the runs there are %v", c.Runs)
	}
	r.Known = true
	h.Start(r)
	g.open(t)
	h.ends(r, "on the host\na word\n")
	h.settled(&statepb.Obligation{Run: r.Ref})
}

func TestMachineID(t *testing.T) {
	seen := map[string]string{}
	for _, addr := range []string{
		"gpu1", "gpu_1", "gpu.1", "gpu:1", "me@gpu1:22", "local", "local:a", "[::1]:22",
		strings.Repeat("x", 60),
		strings.Repeat("x", 60) + "y", "ü",
	} {
		id := machineID(addr)
		if err := (agent.RunID{Server: "s", Machine: id, Token: "t"}).Valid(); err != nil {
			t.Error(err)
		}
		if other, taken := seen[id]; taken {
			t.Errorf("%s and %s are both %s", addr, other, id)
		}
		seen[id] = addr
	}
}
