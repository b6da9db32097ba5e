package agent

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Not every kernel is Linux itself: qemu-user, which runs the programs of another processor, and
// some sandboxes answer EINVAL to what they don't know. Runs do without.
//
// A process that is orphaned below a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER) becomes its
// child, and is found as such. Where there are none, it becomes init's, and what lives of a run is
// found as when its supervisor has died, see family. What such an orphan used of the processor
// isn't counted.

// adoptOrphans makes this process a subreaper. It tells whether there are any here.
func adoptOrphans() bool {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil
}

// canAdoptOrphans tells whether a supervisor can. An agent doesn't.
func canAdoptOrphans() bool {
	return adoptOrphans() && unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == nil
}

// members lists what lives of the run beside this process.
func (s *supervisor) members() []procStat {
	if s.adopts {
		return descendants()
	}
	return family(s.id, s.self)
}

// lookForOrphans finds out that the last one has ended: of those that aren't our children no signal
// tells, but most have had one of the streams that we read.
func (s *supervisor) lookForOrphans() {
	if !s.adopts && s.pid == 0 && !s.childless {
		s.reap()
	}
}

// forkExec is syscall.ForkExec, also where the kernel has no descriptors of processes (clone(2),
// CLONE_PIDFD): attr's stays as it was. A child that could not be started never began.
func forkExec(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	pid, err = syscall.ForkExec(path, argv, attr)
	if err != unix.EINVAL || attr.Sys.PidFD == nil {
		return pid, err
	}
	sys := *attr.Sys
	sys.PidFD = nil
	without := *attr
	without.Sys = &sys
	return syscall.ForkExec(path, argv, &without)
}
