// Package pool_test runs a daemon with machines that come, break, reboot and expire: real sshds
// behind a network that fails, and people who want to hear of it.
package pool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"jobserver/api"
	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	daemontest.Cleanup()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience is only ever used up by a test that fails.
const patience = time.Minute

// pool is a daemon and the client side of its machines.
type pool struct {
	*daemontest.Daemon
	t      *testing.T
	client *sshtest.Client
	api    *api.Client
	cursor uint64 // of the events that await has seen
}

// newPool starts a daemon with these arguments of serve.
func newPool(t *testing.T, args ...string) *pool {
	t.Helper()
	t.Parallel()
	sshtest.Require(t)
	client, err := sshtest.NewClient(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &pool{t: t, client: client,
		Daemon: daemontest.New(t, append([]string{"--ssh-config", client.ConfigFile}, args...)...)}
	if p.api, err = p.Client(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.api.Close() })
	return p
}

// machine is a machine that can seem to reboot.
type machine struct {
	*sshtest.Machine
	t    *testing.T
	boot string // the file with its boot id
	bin  string // a directory that comes first in its PATH
}

// machine starts a machine of this name. Its agent reads the boot id from a file.
func (p *pool) machine(name string, opts ...sshtest.Option) *machine {
	p.t.Helper()
	dir := p.t.TempDir()
	m := &machine{t: p.t, boot: filepath.Join(dir, "boot_id"), bin: filepath.Join(dir, "bin")}
	m.newBoot("first boot of " + name)
	shell := filepath.Join(dir, "shell")
	write(p.t, shell, fmt.Sprintf("#!/bin/sh\nPATH=%s:$PATH; export PATH\n"+
		"exec /bin/sh -c \"$(printf '%%s' \"$2\" | sed 's| agent| agent --boot-id-file %s|g')\"\n",
		m.bin, m.boot))
	m.Machine = sshtest.Start(p.t,
		append([]sshtest.Option{sshtest.Shared(p.client), sshtest.Named(name),
			sshtest.Shell(shell)}, opts...)...)
	return m
}

func (m *machine) newBoot(id string) {
	m.t.Helper()
	write(m.t, m.boot, id+"\n")
}

// program puts a program onto the machine.
func (m *machine) program(name, script string) {
	m.t.Helper()
	if err := os.MkdirAll(m.bin, 0o755); err != nil {
		m.t.Fatal(err)
	}
	write(m.t, filepath.Join(m.bin, name), "#!/bin/sh\n"+script+"\n")
}

// reboot ends all that runs there and changes the boot id.
func (m *machine) reboot(id string) {
	m.t.Helper()
	m.newBoot(id)
	if _, err := m.KillAll(); err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.KillSessions(); err != nil {
		m.t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// pipe makes a named pipe: a gate for jobs, or a channel from commands.
func pipe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// read takes what a command writes to a pipe.
func read(t *testing.T, pipe string) string {
	t.Helper()
	b, err := os.ReadFile(pipe)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// feed lets a job go on that reads from a pipe.
func feed(t *testing.T, pipe, text string) {
	t.Helper()
	if err := os.WriteFile(pipe, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// await waits for an event of the daemon, from where the last call stopped.
func (p *pool) await(what string, is func(*api.Event) bool) api.Event {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	var seen []string
	for {
		var reply api.EventsReply
		if err := p.api.Call(ctx, "Events",
			&api.EventsArgs{Since: p.cursor, Max: 1, Wait: 10 * time.Second}, &reply); err != nil {
			p.t.Fatalf("waiting for %s: %v; there were\n%s\n%s", what, err,
				strings.Join(seen, "\n"), p.ConsoleText())
		}
		p.cursor = reply.Cursor
		for i := range reply.Events {
			e := &reply.Events[i]
			if is(e) {
				return *e
			}
			seen = append(seen, e.Kind+": "+e.Text)
		}
	}
}

// happens waits for an event of a kind about each of some jobs, in whichever order.
func (p *pool) happens(kind string, jobs ...uint64) {
	p.t.Helper()
	p.await(fmt.Sprintf("%s of jobs %d", kind, jobs), func(e *api.Event) bool {
		if e.Kind == kind {
			jobs = slices.DeleteFunc(jobs, func(jid uint64) bool { return jid == e.JID })
		}
		return len(jobs) == 0
	})
}

// look gives a machine as `machine ls` shows it.
func (p *pool) look(addr string) api.Machine {
	p.t.Helper()
	var found []api.Machine
	if err := json.Unmarshal([]byte(p.J(p.t, "machine", "ls", "-o", "json")), &found); err != nil {
		p.t.Fatal(err)
	}
	for _, m := range found {
		if m.Addr == addr {
			return m
		}
	}
	return api.Machine{}
}

// becomes waits for a state of a machine's link. Links are no events: they are looked at.
func (p *pool) becomes(addr string, is func(api.Machine) bool) api.Machine {
	p.t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(patience); ; <-look.C {
		m := p.look(addr)
		if is(m) {
			return m
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s is %+v", addr, m)
		}
	}
}

func connected(m api.Machine) bool { return m.State == "connected" }

// job gives a job as `job show` does.
func (p *pool) job(jid uint64) api.Job {
	p.t.Helper()
	var jobs []api.Job
	if err := json.Unmarshal([]byte(p.J(p.t, "job", "show", "-o", "json", fmt.Sprint(jid))),
		&jobs); err != nil || len(jobs) != 1 {
		p.t.Fatal(err, jobs)
	}
	return jobs[0]
}

// contains fails when a text lacks one of the words.
func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in %q", word, text)
		}
	}
}
