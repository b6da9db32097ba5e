package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The files of a run's directory. There are as few as can be: on some file systems making one takes
// longer than running a short command. Whoever holds the lock writes them: an agent up to the start
// of the supervisor, which inherits the lock, then the supervisor. Only slotControl is written by
// agents.
const (
	// fileRun has the run's records, each in a place of its own; see slots. It is locked (an
	// open-file-description lock on all of it) from the claim to the supervisor's end. It is the
	// supervisor's standard error too: what stands behind the spec is what the supervisor died of.
	fileRun = "run"
	// fileOut and fileErr are what the command wrote, byte for byte. Made with the first byte.
	fileOut, fileErr = "out", "err"
	// fileMarks has the RESULTS and METRIC lines of standard
	// output, whole, each with a newline. Made with the first.
	fileMarks = "marks"
	// fileWeave says in which order the bytes of fileOut and fileErr came; see weave. Made when
	// both have some.
	fileWeave = "weave"
	// fileControl is what supervisors read that don't know slotControl: a record that is renamed
	// into place.
	fileControl = "control"
	// fileStdin is the command's standard input, if it has one.
	fileStdin = "stdin"
	// dirScratch is JOBSERVER_SCRATCH, the run's to do with as it likes.
	dirScratch = "scratch"
)

// A slot is a record's place in fileRun: from offset at, size bytes, zero behind the record
// and before it is written. All have their blocks before the command begins, so that none is
// lost to a full disk. Each is written in one piece, and all but slotControl and slotPause once.
type slot struct {
	name     string
	at, size int
}

var (
	// slotLaunching is the supervisor. It is written before the command is forked: without it, the
	// command was certainly never started.
	slotLaunching = slot{"launching", 0, 512}
	// slotStarted is the command's process. Without it and without exit, but with launching, nobody
	// knows.
	slotStarted = slot{"started", 512, 512}
	// slotEnding is the cause of a cancel or timeout, written before the first signal.
	slotEnding = slot{"ending", 1024, 512}
	// slotExit is the Exit, written when nothing of the run is left.
	slotExit = slot{"exit", 2048, 4096}
	// slotControl holds what agents tell the supervisor. Later records contain what earlier ones
	// said.
	// It may be there before anything else, while a run is claimed.
	slotControl = slot{"control", 6144, 512}
	// slotPause is the Pause, written at each change of it.
	slotPause = slot{"pause", 6656, 512}
)

const (
	// dropsAt is the place of two little-endian 64-bit numbers,
	// the bytes of out and err dropped so far, at least.
	dropsAt = 1536
	// slotsSize is the length of all slots. The record of what was asked for, without secrets,
	// follows.
	slotsSize = 8192
	fileSpec  = "spec"
)

// parse reads a slot's record out of the beginning of fileRun.
func (s slot) parse(p []byte, lines func(*liner)) error {
	if len(p) < s.at+s.size {
		return errNoRecord
	}
	return parseRecord(s.name, p[s.at:s.at+s.size], lines)
}

// write puts a record into its slot.
func (s slot) write(f io.WriterAt, lines func(*liner)) error {
	p := formatRecord(s.name, lines)
	if len(p) > s.size {
		return fmt.Errorf("the record %s has %d bytes, more than %d", s.name, len(p), s.size)
	}
	_, err := f.WriteAt(p, int64(s.at))
	return err
}

// runsDir is where the runs are below ROOT.
func runsDir(root string) string { return filepath.Join(root, "runs") }

func runDir(root string, id RunID) string {
	return filepath.Join(root, "runs", id.Server, id.Machine, id.Name())
}

// process names a process beyond the reuse of its pid: StartTime is in clock ticks since boot
// (proc(5), stat 22).
type process struct {
	PID       int
	StartTime uint64
	BootID    string
	At        time.Time
	// of a supervisor: it looks for instructions in slotControl, not in fileControl
	ReadsSlot bool
	Steers    bool   // of a supervisor: it knows of pauses and signals
	Mark      uint64 // of a supervisor: its run's; see markRun
}

func (p *process) lines(l *liner) {
	keyInt(l, "pid", &p.PID)
	keyInt(l, "start_time", &p.StartTime)
	l.string("boot_id", &p.BootID)
	l.time("at", &p.At)
	l.bool("reads_slot", &p.ReadsSlot)
	l.bool("steers", &p.Steers)
	keyInt(l, "mark", &p.Mark)
}

// ending says that a run is being ended, and why.
type ending struct {
	Cause Cause
	At    time.Time
}

func (e *ending) lines(l *liner) {
	l.cause("cause", &e.Cause)
	l.time("at", &e.At)
}

func (k *Control) lines(l *liner) {
	l.bool("cancel", &k.Cancel)
	keyInt(l, "grace_ns", &k.Grace)
	l.bool("set_timeout", &k.SetTimeout)
	keyInt(l, "timeout_ns", &k.Timeout)
	l.bool("set_pause", &k.SetPause)
	l.bool("pause", &k.Pause)
	for i := range k.sent {
		keyInt(l, fmt.Sprintf("signal%d_seq", i), &k.sent[i].Seq)
		keyInt(l, fmt.Sprintf("signal%d", i), &k.sent[i].Signal)
	}
}

func (p *Pause) lines(l *liner) {
	keyInt(l, "changes", &p.Changes)
	l.bool("on", &p.On)
	l.time("at", &p.At)
	keyInt(l, "total_ns", &p.Total)
	keyInt(l, "left", &p.Left)
}

// merge adds a later instruction to the earlier ones.
func (k *Control) merge(later Control) {
	k.Cancel = k.Cancel || later.Cancel
	if later.Grace != 0 {
		k.Grace = later.Grace
	}
	if later.SetTimeout {
		k.SetTimeout, k.Timeout = true, later.Timeout
	}
	if later.SetPause {
		k.SetPause, k.Pause = true, later.Pause
	}
	newest := &k.sent[maxSignals-1]
	if later.sent[maxSignals-1].Seq > newest.Seq {
		k.sent = later.sent
	}
	if later.Signal != 0 {
		next := sentSignal{newest.Seq + 1, later.Signal}
		copy(k.sent[:], k.sent[1:])
		*newest = next
	}
}

// read reads slotControl. A record that can't be understood says nothing: the next one is written
// over it.
func (k *Control) read(f io.ReaderAt) error {
	p := make([]byte, slotControl.size) // zeros where the file has no bytes yet
	if _, err := f.ReadAt(p, int64(slotControl.at)); err != nil && err != io.EOF {
		return err
	}
	var found Control
	if parseRecord(slotControl.name, p, found.lines) == nil {
		*k = found
	}
	return nil
}

// specRecord keeps what is worth knowing of a Spec later on. Dir is absolute.
type specRecord struct {
	Command        string
	Argv           []string
	Dir            string
	Timeout, Grace time.Duration
	MaxLog         int64
	Code           string // the directory of the code that it has; see code_linux.go
}

func (s *specRecord) lines(l *liner) {
	l.string("command", &s.Command)
	n := len(s.Argv)
	keyInt(l, "words", &n)
	if l.keys != nil {
		s.Argv = make([]string, max(0, min(n, len(l.keys))))
	}
	for i := range s.Argv {
		l.string(fmt.Sprintf("word%d", i), &s.Argv[i])
	}
	l.string("dir", &s.Dir)
	keyInt(l, "timeout_ns", &s.Timeout)
	keyInt(l, "grace_ns", &s.Grace)
	keyInt(l, "max_log", &s.MaxLog)
	l.string("code", &s.Code)
}

func (e *Exit) lines(l *liner) {
	l.cause("cause", &e.Cause)
	keyInt(l, "code", &e.Code)
	keyInt(l, "signal", &e.Signal)
	l.string("signal_name", &e.SignalName)
	l.time("started_at", &e.StartedAt)
	l.time("ended_at", &e.EndedAt)
	keyInt(l, "duration_ns", &e.Duration)
	keyInt(l, "user_cpu_ns", &e.UserCPU)
	keyInt(l, "system_cpu_ns", &e.SystemCPU)
	keyInt(l, "max_rss_bytes", &e.MaxRSS)
	l.string("boot_id", &e.BootID)
	keyInt(l, "out_len", &e.OutLen)
	keyInt(l, "err_len", &e.ErrLen)
	keyInt(l, "marks_len", &e.MarksLen)
	keyInt(l, "out_crc32c", &e.OutCRC)
	keyInt(l, "err_crc32c", &e.ErrCRC)
	keyInt(l, "out_dropped", &e.OutDropped)
	keyInt(l, "err_dropped", &e.ErrDropped)
	keyInt(l, "marks_dropped", &e.MarksDropped)
	l.string("log_error", &e.LogError)
	l.string("start_error", &e.StartError)
	keyInt(l, "killed", &e.Killed)
	keyInt(l, "left", &e.Left)
	l.string("overlooked", &e.Overlooked)
	keyInt(l, "paused_ns", &e.Paused)
	l.bool("oom", &e.OOM)
}

// maxOverlooked is how much is kept of a line that may have been meant as a RESULTS line, in bytes.
const maxOverlooked = 300

// shorten cuts the texts until the record fits into its slot.
func (e *Exit) shorten() {
	e.Overlooked = e.Overlooked[:min(len(e.Overlooked), maxOverlooked)]
	for len(formatRecord(slotExit.name, e.lines)) > slotExit.size {
		e.LogError, e.StartError = e.LogError[:len(e.LogError)/2],
			e.StartError[:len(e.StartError)/2]
	}
}

// readRecord reads a record that is a file, or begins at an offset of one. The error is errNoRecord
// if it isn't there or isn't finished.
func readRecord(file, name string, offset int64, lines func(*liner)) error {
	f, err := openPlain(file, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return errNoRecord
	}
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := io.ReadAll(io.NewSectionReader(f, offset, maxRecord))
	if err != nil {
		return err
	}
	return parseRecord(name, p, lines)
}

// openPlain opens a file of a run's directory. Its job may have put something else there: who opens
// a pipe would wait for its other end, and with it all who wait for the agent.
func openPlain(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file any more", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// maxRecord bounds what is read of a record; a spec has a command, which execve limits to less.
const maxRecord = 16 << 20
