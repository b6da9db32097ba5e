package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// control adds an instruction to those in a run's slotControl and signals the supervisor.
//
// A supervisor writes slotLaunching, then looks at slotControl; we write slotControl, then look for
// slotLaunching. So an instruction that comes in the middle is seen by one of the two.
func (a *agent) control(run RunID, k Control) error {
	if err := run.Valid(); err != nil {
		return &Error{Kind: KindBadRequest, Msg: err.Error()}
	}
	dir := runDir(a.root, run)
	v, err := look(dir, a.bootID)
	if err != nil {
		return fmt.Errorf("look at run %s: %w", run.Name(), err)
	}
	if v.state == None {
		if k.Cancel { // its directory may have been removed while it ran
			if err := a.sweep(run, v); err != nil {
				return err
			}
		}
		return errorf(KindNoRun, "control %s: no such run", run.Name())
	}
	if v.state.Final() {
		return nil
	}
	if err := instruct(dir, k, v.launching); err != nil {
		return fmt.Errorf("control %s: %w", run.Name(), err)
	}
	if err := a.signal(dir, controlSignal); err != nil || !k.Cancel {
		return err
	}
	return a.signal(dir, unix.SIGCONT) // its job may have stopped it, so as not to be ended
}

// steer is control with what supervisors from before there was that would overlook.
func (a *agent) steer(run RunID, k Control) error {
	if err := run.Valid(); err != nil {
		return &Error{Kind: KindBadRequest, Msg: err.Error()}
	}
	v, err := look(runDir(a.root, run), a.bootID)
	if err == nil && !v.state.Final() && v.launching.PID != 0 && !v.launching.Steers {
		return errorf(KindOlder, "supervisor %d of run %s is of an older version, and knows "+
			"neither pauses nor signals", v.launching.PID, run.Name())
	}
	return a.control(run, k)
}

// instruct merges k into slotControl, whose blocks are there when the disk is full. Before the
// supervisor has made room for its records they may not be: then a full disk is an error, and
// nothing is lost.
func instruct(dir string, k Control, supervisor process) error {
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := openPlain(filepath.Join(dir, fileRun), os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	var all Control
	if err := all.read(f); err != nil {
		return err
	}
	all.merge(k)
	err = slotControl.write(f, all.lines)
	if err != nil || supervisor.ReadsSlot {
		return err
	}
	// It was started by a program from before slotControl, and may run for days after the daemon's
	// update. Or it isn't known yet: then it is most likely one like us, which doesn't need the
	// file.
	if err := instructByFile(dir, k); supervisor.PID != 0 {
		return err
	}
	return nil
}

// instructByFile merges k into fileControl. The directory is locked.
func instructByFile(dir string, k Control) error {
	file := filepath.Join(dir, fileControl)
	var all Control
	if err := known(readRecord(file, fileControl, 0, all.lines)); err != nil {
		return err
	}
	all.merge(k)
	if err := os.WriteFile(file+".new", formatRecord(fileControl, all.lines), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// lockDir waits for the lock on a run's directory, under which slotControl is written, so that two
// agents don't lose one's instruction: not for ever, as the run's own job may hold it.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPause) {
		err = flock(d, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil
}

// An agent holds the lock for a write; lockPause is between two looks whether it is free.
const (
	lockPatience = time.Second
	lockPause    = 5 * time.Millisecond
)

// signal sends a signal to a run's supervisor, if that lives. The pid can't come to mean another
// process in between where the kernel has pidfds.
func (a *agent) signal(dir string, sig unix.Signal) error {
	v, err := look(dir, a.bootID)
	p := v.launching
	if err == nil && p.PID == 0 && v.state == Launching && sig == unix.SIGCONT {
		wakeSupervisors(0) // it can't be told which of them has the order
	}
	if err != nil || p.PID == 0 || v.state.Final() {
		return err // not there yet, and it will look at slotControl by itself; or there no more
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	s, ok := readStat(p.PID)
	if !ok || s.startTime != p.StartTime {
		return nil
	}
	switch {
	case err == nil:
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	case !errors.Is(err, unix.ESRCH):
		err = unix.Kill(p.PID, sig)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal supervisor %d: %w", p.PID, err)
	}
	return nil
}

// patience is how long a supervisor may take to kill its tree, before we kill it and sweep up.
const patience = 5 * time.Second

// kill ends a run at once.
func (a *agent) kill(ctx context.Context, run RunID) error {
	err := a.control(run, Control{Cancel: true, Grace: -1})
	switch {
	case err == nil:
	case errors.Is(err, ErrNoRun), run.Valid() != nil:
		return err
	default: // its job may have spoiled its files: nobody can be told anything
		return a.sweepUp(run)
	}
	dir := runDir(a.root, run)
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v, err := a.awaitFinal(waiting, run)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		if err := a.signal(dir, unix.SIGKILL); err != nil {
			return err
		}
		v, err = a.awaitFinal(ctx, run)
	}
	if err == nil && v.State != Ended {
		return a.sweepUp(run)
	}
	return err
}

// sweepUp is sweep where the records haven't been looked at, and may not be readable.
func (a *agent) sweepUp(run RunID) error {
	v, err := look(runDir(a.root, run), a.bootID)
	if err != nil {
		v = view{} // a supervisor that is named in them may have another run by now
	}
	return a.sweep(run, v)
}

// awaitFinal waits until a run has a final state, or never had another.
func (a *agent) awaitFinal(ctx context.Context, run RunID) (PollReply, error) {
	r := PollRequest{Run: run, Wait: time.Minute}
	for {
		f := follower{agent: a, dir: runDir(a.root, run), request: r, quiet: true}
		p, err := f.follow(ctx)
		f.close()
		if err != nil || p.State.Final() || p.State == None {
			return p, err
		}
	}
}

// forgotten begins the names of directories that are being removed; no run's name begins so.
const forgotten = ".forgotten-"

func (a *agent) forgetAll(ctx context.Context, runs []RunID, force bool) error {
	var errs []error
	for _, run := range runs {
		errs = append(errs, a.forget(ctx, run, force))
	}
	return errors.Join(errs...)
}

// forget removes a run's directory. It is renamed first: one that lost only some of its files would
// look as if its command had never been started, or as if nobody knew.
func (a *agent) forget(ctx context.Context, run RunID, force bool) error {
	if err := run.Valid(); err != nil {
		return &Error{Kind: KindBadRequest, Msg: err.Error()}
	}
	dir := runDir(a.root, run)
	v, err := look(dir, a.bootID)
	if err != nil && !force {
		return fmt.Errorf("forget %s: %w", run.Name(), err)
	}
	switch {
	case err != nil, // its files can't be understood, and that is what force is for
		v.state == Vanished, v.state == Ambiguous, v.state == None:
		if err := a.sweepUp(run); err != nil {
			return err
		}
	case v.state == Launching, v.state == Running:
		if !force {
			return errorf(KindRunning, "forget %s: it is still running", run.Name())
		}
		if err := a.kill(ctx, run); err != nil {
			return err
		}
	}
	removeGroup(groupOf(run)) // of a supervisor that died
	trash := filepath.Join(filepath.Dir(dir), forgotten+filepath.Base(dir))
	if err := moveAside(dir, trash, os.Rename); err != nil {
		return fmt.Errorf("forget %s: %w", run.Name(), err)
	}
	if err := removeAll(trash); err != nil {
		return fmt.Errorf("forget %s: %w", run.Name(), err)
	}
	return nil
}

// moveAside renames a run's directory. That takes room on file systems that write nothing over in
// place, and where a run has filled a quota of btrfs, nothing but removing files makes any.
func moveAside(dir, trash string, rename func(old, new string) error) error {
	err := rename(dir, trash)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if isFull(err) {
		makeRoom(dir)
	}
	if err := removeAll(trash); err != nil { // the rest of an earlier attempt
		return err
	}
	return rename(dir, trash)
}

// makeRoom removes what may be large of a run that is over, and leaves its records: what began
// doesn't begin again. What can't be removed now is tried with the rest.
func makeRoom(dir string) {
	for _, name := range []string{
		fileOut, fileErr, fileMarks, fileWeave, fileStdin, dirScratch,
	} {
		_ = removeAll(filepath.Join(dir, name))
	}
	if f, err := os.Open(dir); err == nil {
		_ = unix.Syncfs(int(f.Fd())) // btrfs counts what was removed when it commits
		f.Close()
	}
}

// removeAll removes a tree, directories too that a job has made read-only.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && err == nil {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	// what could not be changed matters if it can't be removed either, and that says so
	return os.RemoveAll(dir)
}

// listPart is how many runs one part of a listing has at most.
const listPart = 256

// list sends what there is below a server's and a machine's id.
func (a *agent) list(ctx context.Context, r listRequest, s *serving) error {
	if r.Server != "" && !validPart(r.Server) || r.Machine != "" && !validPart(r.Machine) {
		return errorf(KindBadRequest, "list: %q and %q can't be ids", r.Server, r.Machine)
	}
	var part runInfos
	send := func() error {
		buf := replyTo(part.fields)
		part.Runs = part.Runs[:0]
		return s.part(ctx, buf)
	}
	err := eachName(runsDir(a.root), r.Server, func(server string) error {
		return eachName(filepath.Join(runsDir(a.root), server), r.Machine,
			func(machine string) error {
				return eachName(filepath.Join(runsDir(a.root), server, machine), "",
					func(name string) error {
						info := a.info(server, machine, name)
						if info == nil {
							return nil
						}
						if part.Runs = append(part.Runs, *info); len(part.Runs) == listPart {
							return send()
						}
						return nil
					})
			})
	})
	if err != nil || len(part.Runs) == 0 {
		return err
	}
	return send()
}

// info looks at one run for a listing, and takes the chance to remove what a forget that was cut
// has left. What is wrong with one run is no error of the listing: the host would take the machine
// for unreachable.
func (a *agent) info(server, machine, name string) *RunInfo {
	dir := filepath.Join(runsDir(a.root), server, machine, name)
	if strings.HasPrefix(name, forgotten) {
		// A file system may be mounted in it, or another user's files be left there, as containers
		// do.
		if err := removeAll(dir); err != nil {
			fmt.Fprintf(os.Stderr, "jobserver agent: remove what is left of a forgotten run: %v\n",
				err)
		}
		return nil
	}
	run, err := parseRunName(server, machine, name)
	if err != nil {
		return nil // not ours
	}
	v, err := look(dir, a.bootID)
	if err != nil {
		fmt.Fprintf(os.Stderr, "jobserver agent: look at run %s: %v\n", name, err)
		return &RunInfo{Run: run, State: Ambiguous}
	}
	info := &RunInfo{Run: run, State: v.state, StartedAt: v.started.At, Ending: v.ending,
		Exit: v.exit}
	if v.exit != nil {
		info.StartedAt = v.exit.StartedAt
	}
	switch v.state {
	case Launching, Running:
		info.PID = v.launching.PID
	case Vanished, Ambiguous:
		if v.launching.BootID == a.bootID {
			info.Living = len(family(run, v.launching))
		}
	}
	return info
}

// eachName calls f with each name in a directory, or with the
// only one that is asked for. No directory has no names.
func eachName(dir, only string, f func(name string) error) error {
	if only != "" {
		return f(only)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if err := f(e.Name()); err != nil {
			return err
		}
	}
	return nil
}
