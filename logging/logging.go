package logging

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	_ "embed"
)

// defaultYAML applies without a configuration.
//
//go:embed default.yml
var defaultYAML []byte

// StateVariable stands for the daemon's state directory in the paths of a
// configuration: $ENV{JOBSERVER_STATE}. It isn't taken from the environment.
const StateVariable = "JOBSERVER_STATE"

// Options says what a Log is made from. Everything that isn't set is taken
// from the process.
type Options struct {
	// ConfigPath is the configuration. Without one, lines of level info and
	// above go to stderr and to server.log in StateDir, which is rolled.
	ConfigPath string
	// StateDir is the daemon's state directory, made if it isn't there and
	// there is no ConfigPath.
	StateDir string

	Stdout, Stderr io.Writer                   // os.Stdout and os.Stderr
	Now            func() time.Time            // time.Now; for rolling by time and $TIME
	Location       *time.Location              // time.Local; the zone of {d}
	LookupEnv      func(string) (string, bool) // os.LookupEnv
}

// Log is a running configuration. Its methods may be called by any number of
// goroutines.
type Log struct {
	opt            Options
	stdout, stderr *console
	current        atomic.Pointer[config] // never nil
	sources        sources
	scratch        sync.Pool     // of *scratch
	rescheduled    chan struct{} // holds one: refresh_rate may have changed

	mu     sync.Mutex      // held while a configuration is taken over
	known  map[string]bool // absolute paths of all log files ever opened
	source []byte          // of the configuration that was last looked at
	stamp  stamp           // of its file
	closed bool
}

// Open reads the configuration and opens its files. Its error says which
// line can't be read, and what to do; what can be left out isn't an error
// but is said on stderr. The caller closes the Log, and runs [Log.Run].
func Open(opt Options) (*Log, error) {
	if opt.Stdout == nil {
		opt.Stdout = os.Stdout
	}
	if opt.Stderr == nil {
		opt.Stderr = os.Stderr
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Location == nil {
		opt.Location = time.Local
	}
	if opt.LookupEnv == nil {
		opt.LookupEnv = os.LookupEnv
	}
	l := &Log{
		opt:         opt,
		stdout:      newConsole(opt.Stdout),
		stderr:      newConsole(opt.Stderr),
		rescheduled: make(chan struct{}, 1),
		known:       map[string]bool{},
	}
	l.scratch.New = func() any { return new(scratch) }
	l.current.Store(emptyConfig())
	if err := l.start(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) start() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opt.ConfigPath == "" {
		if l.opt.StateDir == "" {
			return errors.New("set up logging: there is neither a configuration nor a state " +
				"directory")
		}
		if err := os.MkdirAll(l.opt.StateDir, 0o700); err != nil {
			return fmt.Errorf("make the state directory: %w", err)
		}
		return l.take(defaultYAML)
	}
	source, stamp, err := readConfig(l.opt.ConfigPath)
	if err == nil {
		l.stamp = stamp
		err = l.take(source)
	}
	if err != nil {
		return fmt.Errorf("log configuration %s: %w; correct it, or start without a log "+
			"configuration to log to stderr and %s/server.log",
			l.opt.ConfigPath, err, l.opt.StateDir)
	}
	return nil
}

// Logger gives the logger of a name, such as "server::sched".
func (l *Log) Logger(name string) *slog.Logger {
	return slog.New(&handler{log: l, name: name})
}

// Close ends logging: it waits for archives that are being compressed, and
// closes the files. What is logged later is dropped.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.install(emptyConfig())
}

// now is the time in the zone that log files are named and rolled by.
func (l *Log) now() time.Time { return l.opt.Now().In(l.opt.Location) }

// lookupEnv is the environment that paths see.
func (l *Log) lookupEnv(name string) (string, bool) {
	if name == StateVariable && l.opt.StateDir != "" {
		return l.opt.StateDir, true
	}
	return l.opt.LookupEnv(name)
}

// report says on stderr what went wrong with the logging itself.
func (l *Log) report(err error) {
	line := appendEscaped([]byte("jobserver: logging: "), err.Error())
	// If stderr is gone, there is nowhere left to say so.
	_ = l.stderr.write(append(line, '\n'))
}
