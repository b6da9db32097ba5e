package torture_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/ssh/sshtest"
)

// machine is an sshd behind a network that fails on demand.
type machine struct {
	*sshtest.Machine
	alias   string // by which the daemon knows it
	network network
	class   string
	bootID  string // the file that it reads its boot id from, where that was asked for
}

// network stands between the daemon and a machine.
type network interface {
	Cut()   // nothing arrives, and nobody is told
	Reset() // all connections end
	Slow(on bool)
	Heal()               // ends Cut and Slow
	Inside(f func())     // runs f on the machine's side
	Listen() (ip string) // where sshd is to be reached; "": on its loopback address
}

// A machineOption changes how a machine is made.
type machineOption func(*machineOptions)

type machineOptions struct {
	ssh       []sshtest.Option
	namespace bool
	reboots   bool
	slots     int
	class     string
	resources map[string]string
	apart     bool
	prepare   func(home string)
}

func withSSH(o ...sshtest.Option) machineOption {
	return func(m *machineOptions) { m.ssh = append(m.ssh, o...) }
}
func slots(n int) machineOption { return func(m *machineOptions) { m.slots = n } }

// ofClass gives the machine a class; else it is "x".
func ofClass(class string) machineOption { return func(m *machineOptions) { m.class = class } }

// withResources says what the machine has.
func withResources(all map[string]string) machineOption {
	return func(m *machineOptions) { m.resources = all }
}

// inNamespace gives the machine a network namespace, where the user may make one.
func inNamespace(m *machineOptions) { m.namespace = true }

// canReboot lets the machine have another boot id.
func canReboot(m *machineOptions) { m.reboots = true }

// notInPool leaves the machine to be added by the test.
func notInPool(m *machineOptions) { m.apart = true }

// add makes a machine and waits until it is connected.
func (w *world) add(opts ...machineOption) *machine {
	w.t.Helper()
	o := machineOptions{slots: 1, class: "x"}
	for _, opt := range opts {
		opt(&o)
	}
	i := len(w.machines)
	m := &machine{alias: fmt.Sprintf("machine%d", i), class: o.class}
	dir := filepath.Join(w.dir, m.alias)
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if o.prepare != nil {
		o.prepare(filepath.Join(dir, "home"))
	}
	if o.reboots {
		m.bootID = filepath.Join(dir, "boot_id")
		m.boots(w.t, "11111111-1111-4111-8111-111111111111")
		o.ssh = append(o.ssh, envOption("JOBSERVER_INSTEAD=boot-id="+m.bootID))
	}
	proxied := !o.namespace || !mayMakeNamespaces()
	if !proxied {
		m.network = newNamespace(w.t)
		o.ssh = append(o.ssh, sshtest.ServerConfig("ListenAddress "+m.network.Listen()))
	}
	m.start(w, dir, append(o.ssh, sshtest.Shared(w.client), sshtest.Named(m.alias+"-direct")))
	host, port := "", m.Port
	if proxied {
		p := sshtest.NewProxy(w.t, net.JoinHostPort(m.Host, strconv.Itoa(m.Port)))
		m.network, host, port = &proxy{p}, p.Host, p.Port
	} else {
		host = m.network.Listen()
	}
	must(w.t, m.Know(host, port, read(w.t, m.HostKeyFile("ed25519")+".pub")))
	must(w.t, m.AddHost(m.alias, m.User, host, port))
	w.machines = append(w.machines, m)
	if !o.apart {
		call[api.Empty](w, "AddMachines",
			&api.AddMachinesArgs{Addrs: []string{m.alias}, Class: o.class, Slots: o.slots,
				Resources: o.resources})
		w.link(m, "connected")
	}
	return m
}

func (m *machine) start(w *world, dir string, opts []sshtest.Option) {
	w.t.Helper()
	var err error
	m.inside(func() { m.Machine, err = sshtest.New(dir, opts...) })
	must(w.t, err)
	w.t.Cleanup(func() {
		m.endSupervisors(w.t)
		if err := m.Close(); err != nil {
			w.t.Errorf("end %s: %v", m.alias, err)
		}
		if w.t.Failed() {
			log := m.LogText()
			w.t.Logf("log of %s:\n%s", m.alias, log[max(0, len(log)-4000):])
		}
	})
}

func (m *machine) inside(f func()) {
	if m.network == nil {
		f()
		return
	}
	m.network.Inside(f)
}

// up starts sshd again, where it was.
func (m *machine) up() (err error) {
	m.inside(func() { err = m.Restart() })
	return err
}

// boots gives the machine a boot id.
func (m *machine) boots(t testing.TB, id string) { write(t, m.bootID, id+"\n", 0o644) }

// crash ends everything on the machine at once, as a power cut does: no supervisor can record
// anything.
func (m *machine) crash(t testing.TB) {
	t.Helper()
	must(t, m.Stop())
	m.endSupervisors(t)
	_, err := m.KillAll()
	must(t, err)
}

// shutDown ends everything on the machine in order, as init does: all are told to end, and may take
// their time.
func (m *machine) shutDown(t testing.TB) {
	t.Helper()
	must(t, m.Stop())
	for _, pid := range m.ours(t, true) {
		_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
	}
	eventually(t, m.alias+" is down", func() bool { return len(m.ours(t, true)) == 0 })
}

// ours are the processes of our program on the machine: agents and supervisors run from its home,
// and a supervisor that has a run is in the run's directory there, wherever it was started from:
// machines that are one host share what is in /var/tmp. all are these and whatever has the
// machine's environment: jobs and shells.
func (m *machine) ours(t testing.TB, all bool) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Errorf("look for processes: %v", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, _ := os.Readlink("/proc/" + e.Name() + "/exe") // it may have ended
		cwd, _ := os.Readlink("/proc/" + e.Name() + "/cwd")
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		inherited := strings.Contains(string(env), "\x00HOME="+m.Home+"\x00") &&
			!strings.HasPrefix(filepath.Base(exe), "sshd")
		if inherited && all || strings.HasPrefix(exe, m.Home+"/") ||
			strings.HasPrefix(cwd, m.Home+"/.local/state/jobserver/runs/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endSupervisors kills our processes on the machine; each takes its command along.
func (m *machine) endSupervisors(t testing.TB) {
	for pids := m.ours(t, false); len(pids) > 0; pids = m.ours(t, false) {
		// one may have been about to begin
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// killAgents ends our agents on the machine, and says how many there were.
func (m *machine) killAgents(t testing.TB) (n int) {
	for _, pid := range m.ours(t, false) {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended
		is := strings.Contains(string(args), "\x00agent\x00")
		if is && syscall.Kill(pid, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n
}

// runs lists the run directories on the machine.
func (m *machine) runs(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(m.Home, ".local/state/jobserver/runs/*/*/*"))
	must(t, err)
	return dirs
}

// clean checks, when all is over and no daemon runs, that nothing is left on the machine: no run
// directory and no process.
func (m *machine) clean(t testing.TB) {
	t.Helper()
	if runs := m.runs(t); len(runs) > 0 {
		t.Errorf("%d run directories are left on %s: %q", len(runs), m.alias,
			runs[:min(5, len(runs))])
	}
	eventually(t, "all processes on "+m.alias+" end", func() bool {
		return len(m.ours(t, true)) == 0
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// proxy is a network as an ordinary user can have it.
type proxy struct{ *sshtest.Proxy }

func (p *proxy) Slow(on bool) {
	delay := time.Duration(0)
	if on {
		delay = 50 * time.Millisecond
	}
	p.SetDelay(delay)
}

func (p *proxy) Heal() {
	p.SetDelay(0)
	p.ResetAfter(-1)
	p.Proxy.Heal()
}

func (p *proxy) Inside(f func()) { f() }
func (p *proxy) Listen() string  { return "" }

// tree lists what is below a directory, for comparisons: names with the kind of each.
func tree(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if name != "." {
			names = append(names, d.Type().String()[:1]+" "+name)
		}
		return err
	})
	must(t, err)
	return names
}

// envOption sets variables of everything that runs on the machine.
func envOption(vars ...string) sshtest.Option { return sshtest.Env(vars...) }
