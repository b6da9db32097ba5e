package agent

import (
	"bufio"
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

// order is what a supervisor gets from the agent that starts it, over a socket, so that secrets are in no file and no
// argument. The answer is a StartResult, as soon as the command runs. Both have their length in front (4 bytes).
type order struct {
	Spec     Spec
	RunDir   string   // absolute; the supervisor's working directory is the same
	BootID   string   // the machine's
	LoginDir string   // the agent's working directory
	Env      []string // the agent's environment
}

func (o *order) fields(c *coder) {
	nested(c, &o.Spec, func(c *coder, s *Spec) { s.fields(c) })
	c.string(&o.RunDir)
	c.string(&o.BootID)
	c.string(&o.LoginDir)
	list(c, &o.Env, func(c *coder, s *string) { c.string(s) })
}

// The descriptors that a supervisor inherits: 2 is the lock file, with the lock.
const orderFD = 3

// superviseEnv is a supervisor's own environment. It lives as long as its run and mostly sleeps: one thread at a time and
// no garbage collection before there is any garbage keep it small.
var superviseEnv = []string{"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=24MiB"}

// drainTime is how long processes that a command leaves behind may keep the run from ending, to finish writing what
// they are writing. Then they are killed: nothing runs on unsupervised.
const drainTime = time.Second

// SuperviseMain is `jobserver supervise RUN`. It is only of use to an agent, which passes the order on descriptor 3; the
// argument is there for people who look at the list of processes. Its exit code says nothing.
func SuperviseMain(args []string) int {
	// PDEATHSIG is sent when the thread that forked ends; the main goroutine keeps the main thread.
	runtime.LockOSThread()
	var st unix.Stat_t
	if len(args) != 1 || unix.Fstat(orderFD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		fmt.Fprintln(os.Stderr, "jobserver supervise: only an agent can start this")
		return 2
	}
	inheritNothing()
	socket := os.NewFile(orderFD, "order")
	var o order
	p, err := readMessage(bufio.NewReader(socket))
	if err == nil {
		err = decode(p, o.fields)
	}
	if err != nil {
		return 1 // the agent died: nothing has begun
	}
	s := &supervisor{order: o, id: o.Spec.Run, socket: socket}
	if err := s.supervise(); err != nil {
		s.answer(StartResult{Status: StartFailed, Reason: err.Error()})
		return 1
	}
	return 0
}

// inheritNothing keeps the descriptors that this process was started with, beyond the first three, from its children.
func inheritNothing() {
	if unix.CloseRange(orderFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	for fd := orderFD; fd < 1024; fd++ { // Linux before 5.11
		unix.CloseOnExec(fd)
	}
}

const maxOrder = 64 << 20

func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxOrder {
		return nil, errorf(KindProtocol, "a message of %d bytes", n)
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return p, err
}

func writeMessage(w io.Writer, p []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
	return err
}

// supervisor is the life of one run. Its goroutine is the main one; the streams have one each, and the clock too.
type supervisor struct {
	order
	id     RunID
	socket *os.File // to the agent that started us; nil once it has been answered

	exitFile *os.File
	pid      int // the command's, and its process group; 0: not running
	started  process
	begin    time.Duration // by CLOCK_BOOTTIME
	out, err stream
	copied   [2]chan struct{}
	pipes    [2]*os.File // the ends that we read; not to be asked for Fd, which would make them blocking
	pipeFDs  [2]int

	exit     Exit
	control  Control
	timer    *bootTimer
	drain    <-chan time.Time // set once the command has ended
	grace    <-chan time.Time // set once the run is being ended; passes at graceEnd
	graceEnd time.Time
}

// supervise returns an error only if the command certainly never began and there is no exit record.
func (s *supervisor) supervise() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	// Everything that could end us is caught and left without effect: what ends the machine's processes ends the command
	// too, and that is what we are here to record. Being caught, not ignored, none of it is inherited by the command.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGXFSZ, unix.SIGXCPU)
	children, instructions := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	signal.Notify(instructions, controlSignal)

	if err := s.prepare(); err != nil {
		return err
	}
	if s.readControl(); s.control.Cancel {
		s.exit.Cause = Canceled
		s.exit.StartedAt = time.Now()
		return s.finish()
	}
	if err := s.launch(); err != nil {
		s.exit.Cause, s.exit.Code, s.exit.StartError = NotStarted, -1, err.Error()
		if err := s.finish(); err != nil {
			return err
		}
		s.answer(StartResult{Status: StartFailed, Reason: s.exit.StartError})
		return nil
	}
	s.readControl() // one that came before our signal could reach us
	s.instruct()
	s.loop(children, instructions)
	return s.finish()
}

// controlSignal says that there is a control file.
const controlSignal = unix.SIGUSR1

// prepare makes the run's files, so that a disk without room for the exit record is found before the command begins.
func (s *supervisor) prepare() error {
	s.exit.BootID = s.BootID
	f, err := os.OpenFile(fileExit, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	s.exitFile = f
	if err := allocate(f, exitSize); err != nil {
		return fmt.Errorf("make room for the exit record: %w", err)
	}
	spec := specRecord{Command: string(s.Spec.Command), Dir: s.dir(), Timeout: s.Spec.Timeout, Grace: s.Spec.Grace, MaxLog: s.Spec.MaxLog}
	for _, word := range s.Spec.Argv {
		spec.Argv = append(spec.Argv, string(word))
	}
	if err := os.WriteFile(fileSpec, formatRecord(fileSpec, spec.lines), 0o600); err != nil {
		return err
	}
	if err := os.Mkdir(dirScratch, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for i, name := range [...]string{fileOut, fileErr} {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		stream := s.stream(i)
		stream.file, stream.max = f, s.Spec.MaxLog
		stream.said = func(dropped int64) { s.sayDropped(i, dropped) }
	}
	s.out.marks = &marks{create: func() (io.Writer, error) {
		return os.OpenFile(fileMarks, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}}
	me, _ := readStat(os.Getpid())
	launching := process{PID: os.Getpid(), StartTime: me.startTime, BootID: s.BootID, At: time.Now()}
	return os.WriteFile(fileLaunching, formatRecord(fileLaunching, launching.lines), 0o600)
}

func (s *supervisor) stream(i int) *stream {
	if i == 0 {
		return &s.out
	}
	return &s.err
}

// sayDropped tells who follows the run; the place was allocated with the exit record.
func (s *supervisor) sayDropped(i int, dropped int64) {
	p := binary.LittleEndian.AppendUint64(nil, uint64(dropped))
	// An error here is one of the disk that is losing the bytes: the stream has recorded it.
	_, _ = s.exitFile.WriteAt(p, int64(dropsAt+8*i))
}

// allocate gives a file its blocks. Where the file system can't promise them, zeros are written.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		_, err = f.Write(make([]byte, size))
	}
	return err
}

// dir is the command's working directory.
func (s *supervisor) dir() string {
	if filepath.IsAbs(s.Spec.Dir) {
		return s.Spec.Dir
	}
	return filepath.Join(s.LoginDir, s.Spec.Dir)
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
	path, err := lookPath(argv[0], s.dir(), env)
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	var write [2]int
	for i := range write {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		defer unix.Close(fds[1])
		write[i] = fds[1] // blocking, as a command expects it
		if err := unix.SetNonblock(fds[0], true); err != nil {
			return err
		}
		s.pipes[i], s.pipeFDs[i] = os.NewFile(uintptr(fds[0]), "pipe"), fds[0]
	}
	s.exit.StartedAt, s.begin = time.Now(), bootTime()
	s.pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir:   s.dir(),
		Env:   env,
		Files: []uintptr{null.Fd(), uintptr(write[0]), uintptr(write[1])},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		s.pid = 0
		return fmt.Errorf("execute %s in %s: %w", path, s.dir(), err)
	}
	stat, _ := readStat(s.pid)
	s.started = process{PID: s.pid, StartTime: stat.startTime, BootID: s.BootID, At: s.exit.StartedAt}
	if err := os.WriteFile(fileStarted, formatRecord(fileStarted, s.started.lines), 0o600); err != nil {
		// The command runs, and a record that is missing would only make its loss, should it be lost, look ambiguous.
		s.exit.LogError = err.Error()
	}
	s.answer(StartResult{Status: StartOK, StartedAt: s.exit.StartedAt})
	for i, size := range [...]int{256 << 10, 64 << 10} {
		stream := s.stream(i)
		stream.in = s.pipes[i]
		stream.grow = func() { growPipe(s.pipeFDs[i], size) }
		s.copied[i] = make(chan struct{})
		go func() {
			defer close(s.copied[i])
			stream.copy(make([]byte, size))
		}()
	}
	s.timer = newBootTimer()
	return nil
}

// growPipe lets a busy command write on while we write. Not done for all, since the kernel gives a user only so much.
func growPipe(fd, size int) {
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size) // a smaller pipe does too
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
	all = append(all, "JOBSERVER_SCRATCH="+filepath.Join(s.RunDir, dirScratch), envRun+"="+s.id.String())
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
	if s.socket != nil {
		_ = writeMessage(s.socket, encode(r.fields)) // an agent that died reads `started`, or its successor does
		s.socket.Close()
		s.socket = nil
	}
}

// finish writes the exit record, which ends the run, then answers an agent that still waits.
func (s *supervisor) finish() error {
	e := &s.exit
	e.EndedAt = time.Now()
	if e.StartedAt.IsZero() {
		e.StartedAt = e.EndedAt
	} else if s.begin != 0 {
		e.Duration = bootTime() - s.begin
	}
	e.OutLen, e.OutCRC, e.OutDropped = s.out.written, s.out.crc, s.out.dropped
	e.ErrLen, e.ErrCRC, e.ErrDropped = s.err.written, s.err.crc, s.err.dropped
	e.MarksLen, e.MarksDropped = s.out.marks.written, s.out.marks.dropped
	for _, err := range []error{s.out.err, s.err.err, s.out.marks.err} {
		if err != nil && e.LogError == "" {
			e.LogError = err.Error()
		}
	}
	if _, err := s.exitFile.WriteAt(e.format(), 0); err != nil {
		fmt.Fprintf(os.Stderr, "write the exit record: %v\n", err) // into the lock file
		return err
	}
	if e.Cause != NotStarted {
		s.answer(StartResult{Status: StartOK, StartedAt: e.StartedAt})
	}
	return nil
}
