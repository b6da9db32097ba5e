package fleet

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"jobserver/failpoint"
	"jobserver/sched"
	"jobserver/ssh"
)

// Options configure a Fleet. ServerID, LogDir, Binary, Report and one of StateDir and LocalRoot are
// required.
type Options struct {
	ServerID string // 1 to 64 of A–Z a–z 0–9 _ -: names this daemon's runs on every machine
	Version  string // of the daemon, for the records that go with results
	StateDir string
	LogDir   string // see sched.LogPath

	// Slim are the agents that the program has inside, compressed: jobserver-<GOOS>-<GOARCH>.gz.
	// They are what is sent to machines, and runs on this host; nil if there are none.
	Slim fs.FS
	// Binary is the daemon's own executable. Where there is no slim agent for machines of its kind
	// it is sent to them, and runs as the agent of this host.
	Binary string
	// Builds is the directory with builds for other kinds of machines, named
	// jobserver-<GOOS>-<GOARCH>; the directory of Binary if empty.
	Builds string
	// LocalRoot is where the runs of local machines and of drivers are kept; StateDir/local if
	// empty.
	LocalRoot string
	// PassEnv are the variables of the daemon's environment that jobs of local machines see, or
	// patterns of their names: see loginEnv.
	PassEnv []string

	SSH ssh.Options

	MaxLog  int64 // bytes kept of each stream of a run that sets no limit itself; 0: all
	MinFree int64 // bytes that must stay free on the host's file system for copies to go on

	// Limits of one job's results; a job with more copies nothing. 0: the defaults, negative: none.
	MaxFiles int
	MaxBytes int64
	Copies   int // copies at a time; 0: DefaultCopies

	RetryMin, RetryMax time.Duration // delays between dials of a machine that is away; 0: 1 s, 60 s
	// Likewise of one that is refused, until somebody changes something; 0: 1 min, 15 min.
	RefusedMin, RefusedMax time.Duration
	// between looks at what decides about that on this host; 0: 2 s
	RefusedLook time.Duration
	SyncEvery   time.Duration // least time between two syncs of the logs; 0: 1 s
	DiskRetry   time.Duration // between looks at a disk that is full; 0: 3 s
	BulkIdle    time.Duration // how long a bulk connection is kept unused; 0: 30 s
	// between looks at a machine's load, disk and clock; 0: 1 min
	MeasureEvery time.Duration
	// between looks at runs that live and nothing here knows; 0: 10 s
	StrangersEvery time.Duration
	// Pauses between two tries to end a run, or to remove its directory, that a machine refuses; 0:
	// 10 s, 1 h.
	RemoveMin, RemoveMax time.Duration
	// least time between two looks at a Slurm's queue while something happens there; 0: 5 s
	SlurmPace time.Duration
	// after which a link is cut whose agent has nothing to do but to answer; 0: 1 min
	AnswerTime time.Duration
	// how long is waited for the directory of a machine's runs, when all of it is away; 0: 15 min
	RootWait time.Duration
	// how long an agent holds a poll of a run that says nothing; 0: 10 min, so long that it is no
	// traffic to speak of, and so short that an agent which answers no polls is noticed
	PollWait time.Duration

	// AfterList gives the list of what a job has waited for, a line a job, which it finds among its
	// inputs; nil: it gets none. It is called from any goroutine.
	AfterList func(ctx context.Context, job uint64) ([]byte, error)

	// Report takes what happens. It must not block, and is called from any goroutine, also during a
	// call of ours.
	Report func(sched.Outcome)
	Log    *slog.Logger     // nil: none
	Now    func() time.Time // nil: time.Now
}

// The defaults of Options.
const (
	DefaultMaxFiles = 1_000_000
	DefaultCopies   = 4
)

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.ServerID == "":
		return o, errors.New("fleet: no server id")
	case o.LogDir == "":
		return o, errors.New("fleet: no log directory")
	case o.Binary == "":
		return o, errors.New("fleet: no binary to run on machines")
	case o.Report == nil:
		return o, errors.New("fleet: nobody to report to")
	case o.LocalRoot == "" && o.StateDir == "":
		return o, errors.New("fleet: no directory for the runs of this host")
	}
	if o.LocalRoot == "" {
		o.LocalRoot = filepath.Join(o.StateDir, "local")
	}
	if o.Builds == "" {
		o.Builds = filepath.Dir(o.Binary)
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = DefaultMaxFiles
	}
	if o.Copies <= 0 {
		o.Copies = DefaultCopies
	}
	defaultDuration(&o.RetryMin, time.Second)
	defaultDuration(&o.RetryMax, time.Minute)
	defaultDuration(&o.RefusedMin, time.Minute)
	defaultDuration(&o.RefusedMax, 15*time.Minute)
	defaultDuration(&o.RefusedLook, 2*time.Second)
	defaultDuration(&o.SyncEvery, time.Second)
	defaultDuration(&o.DiskRetry, 3*time.Second)
	defaultDuration(&o.BulkIdle, 30*time.Second)
	defaultDuration(&o.MeasureEvery, time.Minute)
	defaultDuration(&o.StrangersEvery, 10*time.Second)
	defaultDuration(&o.RemoveMin, 10*time.Second)
	defaultDuration(&o.RemoveMax, time.Hour)
	defaultDuration(&o.AnswerTime, time.Minute)
	defaultDuration(&o.PollWait, 10*time.Minute)
	defaultDuration(&o.RootWait, 15*time.Minute)
	defaultDuration(&o.SlurmPace, failpoint.Duration("slurm-pace", slurmPace))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

func defaultDuration(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}
