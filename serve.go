package main

import (
	"context"
	"time"

	"jobserver/api"
	"jobserver/view"
)

// ServeCmd is `serve [DRIVER [LOG-DIR] LOG-CONFIG]`: the daemon's settings. Paths are as given; durations of
// 0 and sizes of 0 mean the daemon's own defaults.
type ServeCmd struct {
	Words []string `arg:"" optional:"" name:"DRIVER [LOG-DIR] LOG-CONFIG" sep:"none" predictor:"file" help:"The same as --driver, --log-dir and --log-config."`

	StateDir      string   `name:"state-dir" placeholder:"DIR" predictor:"dir" help:"Where everything is kept; $XDG_STATE_HOME/jobserver by default."`
	Driver        string   `name:"driver" placeholder:"PROGRAM" predictor:"file" help:"Run jobs through this program on this host, with the job's words as its arguments."`
	DriverArg     []string `name:"driver-arg" sep:"none" placeholder:"ARG" help:"Put before the job's words. May be repeated."`
	LogDir        string   `name:"log-dir" placeholder:"DIR" predictor:"dir" help:"Where the jobs' logs are kept; STATE-DIR/logs by default."`
	LogConfig     string   `name:"log-config" placeholder:"FILE" predictor:"file" help:"The daemon's own logging, a log4rs configuration."`
	AllowSnapFail bool     `name:"allow-snap-fail" help:"Start although the saved history can't be loaded: it is moved to quarantine, never overwritten."`

	MinFree     size    `name:"min-free" placeholder:"SIZE" help:"Copies wait when the host's disk has less than this left, 256M by default; new work is refused below a sixteenth of it."`
	MaxLog      size    `name:"max-log" placeholder:"SIZE" help:"Keep at most this much of each stream of a job."`
	AwayTimeout minutes `name:"away-timeout" placeholder:"DURATION" help:"Announce a machine that stays away so long."`
	Transport   string  `name:"transport" enum:"go,openssh" default:"go" placeholder:"go|openssh" help:"Connect by itself (go), or through the system's ssh (openssh): ProxyCommand, Kerberos, second factors."`
	SSHConfig   string  `name:"ssh-config" placeholder:"FILE" predictor:"file" help:"Instead of the user's ssh configuration."`
	Identity    string  `name:"identity" placeholder:"FILE" predictor:"file" help:"The private key to use."`
	KnownHosts  string  `name:"known-hosts" placeholder:"FILE" predictor:"file" help:"Instead of the user's known_hosts."`
	Metrics     string  `name:"metrics" placeholder:"ADDR" help:"Serve Prometheus metrics at this address."`

	On              []string    `name:"on" sep:"none" placeholder:"EVENT=COMMAND" help:"Run a command when something happens, with the event as JSON on its standard input. May be repeated; the events are those of the flags below."`
	SummaryInterval minutes     `name:"summary-interval" default:"60" placeholder:"DURATION" help:"Between two summaries."`
	SilentAfter     minutes     `name:"silent-after" default:"30" placeholder:"DURATION" help:"How long a running job may print nothing before that is an event."`
	Notify          notifyFlags `embed:"" prefix:"notify-"`
}

// Run is the daemon's life.
func (c *ServeCmd) Run(ctx context.Context, e *env) error {
	settings := *c
	if err := settings.placeWords(e); err != nil {
		return err
	}
	if settings.StateDir != "" && !e.named && e.getenv("JOBSERVER_SOCKET") != "" {
		e.globals.Socket = "" // the environment's socket is that of another state directory
	}
	if settings.StateDir == "" {
		dir, err := e.stateDir()
		if err != nil {
			return err
		}
		settings.StateDir = dir
	}
	return runServe(ctx, e, settings)
}

// placeWords puts the positional arguments where the flags are: the original had two of them in its first
// version, DRIVER and LOG-CONFIG, and three later. A single one is the driver.
func (c *ServeCmd) placeWords(e *env) error {
	var words [3]string
	switch len(c.Words) {
	case 0:
		return nil
	case 1:
		words[0] = c.Words[0]
	case 2:
		words[0], words[2] = c.Words[0], c.Words[1]
	case 3:
		words = [3]string(c.Words)
	default:
		return api.Errorf(api.Usage, "serve: there are at most three arguments: DRIVER, LOG-DIR and LOG-CONFIG")
	}
	for i, place := range []struct {
		flag *string
		name string
	}{{&c.Driver, "--driver"}, {&c.LogDir, "--log-dir"}, {&c.LogConfig, "--log-config"}} {
		if words[i] == "" {
			continue
		}
		if *place.flag != "" {
			return api.Errorf(api.Usage, "serve: %s is given twice, as %s and as an argument %s", place.name, *place.flag, words[i])
		}
		*place.flag = words[i]
	}
	c.Words = nil
	return nil
}

// DemoCmd is `demo`.
type DemoCmd struct {
	Dir  string `name:"dir" placeholder:"DIR" predictor:"dir" help:"Where the results go; a directory 'jobserver-demo' here by default."`
	Keep bool   `name:"keep" help:"Leave the demo's daemon state behind, too."`
}

// Run shows the whole story.
func (c *DemoCmd) Run(ctx context.Context, e *env) error {
	return runDemo(ctx, e, *c)
}

// minutes is a duration whose bare number means minutes, as in the original.
type minutes struct{ time.Duration }

// UnmarshalText reads it.
func (m *minutes) UnmarshalText(text []byte) (err error) {
	m.Duration, err = view.ParseDuration(string(text), time.Minute)
	return err
}

// seconds is a duration whose bare number means seconds.
type seconds struct{ time.Duration }

// UnmarshalText reads it.
func (s *seconds) UnmarshalText(text []byte) (err error) {
	s.Duration, err = view.ParseDuration(string(text), time.Second)
	return err
}

// size is a number of bytes: 10G, 500MiB, 4096.
type size int64

// UnmarshalText reads it.
func (s *size) UnmarshalText(text []byte) error {
	n, err := view.ParseSize(string(text))
	*s = size(n)
	return err
}
