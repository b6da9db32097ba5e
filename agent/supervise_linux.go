package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// superviseEnv is a supervisor's own environment. It mostly sleeps, beside experiments: one thread
// at a time and no garbage collection before there is any garbage keep it small.
var superviseEnv = []string{"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=24MiB"}

// drainTime is how long processes that a command leaves behind may keep the run from ending, to
// finish writing what they are writing. Then they are killed: nothing runs on unsupervised.
const drainTime = time.Second

// SuperviseMain is `jobserver supervise`. It is only of use to an agent, which sends orders on
// descriptor 3: one run at a time, and another only after a run of which nothing is left, since
// most of the cost of a short run is that of starting this process. It outlives its agent by the
// run that it has. Its exit code says nothing.
func SuperviseMain(args []string) int { return superviseMain(args, time.Now) }

// superviseMain has the wall clock as a parameter. It is only for what records say: it may jump.
// Whatever is measured or waited for goes by bootTime.
func superviseMain(args []string, wall func() time.Time) int {
	// PDEATHSIG is sent when the thread that forked ends; the main goroutine keeps its thread.
	runtime.LockOSThread()
	var st unix.Stat_t
	if len(args) != 0 || unix.Fstat(orderFD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		fmt.Fprintln(os.Stderr, "jobserver supervise: only an agent can start this")
		return 2
	}
	inheritNothing()
	adopts := adoptOrphans()
	signals, err := catchSignals()
	if err != nil {
		return 1
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 1
	}
	buf := make([]byte, copySize)
	for {
		if !awaitOrder(signals) {
			return 0 // nothing runs, so that nobody has to hear of it
		}
		o, lock, err := receiveOrder()
		if err != nil {
			return 0 // the agent has gone, or let us go
		}
		_ = unix.Dup3(lock, unix.Stderr, unix.O_CLOEXEC)
		s := &supervisor{order: o, id: o.Spec.Run, file: os.NewFile(uintptr(lock), fileRun),
			buf: buf, null: null, signals: signals, wall: wall, adopts: adopts}
		clean := s.run()
		s.file.Close()
		_ = unix.Dup3(null, unix.Stderr, unix.O_CLOEXEC) // lets go of the lock
		if !clean || unix.Chdir("/") != nil || writeMessage(orderSocket{}, nil) != nil {
			return 0
		}
	}
}

const (
	// copySize is how much output is read and written at once: a pipe's default capacity. Linux
	// takes longer pieces of memory for longer writes, and those cost a virtual machine more than
	// the system calls that they save.
	copySize = 64 << 10
	// pipeSize is how far a busy command may be ahead.
	pipeSize = 256 << 10
)

// inheritNothing keeps the descriptors that this process was
// started with, beyond the first three, from its children.
func inheritNothing() {
	if unix.CloseRange(orderFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	for fd := orderFD; fd < 1024; fd++ { // Linux before 5.11
		unix.CloseOnExec(fd)
	}
}

// Kinds of bytes that catchSignals puts into its pipe.
const (
	sawChild   = 'c' // a child has ended
	sawControl = 'i' // there is something in slotControl
	sawEnd     = 't' // we are told to end
)

// controlSignal says that there is something new in slotControl.
const controlSignal = unix.SIGUSR1

// catchSignals returns the reading end of a pipe that tells of signals. SIGTERM and SIGINT tell us
// to end: no part of this program sends them, but init does, to everything, before the machine goes
// down. What else could end us is caught and left without effect; SIGHUP too, which only says that
// a terminal is gone, and we have none. Being caught, not ignored, none of it is inherited by the
// command.
func catchSignals() (fd int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return -1, err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGCHLD, controlSignal,
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGXFSZ,
		unix.SIGXCPU)
	go func() { // for the life of the process
		for sig := range signals {
			switch sig {
			case unix.SIGCHLD:
				_, _ = unix.Write(fds[1], []byte{sawChild}) // a full pipe says enough
			case controlSignal:
				_, _ = unix.Write(fds[1], []byte{sawControl})
			case unix.SIGTERM, unix.SIGINT:
				_, _ = unix.Write(fds[1], []byte{sawEnd})
			}
		}
	}()
	return fds[0], nil
}

// supervisor is the life of one run. Everything happens on the main goroutine.
type supervisor struct {
	order
	id       RunID
	buf      []byte
	null     int // /dev/null
	signals  int // see catchSignals
	wall     func() time.Time
	answered bool
	adopts   bool    // what is orphaned below us becomes our child
	self     process // what our records say of us

	file     *os.File      // fileRun
	pid      int           // the command's, and its process group; 0: not running
	pidfd    int           // tells of its end; -1: SIGCHLD does
	begin    time.Duration // of the command, by bootTime
	end      time.Duration
	over     time.Duration // of all that it left behind, too
	out, err stream
	weave    weave
	pipes    [2]int // the ends that we read; -1: at its end
	owed     [2]int // bytes that were in them when the command ended, and have not been read
	timerfd  int    // the timeout; -1: none so far

	exit       Exit
	control    Control
	pause      pause
	group      group
	lastSignal int  // the number of the newest signal that was sent
	told       bool // we were told to end
	killed     bool // the tree was
	childless  bool // nothing is left of the command, nor of what it orphaned
	graceEnd   due  // when the tree is killed, once the run is being ended
	drainEnd   due  // when what is left of the tree is killed, once the command has ended
	drainUntil due  // when nothing more is read, once the tree has been killed
}

// run is a run from its order to its exit record. clean tells that nothing is left that could
// disturb another.
func (s *supervisor) run() (clean bool) {
	s.pipes, s.pidfd, s.timerfd = [2]int{-1, -1}, -1, -1
	defer s.close()
	if err := s.supervise(); err != nil {
		s.answer(StartResult{Status: StartFailed, Reason: err.Error()})
		return false
	}
	// A kill that is not obeyed in time is followed by SIGKILL, which must not hit the next run.
	s.readControl()
	return s.childless && s.exit.Left == 0 && !s.control.Cancel && !s.told && s.pause.since == 0
}

func (s *supervisor) close() {
	for _, fd := range [...]int{s.pipes[0], s.pipes[1], s.pidfd, s.timerfd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	s.out.close()
	s.err.close()
	s.weave.close()
}

// supervise returns an error only if the command certainly never began and there is no exit record.
func (s *supervisor) supervise() error {
	if err := unix.Chdir(s.RunDir); err != nil {
		return fmt.Errorf("change to %s: %w", s.RunDir, err)
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if s.readControl(); s.control.Cancel {
		s.exit.Cause = Canceled
		s.exit.StartedAt = s.wall()
		return s.finish()
	}
	if err := s.launch(); err != nil {
		s.exit.Cause, s.exit.Code, s.exit.StartError = NotStarted, -1, err.Error()
		if s.impossible(err) {
			s.exit.Code = impossibleCode
		}
		return s.finish()
	}
	s.readControl() // one that came before our signal could reach us
	s.instruct()
	s.loop()
	s.weave.note()
	s.over = bootTime()
	s.doubt()
	return s.finish()
}

// prepare makes the run's files, so that a disk without room for the records is found before the
// command begins.
func (s *supervisor) prepare() error {
	s.exit.BootID, s.childless = s.BootID, true
	if err := allocate(s.file, slotsSize); err != nil {
		return fmt.Errorf("make room for the run's records: %w", err)
	}
	spec := specRecord{Command: string(s.Spec.Command), Dir: s.dir(), Timeout: s.Spec.Timeout,
		Grace: s.Spec.Grace, MaxLog: s.Spec.MaxLog}
	for _, word := range s.Spec.Argv {
		spec.Argv = append(spec.Argv, string(word))
	}
	for _, p := range s.Spec.Env {
		if p.Name == CodeVariable {
			spec.Code = p.Value
		}
	}
	// Writing moves the offset behind the spec, to where standard error goes on.
	if _, err := s.file.Seek(slotsSize, io.SeekStart); err != nil {
		return err
	}
	if _, err := s.file.Write(formatRecord(fileSpec, spec.lines)); err != nil {
		return err
	}
	if err := os.Mkdir(dirScratch, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for i, name := range [...]string{fileOut, fileErr} {
		stream := s.stream(i)
		stream.create, stream.max = appendTo(name), s.Spec.MaxLog
		stream.said = func(dropped int64) { s.sayDropped(i, dropped) }
	}
	s.out.marks = &marks{create: appendTo(fileMarks)}
	s.weave.create = appendTo(fileWeave)
	me, _ := readStat(os.Getpid())
	s.self = process{PID: os.Getpid(), StartTime: me.startTime, BootID: s.BootID, At: s.wall(),
		ReadsSlot: true, Steers: true, Mark: markRun()}
	return slotLaunching.write(s.file, s.self.lines)
}

// appendTo makes a file when there is something to put into it.
func appendTo(name string) func() (io.WriteCloser, error) {
	return func() (io.WriteCloser, error) {
		return openPlain(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
	}
}

func (s *supervisor) stream(i int) *stream {
	if i == 0 {
		return &s.out
	}
	return &s.err
}

// sayDropped tells who follows the run; the place is allocated.
func (s *supervisor) sayDropped(i int, dropped int64) {
	p := binary.LittleEndian.AppendUint64(nil, uint64(dropped))
	// An error here is one of the disk that is losing the bytes: the stream has recorded it.
	_, _ = s.file.WriteAt(p, int64(dropsAt+8*i))
}

// allocate gives a file in the run's directory, the current one, its blocks.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = fill(f, size)
	}
	return err
}

// fill is allocate where the file system can't promise blocks: they are written, with what is in
// them already, which may be an instruction.
func fill(f *os.File, size int64) error {
	if unlock, err := lockDir("."); err == nil {
		defer unlock() // a directory that can't be locked, as on NFS, keeps agents from writing
	}
	p := make([]byte, size) // zeros where the file has no bytes yet
	if _, err := f.ReadAt(p, 0); err != nil && err != io.EOF {
		return err
	}
	_, err := f.WriteAt(p, 0)
	return err
}

// dir is the command's working directory.
func (s *supervisor) dir() string {
	if filepath.IsAbs(s.Spec.Dir) {
		return s.Spec.Dir
	}
	if rest, ok := strings.CutPrefix(s.Spec.Dir+"/", "~/"); ok {
		return filepath.Join(s.home(), rest)
	}
	return filepath.Join(s.LoginDir, s.Spec.Dir)
}

// home is the user's, where "~" stands for it.
func (s *supervisor) home() string {
	for _, v := range s.Env {
		if home, ok := strings.CutPrefix(v, "HOME="); ok && filepath.IsAbs(home) {
			return home
		}
	}
	return s.LoginDir
}

// errDir says that the directory which the run was to begin in can't be.
var errDir = errors.New("no run can begin there")

// checkDir finds out whether the directory that was asked for is one. Without one, the run begins
// at home, which is the machine's.
func (s *supervisor) checkDir() error {
	if s.Spec.Dir == "" {
		return nil
	}
	fi, err := os.Stat(s.dir())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s is not there: %w", s.dir(), errDir)
	case err == nil && !fi.IsDir():
		return fmt.Errorf("%s is not a directory: %w", s.dir(), errDir)
	case err == nil:
		err = unix.Access(s.dir(), unix.X_OK)
	}
	if err != nil {
		return fmt.Errorf("the directory %s: %w: %w", s.dir(), err, errDir)
	}
	return nil
}

// openStdin opens the command's standard input, which is /dev/null unless there is another.
func (s *supervisor) openStdin() (fd int, err error) {
	if len(s.Spec.Stdin) == 0 {
		return s.null, nil
	}
	if err := os.WriteFile(fileStdin, s.Spec.Stdin, 0o600); err != nil {
		return -1, fmt.Errorf("put its standard input there: %w", err)
	}
	fd, err = unix.Open(fileStdin, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open its standard input: %w", err)
	}
	return fd, nil
}

// impossible says of a start that went wrong that the command is to blame, and no machine could
// have started it: it is too long, or words can't be executed, or its own directory isn't there.
// Without a shell or a home, nothing starts on a machine.
func (s *supervisor) impossible(err error) bool {
	if errors.Is(err, unix.E2BIG) {
		return true
	}
	if errors.Is(err, errDir) {
		return true
	}
	if _, err := os.Stat(s.LoginDir); err != nil || len(s.Spec.Argv) == 0 {
		return false
	}
	for _, one := range [...]error{
		errNoCommand, unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ENOEXEC, unix.ELOOP,
		unix.ENAMETOOLONG, unix.EISDIR, unix.EINVAL,
	} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// launch starts the command and answers the agent.
func (s *supervisor) launch() error {
	env := s.environment()
	argv := []string{"/bin/sh", "-c", string(s.Spec.Command)}
	if len(s.Spec.Argv) > 0 {
		argv = argv[:0]
		for _, word := range s.Spec.Argv {
			argv = append(argv, string(word))
		}
	}
	if err := s.checkDir(); err != nil {
		return err
	}
	path, err := lookPath(argv[0], s.dir(), env)
	if err != nil {
		return err
	}
	stdin, err := s.openStdin()
	if err != nil {
		return err
	}
	if stdin != s.null {
		defer unix.Close(stdin)
	}
	var write [2]int
	for i := range write {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		defer unix.Close(fds[1])
		s.pipes[i], write[i] = fds[0], fds[1]
		if err := unix.SetNonblock(fds[0], true); err != nil {
			// the command's end is blocking, as it expects it
			return err
		}
		s.stream(i).grow = func() { growPipe(fds[0]) }
	}
	sys := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL, PidFD: &s.pidfd}
	if err := s.limitMemory(sys); err != nil {
		return err
	}
	unpin, err := s.pin()
	if err != nil {
		return err
	}
	s.exit.StartedAt, s.begin = s.wall(), bootTime()
	s.pid, err = forkExec(path, argv, &syscall.ProcAttr{
		Dir:   s.dir(),
		Env:   env,
		Files: []uintptr{uintptr(stdin), uintptr(write[0]), uintptr(write[1])},
		Sys:   sys,
	})
	unpin()
	if err != nil {
		s.pid = 0
		return fmt.Errorf("execute %s in %s: %w", path, s.dir(), err)
	}
	s.childless = false
	stat, _ := readStat(s.pid)
	started := process{PID: s.pid, StartTime: stat.startTime, BootID: s.BootID,
		At: s.exit.StartedAt}
	if err := slotStarted.write(s.file, started.lines); err != nil {
		// The command runs, and a record that is missing would only
		// make its loss, should it be lost, look ambiguous.
		s.exit.LogError = err.Error()
	}
	s.answer(StartResult{Status: StartOK, StartedAt: s.exit.StartedAt})
	return nil
}

// growPipe lets a busy command write on while we write. Not
// done for all, since the kernel gives a user only so much.
func growPipe(fd int) {
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize) // a smaller pipe does too
}

// environment is the command's: later settings replace earlier ones.
func (s *supervisor) environment() []string {
	all := s.Env
	for _, p := range s.Spec.Env {
		all = append(all, p.Name+"="+p.Value)
	}
	for _, p := range s.Spec.Secrets {
		all = append(all, "JOBSERVER_"+p.Name+"="+p.Value)
	}
	all = append(all, "JOBSERVER_SCRATCH="+filepath.Join(s.RunDir, dirScratch), envRun+"="+
		s.id.String())
	at := make(map[string]int, len(all))
	env := all[:0:0]
	for _, v := range all {
		name, _, _ := strings.Cut(v, "=")
		if i, ok := at[name]; ok {
			env[i] = v
			continue
		}
		at[name] = len(env)
		env = append(env, v)
	}
	return env
}

// answer tells the agent, if it still lives.
func (s *supervisor) answer(r StartResult) {
	if !s.answered {
		s.answered = true
		// after an agent's death its successor reads `started`
		_ = writeMessage(orderSocket{}, encode(r.fields))
	}
}

// finish writes the exit record, which ends the run, then answers an agent that still waits.
func (s *supervisor) finish() error {
	e := &s.exit
	e.OOM = s.group.leave()
	e.EndedAt = s.wall()
	if e.StartedAt.IsZero() {
		e.StartedAt = e.EndedAt
	} else if s.over != 0 { // doubt comes after it
		e.Paused = s.pause.until(s.over)
		e.Duration = s.over - s.begin - e.Paused
		e.EndedAt = e.EndedAt.Add(s.over - bootTime())
	}
	e.OutLen, e.OutCRC, e.OutDropped = s.out.written, s.out.crc, s.out.dropped
	e.ErrLen, e.ErrCRC, e.ErrDropped = s.err.written, s.err.crc, s.err.dropped
	e.MarksLen, e.MarksDropped = s.out.marks.written, s.out.marks.dropped
	for _, err := range []error{s.out.err, s.err.err, s.out.marks.err} {
		if err != nil && e.LogError == "" {
			e.LogError = err.Error()
		}
	}
	e.Overlooked = s.out.marks.overlooked(s.dir())
	e.shorten()
	if err := slotExit.write(s.file, e.lines); err != nil {
		fmt.Fprintf(os.Stderr, "write the exit record: %v\n", err)
		return err
	}
	if e.Cause == NotStarted {
		s.answer(e.notStarted())
	} else {
		s.answer(StartResult{Status: StartOK, StartedAt: e.StartedAt})
	}
	return nil
}
