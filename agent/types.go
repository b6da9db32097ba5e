package agent

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// RunID names one run: one step of one attempt of a job, and its directory
// ROOT/runs/<Server>/<Machine>/<Job>.<Attempt>.<Step>-<Token> on a machine. Token is random and
// chosen by the host before the first start; a start repeated with it never runs twice.
type RunID struct {
	Server, Machine string
	Job             uint64
	Attempt, Step   uint32
	Token           string
}

// Name is the last element of the run's directory.
func (id RunID) Name() string {
	return fmt.Sprintf("%d.%d.%d-%s", id.Job, id.Attempt, id.Step, id.Token)
}

// String is the run's directory below ROOT/runs.
func (id RunID) String() string { return id.Server + "/" + id.Machine + "/" + id.Name() }

// Valid tells whether the id can name a directory: Server, Machine
// and Token are 1 to 64 of the characters A–Z a–z 0–9 _ and -.
func (id RunID) Valid() error {
	for _, part := range [...]struct{ what, s string }{{"server", id.Server},
		{"machine", id.Machine}, {"token", id.Token}} {
		if !validPart(part.s) {
			return fmt.Errorf("run id: %s %q is not 1 to 64 letters, digits, _ or -", part.what,
				part.s)
		}
	}
	return nil
}

func validPart(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' ||
			c == '-') {
			return false
		}
	}
	return true
}

// parseRunName is the inverse of RunID.Name.
func parseRunName(server, machine, name string) (RunID, error) {
	id := RunID{Server: server, Machine: machine}
	numbers, token, ok := strings.Cut(name, "-")
	fields := strings.Split(numbers, ".")
	if !ok || len(fields) != 3 {
		return RunID{}, fmt.Errorf("%q does not name a run", name)
	}
	job, err1 := strconv.ParseUint(fields[0], 10, 64)
	attempt, err2 := strconv.ParseUint(fields[1], 10, 32)
	step, err3 := strconv.ParseUint(fields[2], 10, 32)
	if err := errors.Join(err1, err2, err3); err != nil {
		return RunID{}, fmt.Errorf("%q does not name a run: %w", name, err)
	}
	id.Job, id.Attempt, id.Step, id.Token = job, uint32(attempt), uint32(step), token
	if id.Name() != name {
		return RunID{}, fmt.Errorf("%q does not name a run", name)
	}
	return id, id.Valid()
}

// Pair is a name with its value: a variable of the environment, or a secret.
type Pair struct{ Name, Value string }

// Spec is everything that a run needs. Either Command or Argv is set.
type Spec struct {
	Run RunID
	// the machine's, as the host last saw it; a start on any other is refused. Empty: any
	BootID string

	Command []byte   // given to /bin/sh -c
	Argv    [][]byte // run as it is, Argv[0] looked up in the run's PATH when it has no slash

	Env []Pair // added to the environment that the agent was started with
	// exported as JOBSERVER_<Name>; they are in no file and no argument on the machine
	Secrets []Pair
	// working directory; relative ones start at the login directory, which is also the default, and
	// ~ is the home
	Dir string

	// counted from the run's start, suspended time included, by a clock that never jumps; 0: none
	Timeout time.Duration
	// between SIGTERM and the end of the whole tree; 0: DefaultGrace, negative: none
	Grace  time.Duration
	MaxLog int64  // bytes kept of each stream; 0: all
	Stdin  []byte // its standard input, at most MaxStdin; none: /dev/null
	CPUs   []int  // that it may run on; none: all that the agent may
	// Memory is how many bytes it may use, all its processes together; 0: any number. Only on a
	// machine whose Facts say that it LimitsMemory.
	Memory int64
}

// MaxStdin is how long a standard input may be: it goes with every start.
const MaxStdin = 1 << 20

// DefaultGrace is how long a canceled run may take to end by itself.
const DefaultGrace = 10 * time.Second

// What a run may put into its marks. What exceeds it is dropped and counted in Exit.MarksDropped.
const (
	MaxMarkLine = 64 << 10 // bytes of one line, without its newline
	MaxMarks    = 16 << 20 // bytes of all lines of a run
)

// StartStatus says what became of a start.
type StartStatus uint8

const (
	// StartOK: the run was started, by this call or an earlier one with the same token.
	StartOK StartStatus = iota
	// StartOtherBoot: the machine's boot id is not the one in the Spec. Nothing was started.
	StartOtherBoot
	// StartAmbiguous: an earlier start was cut so that nobody can tell whether the command ran. It
	// is not started again: the attempt is lost.
	StartAmbiguous
	// StartFailed: the command did not run, for the reason given: a full disk, a missing directory,
	// words that can't be executed. The run may be started again with the same token unless its
	// State is Ended.
	StartFailed
	// StartImpossible is StartFailed where the command is to blame: no machine could start it.
	// Daemons that don't know of it take it as StartFailed, and agents that don't never answer it.
	StartImpossible
)

// StartResult is the outcome of one Spec of a Start.
type StartResult struct {
	Status StartStatus
	// by the machine's clock; zero unless StartOK, and when a cancel came before the start
	StartedAt time.Time
	Reason    string // empty when StartOK
}

// Err is nil for StartOK; else it wraps ErrOtherBoot, ErrAmbiguous or ErrNotStarted.
func (r StartResult) Err() error {
	switch r.Status {
	case StartOK:
		return nil
	case StartOtherBoot:
		return &Error{Kind: KindOtherBoot, Msg: r.Reason}
	case StartAmbiguous:
		return &Error{Kind: KindAmbiguous, Msg: r.Reason}
	default:
		return &Error{Kind: KindNotStarted, Msg: r.Reason}
	}
}

// impossibleCode is the Code of an Exit whose command no machine could start.
const impossibleCode = -2

// Impossible says of a run that was not started that no machine could have.
func (e *Exit) Impossible() bool { return e.Cause == NotStarted && e.Code == impossibleCode }

// notStarted is the answer to a start that ended like this.
func (e *Exit) notStarted() StartResult {
	if e.Impossible() {
		return StartResult{Status: StartImpossible, Reason: e.StartError}
	}
	return StartResult{Status: StartFailed, Reason: e.StartError}
}

// State tells what a run's directory says about it.
type State uint8

const (
	// None: there is no such run, or one that was claimed and certainly never launched its command.
	None State = iota
	// Launching: its supervisor lives and is about to start the command.
	Launching
	// Running: its supervisor and its command live.
	Running
	// Ended: there is an exit record.
	Ended
	// Vanished: its command had been started, and its supervisor died without an exit record, or
	// with the machine. The command died with it. The attempt is lost.
	Vanished
	// Ambiguous: its supervisor died while it launched the command; nobody knows whether it ran.
	// Lost too. In a listing also a run whose records can't be read, of which Poll gives the error.
	Ambiguous
)

func (s State) String() string {
	names := [...]string{"none", "launching", "running", "ended", "vanished", "ambiguous"}
	if int(s) < len(names) {
		return names[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// Final tells whether the run will never change again.
func (s State) Final() bool { return s == Ended || s == Vanished || s == Ambiguous }

// Cause is why a run ended: the first of these that its supervisor recorded.
type Cause uint8

const (
	NoCause    Cause = iota
	Exited           // by itself: Code or Signal say how
	Canceled         // by Control; Code or Signal say how the command took it
	TimedOut         // likewise, by its Timeout
	NotStarted       // the command could not be executed: Exit.StartError
	// ShutDown: the supervisor itself was told to end (SIGTERM or SIGINT), as init does with
	// everything before the machine goes down. Code and Signal say how the command took it; how it
	// would have ended nobody knows.
	ShutDown
)

var causeNames = [...]string{"", "exited", "canceled", "timed out", "not started", "shut down"}

func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "cause " + strconv.Itoa(int(c))
}

// Exit is a run's exit record. The slot `exit` of the file `run` holds it; see rundir.go.
type Exit struct {
	Cause Cause
	// the command's exit code; -1 when a signal ended it, or it wasn't started; see Impossible
	Code       int
	Signal     int           // the signal's number; 0: none
	SignalName string        // such as SIGKILL
	StartedAt  time.Time     // the machine's clock
	EndedAt    time.Time     // when nothing of it was left
	Duration   time.Duration // until then, by a clock that never jumps, suspended time included

	UserCPU   time.Duration // of all processes of the run (wait4's rusage)
	SystemCPU time.Duration
	// of the biggest process; at least the supervisor's own few MB, which execve hands on
	MaxRSS int64
	BootID string

	OutLen       int64 // bytes in the files out, err and marks
	ErrLen       int64
	MarksLen     int64
	OutCRC       uint32 // CRC-32C (Castagnoli) of the files
	ErrCRC       uint32
	OutDropped   int64 // bytes that MaxLog or a failing disk kept out
	ErrDropped   int64
	MarksDropped int64  // lines that a limit or a failing disk kept out
	LogError     string // the first error of writing any of them
	StartError   string
	// Overlooked is a line of standard output that was not taken for a RESULTS line, and names
	// something that is there as if it were one; "" for none. What it names is still in the run's
	// directory, if it was there.
	Overlooked string
	Killed     int // processes left over at the end, which were killed
	Left       int // those that could not be: they run as another user
	// Paused is how long it was stopped in all; Duration is without that.
	Paused time.Duration
	OOM    bool // it was ended as it had used up its Memory
}

// MarkKind tells the kinds of lines that a run puts into its marks.
type MarkKind uint8

const (
	Results     MarkKind = iota + 1 // RESULTS: PATH
	Measurement                     // METRIC: TEXT
)

// Mark is a line of a run's standard output that says something to us. Text is what stands behind
// the prefix (`RESULTS:` or `METRIC:`), byte for byte, but for blanks around it and what only
// colours it.
type Mark struct {
	Kind MarkKind
	Text string
}

// PollRequest follows a run. Offsets count bytes from the start of the stream.
type PollRequest struct {
	Run                      RunID
	OutOff, ErrOff, MarksOff int64

	Wait time.Duration // how long to wait when there is nothing to say; 0: answer at once
	// Linger is how much longer to wait for more once there are bytes, so that a short run needs
	// one call and a chatty one not a call a line; 0: DefaultLinger, negative: none. Much data is
	// never delayed.
	Linger time.Duration
	// Ending is the cause that the host knows already; a reply comes as soon as there is another.
	Ending Cause
	// Pauses is the Pause.Changes that the host knows already; likewise.
	Pauses int
	// Weave asks for the order of the streams, too, from its byte WeaveOff on. It comes when there
	// is something else to say; see Weave.
	Weave    bool
	WeaveOff int64
	// Most is after how many bytes of output a reply comes, although there are more; 0: after a
	// second. Agents that don't know it take it for 0.
	Most int64
}

// OutputRequest asks for the bytes of one of a run's streams from Off up to Until.
type OutputRequest struct {
	Run        RunID
	Stream     Stream
	Off, Until int64
}

// Pause says whether a run is stopped where it is. The slot `pause` of the file `run` holds it.
type Pause struct {
	Changes int           // counts pauses and continuations
	On      bool          // it is stopped
	At      time.Time     // of the newest change, by the machine's clock
	Total   time.Duration // how long it was stopped before that
	Left    int           // processes that go on: they run as another user
}

// DefaultLinger is the delay that nobody notices in a log.
const DefaultLinger = 5 * time.Millisecond

// Stream is one of a command's two.
type Stream byte

const (
	Stdout Stream = iota
	Stderr
	streams // how many there are
)

// Weave is not a stream of the command's: it stands for what says in which order the two came, a
// list of uvarints: so many bytes of standard output, so many of standard error, and so on in turn.
// What the list leaves is all of one stream; where it isn't, the order is not known.
const Weave = streams

// PollReply has what a run has to say, besides what it has written.
type PollReply struct {
	State     State
	StartedAt time.Time
	Bytes     int64 // of output that came with this poll, as Client counts them
	Marks     []Mark
	MarksOff  int64 // the next request's
	// Ending is set from the moment at which the supervisor has recorded why the run will end: the
	// acknowledgement of a cancel. A canceled run may still take its grace.
	Ending Cause
	// OutDropped and ErrDropped are at least this many bytes while the run lasts; Exit has the
	// exact number.
	OutDropped, ErrDropped int64
	// Exit is set when the run has ended and this and earlier polls have handed out all of out, err
	// and marks.
	Exit  *Exit
	Pause Pause
	// Sizes is how long the streams are by now; 0 where the agent doesn't say it.
	Sizes [streams]int64

	short [streams][]byte // output that came in the reply
	weave []byte
}

// Control is an instruction to a running supervisor.
// Instructions add up: a cancel stays, the last timeout counts, and so does the last pause.
type Control struct {
	Cancel     bool
	Grace      time.Duration // replaces the Spec's if not 0; negative: none
	SetTimeout bool
	// as in Spec: from the run's start, without the time that it was paused; 0: none any more
	Timeout  time.Duration
	SetPause bool
	Pause    bool // stop the run's processes where they are, or let them go on
	Signal   int  // is sent to the command and its process group, once; 0: none

	sent [maxSignals]sentSignal // in slotControl: the newest of them, oldest first
}

// maxSignals is how many signals may wait for a supervisor: those before them are forgotten.
const maxSignals = 8

// sentSignal is a signal with its number in the order of a run's, from 1.
type sentSignal struct{ Seq, Signal int }

// RunInfo is a run in a listing.
type RunInfo struct {
	Run       RunID
	State     State
	StartedAt time.Time // zero if it never started
	PID       int       // of the supervisor, while it lives
	Ending    Cause
	Exit      *Exit // when Ended
	Living    int   // when Vanished or Ambiguous: processes of it that live all the same
}

// Over tells whether nothing of the run lives.
func (i RunInfo) Over() bool { return i.Living == 0 && (i.State.Final() || i.State == None) }

// Facts describe a machine. What can't be found out is zero.
type Facts struct {
	BootID, OS, Arch, Kernel, Hostname, CPUModel string
	User, Home                                   string
	// where runs are kept; the host hands it to every later agent
	Root        string
	Cores       int // that processes of this user may use
	MemoryBytes int64
	FreeBytes   int64 // free for this user on Root's file system
	Load1       float64
	Now         time.Time // the machine's clock, when it answered
	// KillsUserProcesses: systemd-logind ends what a login leaves behind, so that runs die with the
	// connection unless lingering is enabled for the user (loginctl enable-linger).
	KillsUserProcesses bool
	GPUs               []GPU  // in the order of the bus, at most maxGPUs
	CPUs               []CPU  // that processes of this user may use, at most maxCPUs
	LimitsMemory       bool   // what a run may use of memory can be limited: tried
	MemoryWhy          string // why it can't; "" of an older agent too
	// NoSubreaper: a process that is orphaned below a supervisor isn't given to it, as an emulated
	// kernel knows no subreapers. It is found by what it has inherited, but what it used of the
	// processor isn't counted.
	NoSubreaper bool
}

// CPU is a logical processor: CPUs of one core are its hyper-threads.
type CPU struct{ ID, Core, Package int }

// GPU is a device that jobs can be given.
type GPU struct {
	// that never changes: GPU-… as the libraries of its maker know it, else its address on the bus
	ID     string
	Vendor string // VendorNVIDIA or VendorAMD
}

// The makers of GPUs that are looked for.
const (
	VendorNVIDIA = "nvidia"
	VendorAMD    = "amd"
)
