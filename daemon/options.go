package daemon

import (
	"fmt"
	"io"
	"time"

	"jobserver/api"
	"jobserver/disk"
	"jobserver/notify"
	"jobserver/ssh"
)

// Options say how a daemon is started. Paths are absolute.
type Options struct {
	StateDir      string
	LogDir        string // of the jobs' logs
	Socket        string
	LogConfig     string // a log4rs configuration; "": the default
	Stdout        io.Writer
	Stderr        io.Writer
	Now           func() time.Time
	AllowSnapFail bool // start empty when the state can't be read, and set that aside

	// the program that runs jobs on this host, and its first arguments; none: they run on machines
	Driver  []string
	MinFree int64 // bytes that copies leave free on the host's disks; 0: DefaultMinFree
	MaxLog  int64 // bytes that are kept of each stream of a job; 0: all
	SSH     ssh.Options
	PassEnv []string // variables that jobs of local machines see of the daemon's environment
	Metrics string   // where they are served; "": nowhere

	Keep     time.Duration // how long jobs are kept that have ended; 0: for ever
	KeepJobs int           // how many of them; 0: all
	KeepLogs int64         // bytes of their logs; 0: all
	Archive  string        // a directory for the records of those that are forgotten; "": none

	Modes           map[notify.Kind]notify.Mode
	Commands        []notify.Command
	SummaryInterval time.Duration
	Away            time.Duration // after which a machine that is away is announced; 0: the default
	Silent          time.Duration // after which a job that prints nothing is
}

// DefaultMinFree stays free on the host's disks when nothing else is asked for, in bytes.
const DefaultMinFree = 256 << 20

// stateMinFree is what has to be free on the state directory's disk for new work: less than what
// results have to leave, as the journal takes little.
func (o *Options) stateMinFree() int64 { return o.MinFree / 16 }

// driver is the program that runs jobs on this host; "" when there is none.
func (o *Options) driver() string {
	if len(o.Driver) == 0 {
		return ""
	}
	return o.Driver[0]
}

// ownDirs checks that nobody else puts files or links where the daemon writes, before it does.
func (o *Options) ownDirs() error {
	if err := disk.Own(o.StateDir, false); err != nil {
		// others lose their rights when it is opened
		return api.Wrap(api.Usage, fmt.Errorf("the state directory can't be used: %w", err))
	}
	if err := disk.Own(o.LogDir, true); err != nil {
		return api.Wrap(api.Usage, fmt.Errorf("--log-dir can't be used: %w", err))
	}
	return nil
}
