package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/view"
)

// list collects findings.
type list []Finding

func (l *list) ok(check, format string, args ...any) {
	*l = append(*l, Finding{Check: check, State: OK, What: fmt.Sprintf(format, args...)})
}

func (l *list) add(check string, state State, do, format string, args ...any) {
	*l = append(*l, Finding{Check: check, State: state, What: fmt.Sprintf(format, args...), Do: do})
}

// What a host should have, below which it is said.
const (
	lowDisk   = 1 << 30 // bytes
	fullDisk  = 256 << 20
	lowFiles  = 10_000
	clockSlip = 5 * time.Second // between a machine and the host: jobs' times would mislead
	// What the daemon needs of descriptors: each connection some, and a rest for clients, logs and
	// copies.
	filesPerMachine = 8
	filesBeside     = 300
)

// hintOf is an error's next step, or else another.
func hintOf(err error, otherwise string) string {
	return cmp.Or(api.HintOf(err), otherwise)
}

// daemon looks at the configuration, the socket, and who answers.
func (l *list) daemon(f *Facts) {
	if f.ConfigErr != nil {
		l.add("configuration", Problem, hintOf(f.ConfigErr, "mend the file, or move it away"), "%v",
			f.ConfigErr)
	} else {
		l.ok("configuration", "the configuration file can be read, or there is none")
	}
	where := f.Socket
	if f.Remote != "" {
		where = f.Remote
	}
	if f.Daemon == nil {
		l.add("daemon", Problem, hintOf(f.DaemonErr, "start it: jobserver serve"), "%v",
			cmp.Or(f.DaemonErr, errors.New("it doesn't answer")))
		return
	}
	l.ok("daemon", "process %d answers at %s, since %s", f.Daemon.PID, where,
		view.FormatDuration(f.Now.Sub(f.Daemon.StartedAt)))
	if f.Daemon.Version != f.Program {
		l.add("version", Warning, "start the daemon again with the newer program: running jobs "+
			"go on", "the daemon is %s, this program %s", f.Daemon.Version, f.Program)
	} else {
		l.ok("version", "daemon and program are %s", f.Program)
	}
	if f.Daemon.StartedAt.Sub(f.Now) > clockSlip {
		l.add("clock", Warning, "look whether the clock is right: date",
			"the clock was set back: the daemon was started %s from now",
			view.FormatDuration(f.Daemon.StartedAt.Sub(f.Now)))
	}
	if f.Daemon.DiskFull {
		l.add("disk", Problem, "make room, or lower --min-free",
			"the daemon refuses new work: the disk of %s has %s left", f.Daemon.StateDir,
			view.FormatSize(f.Daemon.HostFreeBytes))
	}
}

// host looks at this host, where the daemon is or is to be.
func (l *list) host(f *Facts) {
	l.state(f)
	for _, d := range f.Disks {
		l.disk(d)
	}
	l.clock(f)
	l.ssh(f)
	l.limits(f)
	l.service(f)
}

func (l *list) state(f *Facts) {
	switch s := f.Saved; {
	case s.Err != nil:
		l.add("state", Problem, cmp.Or(s.Hint, "let the daemon's user read it, or name another "+
			"directory: --state-dir DIR"), "%v", s.Err)
	case s.None:
		l.ok("state", "there is none yet in %s", f.StateDir)
	default:
		l.ok("state", "%s", s.Text)
	}
	if len(f.Quarantine) > 0 {
		l.add("quarantine", Warning,
			fmt.Sprintf("look at it with `jobserver state check --state-dir %s`; remove it when "+
				"it isn't needed", f.Quarantine[0]),
			"what could not be loaded was set aside: %s", strings.Join(f.Quarantine, ", "))
	}
	if f.Logs.Err != nil {
		l.add("logs", Problem, hintOf(f.Logs.Err, "let the daemon's user write there"),
			"the logs can't be kept: %v", f.Logs.Err)
	} else if f.Logs.Path != "" {
		l.ok("logs", "they are in %s", f.Logs.Path)
	}
}

func (l *list) disk(d Disk) {
	const do = "make room: `jobserver prune --older 90d`, or serve --keep-logs"
	switch {
	case d.Free < 0:
		l.add("disk", Warning, "is it mounted?", "nothing is known of the disk of %s", d.Path)
	case d.Free < fullDisk:
		l.add("disk", Problem, do, "%s has %s left: copies wait, and soon new work is refused",
			d.Path, view.FormatSize(d.Free))
	case d.Free < lowDisk:
		l.add("disk", Warning, do, "%s has only %s left", d.Path, view.FormatSize(d.Free))
	case d.Files >= 0 && d.Files < lowFiles:
		l.add("disk", Warning, "remove small files: the file system has room, but few inodes",
			"%s has room for only %d more files", d.Path, d.Files)
	case d.Network != "":
		l.add("disk", Warning, "put the state on a local disk: serve --state-dir DIR",
			"%s is on %s, whose locks and syncs are not to be relied on", d.Path, d.Network)
	default:
		l.ok("disk", "%s has %s left", d.Path, view.FormatSize(d.Free))
	}
}

// clock compares the host's clock with those of the machines: where most differ by the same, it is
// the host's that is wrong.
func (l *list) clock(f *Facts) {
	var offsets []float64
	for i := range f.Machines {
		if m := &f.Machines[i]; m.State == "connected" && !isLocal(m.Addr) {
			offsets = append(offsets, m.ClockOffsetSeconds)
		}
	}
	slices.Sort(offsets)
	if n := len(offsets); n >= 3 {
		median := time.Duration(offsets[n/2] * float64(time.Second))
		if median.Abs() > clockSlip {
			l.add("clock", Warning, "let a time service set it: timedatectl set-ntp true",
				"this host's clock differs from those of most machines by %s",
				view.FormatDuration(median.Abs()))
			return
		}
	}
	switch c := f.Clock; {
	case !c.Known:
	case !c.Synced:
		l.add("clock", Warning, "let a time service set it: timedatectl set-ntp true",
			"nothing keeps this host's clock right, as far as the kernel knows")
	default:
		l.ok("clock", "it is kept right to within %s", view.FormatDuration(c.MaxError))
	}
}

// ssh looks at what the machines are reached with. What is the same for many is said once.
func (l *list) ssh(f *Facts) {
	said := map[Finding]bool{}
	once := func(check string, state State, do, format string, args ...any) {
		one := Finding{check, state, fmt.Sprintf(format, args...), do}
		if !said[one] {
			said[one] = true
			*l = append(*l, one)
		}
	}
	agentTold := false
	for _, addr := range slices.Sorted(maps.Keys(f.SSH)) {
		e := f.SSH[addr]
		if e.Err != nil {
			once("ssh configuration", Problem, hintOf(e.Err, "mend ~/.ssh/config"), "%v", e.Err)
			continue
		}
		once("ssh configuration", OK, "", "it can be used")
		switch {
		case e.AgentErr != nil:
			agentTold = true
			once("ssh agent", Problem,
				"start one, `eval $(ssh-agent); ssh-add`, and the daemon again from that shell",
				"the agent at %s doesn't answer: %v", e.Agent, e.AgentErr)
		case e.Agent != "":
			once("ssh agent", OK, "", "the agent at %s answers", e.Agent)
		}
		for _, unfit := range e.Unfit {
			if !slices.ContainsFunc(e.Locked, func(name string) bool {
				return strings.HasPrefix(unfit, name+":")
			}) {
				once("ssh keys", Warning, "mend or remove it; other keys are used", "%s", unfit)
			}
		}
		for _, name := range e.Locked {
			once("ssh keys", Warning, "load it into the agent: ssh-add "+name,
				"%s has a passphrase, and no agent holds it", name)
		}
		if len(e.Keys) == 0 {
			once("ssh keys", Problem,
				"make one, `ssh-keygen`, and bring it to the machines: `ssh-copy-id MACHINE`",
				"there is no key to log in with")
		} else {
			once("ssh keys", OK, "", "%s to log in with", view.Counted(len(e.Keys), "key"))
		}
		for _, bad := range e.BadLines {
			once("known_hosts", Warning, "remove that line: it counts for nothing", "%s", bad)
		}
		if len(e.BadLines) == 0 {
			once("known_hosts", OK, "", "%s",
				cmp.Or(strings.Join(e.KnownHosts, ", "), "there is none yet"))
		}
	}
	if p := f.Process; p.AgentErr != nil && !agentTold {
		l.add("ssh agent", Problem, "start the daemon again, from a shell whose agent lives: "+
			"running jobs go on",
			"the daemon was started with the agent at %s, which doesn't answer: %v", p.AgentSock,
			p.AgentErr)
	}
}

// limits compares what the daemon may have with what a pool of that size needs.
func (l *list) limits(f *Facts) {
	if have := f.Process.Files; have > 0 {
		need := int64(filesBeside + filesPerMachine*len(f.Machines))
		if have < need {
			l.add("descriptors", Problem, fmt.Sprintf("ulimit -n %d before `jobserver serve`, or "+
				"LimitNOFILE=%d in its unit", max(need, 4096), max(need, 4096)),
				"the daemon may open %d files, and a pool of %s needs up to %d", have,
				view.Counted(len(f.Machines), "machine"), need)
		} else {
			l.ok("descriptors", "the daemon may open %d files, and needs up to %d", have, need)
		}
	}
	local := 0
	for i := range f.Machines {
		if isLocal(f.Machines[i].Addr) {
			local++
		}
	}
	switch {
	case f.Inotify == 0 || local == 0:
	case f.Inotify < local+16: // a desktop has some of its own
		l.add("inotify", Warning, "sysctl fs.inotify.max_user_instances=512",
			"a user may watch with %d instances, and %s of this host need one each: their news "+
				"may be late", f.Inotify, view.Counted(local, "machine"))
	default:
		l.ok("inotify", "a user may watch with %d instances", f.Inotify)
	}
}

// service looks whether the daemon outlives the login.
func (l *list) service(f *Facts) {
	switch s := f.Service; {
	case s.Unit && !s.Lingers:
		l.add("lingering", Warning, "sudo loginctl enable-linger",
			"the daemon is a service of the user's, and ends when you log out")
	case s.Unit:
		l.ok("lingering", "the daemon is a service, and stays when you log out")
	case s.KillUserProcesses && !s.Lingers:
		l.add("lingering", Warning, "sudo loginctl enable-linger, or `jobserver service install`",
			"systemd ends what you run when you log out, also in tmux")
	}
}

func isLocal(addr string) bool { return addr == "local" || strings.HasPrefix(addr, "local:") }
