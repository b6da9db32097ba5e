package agent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A run's family is every process that came of it. While its supervisor lives that is a tree, since
// what is orphaned below a supervisor becomes its child. When the supervisor has died, or the run's
// directory is gone and nothing says any more which supervisor it was, the family is found by what
// its members have inherited:
//
//   - the variable JOBSERVER_RUN, unless they have cleared their environment;
//   - a mark, a limit that no other run has: see markRun;
//   - the session of the supervisor, unless they have made one of their own;
//   - an ancestor of whom one of these holds.
//
// What got rid of all of that is beyond us: as root, which may raise limits; by lowering the limit;
// by having somebody else start it, as cron, at, systemd-run or a container's daemon do.

// envRun is the variable by which what is left of a run is found when its supervisor is dead.
const envRun = "JOBSERVER_RUN"

// The mark of a run is its limit RLIMIT_RTTIME: how many microseconds of processor time a process
// of real-time priority may use without a pause. Every process inherits it, no system call but
// setrlimit touches it, and only root can raise it. The values used here, some hundred thousand
// years, limit nothing. Each run of a supervisor has a lower one than the run before.
const (
	markResource = 15 // RLIMIT_RTTIME, the same on every architecture that Linux has
	highestMark  = 1 << 62
	lowestMark   = 1 << 60 // below this somebody means it as a limit
	markStep     = 1 << 36 // so many runs have room below a supervisor's first mark
)

// markRun gives this process, and all that it starts from now on, a mark. It is 0 where that isn't
// possible.
func markRun() uint64 {
	var now unix.Rlimit
	if err := unix.Prlimit(0, markResource, nil, &now); err != nil {
		return 0
	}
	var word [8]byte
	// The system's own call: with the package for it, the agent is 40 kB longer on its way.
	if _, err := unix.Getrandom(word[:], 0); err != nil {
		return 0
	}
	random := binary.LittleEndian.Uint64(word[:])
	next := highestMark - 1 - random%(highestMark-lowestMark)/2
	if now.Max < highestMark { // of the run before, or of a run that we are part of
		next = now.Max - 1 - random%markStep
	}
	if next < lowestMark || next >= now.Max {
		return 0
	}
	if err := unix.Prlimit(0, markResource, &unix.Rlimit{Cur: next, Max: next}, nil); err != nil {
		return 0
	}
	return next
}

// markOf is a process's mark; 0: it has none.
func markOf(pid int) uint64 {
	p, err := readFile("/proc/"+strconv.Itoa(pid)+"/limits", 8192)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(p)) {
		if rest, ok := strings.CutPrefix(line, "Max realtime timeout"); ok {
			fields := strings.Fields(rest)
			if len(fields) < 2 {
				return 0
			}
			n, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil || n < lowestMark || n >= highestMark {
				return 0
			}
			return n
		}
	}
	return 0
}

// family lists what lives of a run. supervisor is what its records say of that; zero if there are
// none.
func family(id RunID, supervisor process) []procStat {
	all, err := allProcesses()
	if err != nil {
		return nil
	}
	if goneOn(all, id, supervisor) {
		supervisor = process{Mark: supervisor.Mark}
	}
	in := make(map[int]bool)
	variable := []byte(envRun + "=" + id.String())
	self := os.Getpid()
	for _, p := range all {
		switch {
		case p.pid == self || p.dead():
		case p.pid == supervisor.PID && p.startTime == supervisor.StartTime,
			supervisor.PID != 0 && p.session == supervisor.PID &&
				p.startTime >= supervisor.StartTime,
			supervisor.Mark != 0 && markOf(p.pid) == supervisor.Mark,
			hasVariable(p.pid, variable):
			in[p.pid] = true
		}
	}
	for grew := len(in) > 0; grew; {
		grew = false
		for _, p := range all {
			if !in[p.pid] && in[p.parent] && p.pid != self {
				in[p.pid], grew = true, true
			}
		}
	}
	var found []procStat
	for _, p := range all {
		if in[p.pid] && !p.dead() {
			found = append(found, p)
		}
	}
	return found
}

// goneOn tells whether a run's supervisor lives, and has another run by now, or none, or whether
// its pid is another process's: then it isn't this run's any more, and neither is its session.
func goneOn(all []procStat, id RunID, supervisor process) bool {
	for _, p := range all {
		if p.pid == supervisor.PID {
			return p.startTime != supervisor.StartTime || !p.dead() && !isSupervisorOf(p.pid, id)
		}
	}
	return false
}

// supervisorOf finds the supervisor of a run of which no record says which it is; zero if there is
// none.
func supervisorOf(id RunID) process {
	all, err := allProcesses()
	if err != nil {
		return process{}
	}
	for _, p := range all {
		if !isSupervisorOf(p.pid, id) {
			continue
		}
		mark := markOf(p.pid)
		if !isSupervisorOf(p.pid, id) {
			return process{} // it has gone on, and the mark may be another run's
		}
		return process{PID: p.pid, StartTime: p.startTime, Mark: mark}
	}
	return process{}
}

// isSupervisorOf tells whether a process is the supervisor of a run, whose directory may have been
// removed or moved away: it stands in it, and has its file as standard error.
func isSupervisorOf(pid int, id RunID) bool {
	proc := "/proc/" + strconv.Itoa(pid)
	for link, up := range map[string]int{"cwd": 0, "fd/2": 1} {
		path, err := os.Readlink(filepath.Join(proc, link))
		if err != nil {
			continue
		}
		path = strings.TrimSuffix(path, " (deleted)")
		for range up {
			path = filepath.Dir(path)
		}
		if isDirOf(path, id) && isSupervisor(proc) {
			return true
		}
	}
	return false
}

// isDirOf tells whether a directory is a run's by its name: one that still is where runs are has to
// be among those of the run's server and machine, as others may count their runs as we do.
func isDirOf(path string, id RunID) bool {
	dir, name := filepath.Split(path)
	if strings.TrimPrefix(name, forgotten) != id.Name() {
		return false
	}
	server, machine := filepath.Split(filepath.Clean(dir))
	runs, server := filepath.Split(filepath.Clean(server))
	return filepath.Base(runs) != "runs" || server == id.Server && machine == id.Machine
}

func isSupervisor(proc string) bool {
	p, err := readFile(proc+"/cmdline", 4096)
	return err == nil && bytes.Contains(p, []byte("supervise"))
}

// wakeSupervisors lets those of our supervisors go on that stand still. An agent that sweeps up
// stops one before it kills it, and may itself be killed in between; an order that it had been
// given by then holds the lock of its run, of which nothing else says whose it is. Those of one
// parent, or with 0 all.
func wakeSupervisors(parent int) {
	all, err := allProcesses()
	if err != nil {
		return // it is tried again
	}
	for _, p := range all {
		if p.state == 'T' && (parent == 0 || p.parent == parent) &&
			isSupervisor("/proc/"+strconv.Itoa(p.pid)) {
			_ = unix.Kill(p.pid, unix.SIGCONT) // somebody else's supervisor isn't ours to wake
		}
	}
}

// sweep ends what is left of a run whose supervisor doesn't do that any more, and that supervisor
// if it lives. An error says what could not be ended. v is what the run's records say; of another
// boot nothing lives, and its numbers may be anybody's by now.
func (a *agent) sweep(id RunID, v view) error {
	supervisor := v.launching
	if supervisor.BootID != a.bootID {
		supervisor = process{}
	}
	if supervisor.PID == 0 {
		supervisor = supervisorOf(id) // once: it may be the first to be ended
	}
	_, left := killAll(func() []procStat { return family(id, supervisor) }, func() {})
	if left == 0 {
		return nil
	}
	var pids []string
	for _, p := range family(id, supervisor) {
		if len(pids) < 10 {
			pids = append(pids, strconv.Itoa(p.pid))
		}
	}
	if len(pids) == 0 {
		return nil
	}
	return errorf(
		KindRunning,
		"run %s: %d of its processes run as another user and can't be ended: %s",
		id.Name(),
		left,
		strings.Join(pids, " "),
	)
}

// dead says that a process only waits for its parent to notice.
func (p procStat) dead() bool { return p.state == 'Z' || p.state == 'X' }

func hasVariable(pid int, variable []byte) bool {
	env, err := readFile(fmt.Sprintf("/proc/%d/environ", pid), maxRecord)
	if err != nil {
		return false // of another user, or gone
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(v, variable) {
			return true
		}
	}
	return false
}
