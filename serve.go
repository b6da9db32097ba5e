package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/daemon"
	"jobserver/notify"
	"jobserver/ssh"
)

// ServeCmd is `serve [DRIVER [LOG-DIR] LOG-CONFIG]`: the daemon's settings. Paths are as given;
// durations of 0 and sizes of 0 mean the daemon's own defaults.
type ServeCmd struct {
	Words []string `arg:"" optional:"" name:"DRIVER [LOG-DIR] LOG-CONFIG" sep:"none" predictor:"file" help:"The same as --driver, --log-dir and --log-config."`

	StateDir      string   `name:"state-dir" placeholder:"DIR" predictor:"dir" help:"Where the daemon keeps everything; $XDG_STATE_HOME/jobserver by default."`
	Driver        string   `name:"driver" placeholder:"PROGRAM" predictor:"file" help:"Run jobs through this program on this host, with the words of the job as its arguments."`
	DriverArg     []string `name:"driver-arg" sep:"none" placeholder:"ARG" help:"An argument to put before the job's words (repeatable)."`
	LogDir        string   `name:"log-dir" placeholder:"DIR" predictor:"dir" help:"Where to keep the logs of jobs; STATE-DIR/logs by default."`
	LogConfig     string   `name:"log-config" placeholder:"FILE" predictor:"file" help:"A log4rs configuration for the daemon's own log."`
	AllowSnapFail bool     `name:"allow-snap-fail" help:"Start even if the saved history can't be loaded; it is moved to quarantine, never overwritten."`

	MinFree     cli.Size    `name:"min-free" placeholder:"SIZE" help:"Pause copies while the host's disk has less free space than this (256M by default); below a sixteenth of it, refuse new work."`
	MaxLog      cli.Size    `name:"max-log" placeholder:"SIZE" help:"Keep at most this much of each job's stdout and stderr: the beginning, and the end."`
	Keep        *cli.Age    `name:"keep" placeholder:"AGE" help:"Forget jobs and remove their logs when they ended longer ago than this, as 90d; results stay. Without it all are kept."`
	KeepJobs    *int        `name:"keep-jobs" placeholder:"N" help:"Forget the oldest jobs that have ended when there are more than this; results stay."`
	KeepLogs    *cli.Size   `name:"keep-logs" placeholder:"SIZE" help:"Remove the oldest logs of ended jobs when all of them take more than this."`
	Archive     string      `name:"archive" placeholder:"DIR" predictor:"dir" help:"Write jobs that are forgotten for their age to this directory, as 'state export' prints them."`
	AwayTimeout cli.Minutes `name:"away-timeout" placeholder:"DURATION" help:"Announce a machine that has been away this long."`
	Transport   string      `name:"transport" enum:"go,openssh" default:"go" placeholder:"go|openssh" help:"How to connect: with the built-in client (go), or with the system's ssh (openssh) for ProxyCommand, Kerberos or second factors."`
	SSHConfig   string      `name:"ssh-config" placeholder:"FILE" predictor:"file" help:"Use this ssh configuration instead of the user's."`
	Identity    string      `name:"identity" placeholder:"FILE" predictor:"file" help:"The private key to use."`
	KnownHosts  string      `name:"known-hosts" placeholder:"FILE" predictor:"file" help:"Use this known_hosts file instead of the user's."`
	PassEnv     []string    `name:"pass-env" sep:"none" placeholder:"NAME" help:"Pass this variable of the daemon's environment to jobs on local machines; * matches any characters (repeatable)."`
	Metrics     string      `name:"metrics" placeholder:"ADDR" help:"Serve Prometheus metrics on this address."`

	On              []string    `name:"on" sep:"none" placeholder:"EVENT=COMMAND" help:"Run a command when something happens, with the event as JSON on its stdin (repeatable). The events are those of the flags below."`
	SummaryInterval cli.Minutes `name:"summary-interval" default:"60" placeholder:"DURATION" help:"Time between two summaries."`
	SilentAfter     cli.Minutes `name:"silent-after" default:"30" placeholder:"DURATION" help:"Announce a running job that has printed nothing for this long."`
	Notify          notifyFlags `embed:"" prefix:"notify-"`
}

// Run is the daemon's life.
func (c *ServeCmd) Run(ctx context.Context, e *cli.Env) error {
	settings := *c
	if err := settings.placeWords(e); err != nil {
		return err
	}
	if settings.StateDir != "" && !e.Named && e.Getenv("JOBSERVER_SOCKET") != "" {
		e.Globals.Socket = "" // the environment's socket is that of another state directory
	}
	if settings.StateDir == "" {
		dir, err := e.StateDir()
		if err != nil {
			return err
		}
		settings.StateDir = dir
	}
	options, err := settings.options(e)
	if err != nil {
		return err
	}
	return daemon.Run(ctx, options)
}

// options say what the flags ask for, checked.
func (c *ServeCmd) options(e *cli.Env) (daemon.Options, error) {
	o := daemon.Options{
		Socket: e.Globals.Socket, LogConfig: c.LogConfig, AllowSnapFail: c.AllowSnapFail,
		Stdout: e.Stdout, Stderr: e.Stderr, Now: e.Now,
		MinFree: int64(c.MinFree), MaxLog: int64(c.MaxLog), Metrics: c.Metrics,
		SSH: ssh.Options{
			ConfigFile: c.SSHConfig, Identity: c.Identity, KnownHosts: c.KnownHosts,
			OpenSSH: c.Transport == "openssh",
		},
		Modes: c.Notify.modes(), SummaryInterval: c.SummaryInterval.Duration,
		Away: c.AwayTimeout.Duration, Silent: c.SilentAfter.Duration,
		PassEnv: c.PassEnv,
	}
	if err := c.retention(&o); err != nil {
		return o, err
	}
	var err error
	if o.StateDir, err = filepath.Abs(c.StateDir); err != nil {
		return o, fmt.Errorf("find the state directory: %w", err)
	}
	if o.Socket == "" {
		o.Socket = filepath.Join(o.StateDir, "socket")
	}
	logs := cmp.Or(c.LogDir, filepath.Join(o.StateDir, "logs"))
	if o.LogDir, err = filepath.Abs(logs); err != nil {
		return o, fmt.Errorf("find the log directory: %w", err)
	}
	// ssh takes "none" for no configuration.
	for _, file := range []struct{ flag, name string }{
		{"--ssh-config", c.SSHConfig}, {"--identity", c.Identity},
	} {
		if _, err := os.Stat(file.name); file.name != "" && file.name != "none" && err != nil {
			return o, api.Errorf(api.Usage, "%s can't be used: %v", file.flag, err).
				WithHint("without it no machine could be reached")
		}
	}
	if o.Commands, err = commandsOn(c.On); err != nil {
		return o, err
	}
	o.Driver, err = c.driver()
	return o, err
}

// retention says what is kept. What nobody can mean is refused: all would be gone at once.
func (c *ServeCmd) retention(o *daemon.Options) (err error) {
	refuse := func(flag string, value any) error {
		return api.Errorf(api.Usage,
			"%s %v would keep nothing: what has ended would be gone at once", flag, value).
			WithHint("leave %s out to keep everything", flag)
	}
	if c.Keep != nil {
		o.Keep = c.Keep.Duration
	}
	if c.KeepJobs != nil {
		if o.KeepJobs = *c.KeepJobs; o.KeepJobs <= 0 {
			return refuse("--keep-jobs", o.KeepJobs)
		}
	}
	if c.KeepLogs != nil {
		if o.KeepLogs = int64(*c.KeepLogs); o.KeepLogs <= 0 {
			return refuse("--keep-logs", o.KeepLogs)
		}
	}
	if c.Archive == "" {
		return nil
	}
	o.Archive, err = filepath.Abs(c.Archive)
	return err
}

// driver finds the driver, if there is one, and puts its own arguments after it.
func (c *ServeCmd) driver() ([]string, error) {
	if c.Driver == "" {
		if len(c.DriverArg) > 0 {
			return nil, api.Errorf(api.Usage, "--driver-arg is given without a driver")
		}
		return nil, nil
	}
	program, err := filepath.Abs(c.Driver)
	if err != nil {
		return nil, fmt.Errorf("find the driver: %w", err)
	}
	if err := daemon.CheckDriver(program); err != nil {
		return nil, api.Errorf(api.Usage, "the driver can't be run: %v", err).
			WithHint("each job would fail: give the path of the program that runs your jobs")
	}
	return append([]string{program}, c.DriverArg...), nil
}

// placeWords puts the positional arguments where the flags are: the original had two of them in its
// first version, DRIVER and LOG-CONFIG, and three later. A single one is the driver.
func (c *ServeCmd) placeWords(e *cli.Env) error {
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
		return api.Errorf(api.Usage,
			"serve: there are at most three arguments: DRIVER, LOG-DIR and LOG-CONFIG")
	}
	for i, place := range []struct {
		flag *string
		name string
	}{{&c.Driver, "--driver"}, {&c.LogDir, "--log-dir"}, {&c.LogConfig, "--log-config"}} {
		if words[i] == "" {
			continue
		}
		if *place.flag != "" {
			return api.Errorf(api.Usage, "serve: %s is given twice, as %s and as an argument %s",
				place.name, *place.flag, words[i])
		}
		*place.flag = words[i]
	}
	c.Words = nil
	return nil
}

// notifyFlags say which events are told to Slack and to the webhook, and when.
type notifyFlags struct {
	Running       notifyMode `name:"running" placeholder:"immediate|summary" help:"Notify when a job starts: at once, or with =summary in the next summary."`
	Complete      notifyMode `name:"complete" placeholder:"immediate|summary" help:"Notify when a job succeeds."`
	Copied        notifyMode `name:"copied" placeholder:"immediate|summary" help:"Notify when a job's results have been copied."`
	Fail          notifyMode `name:"fail" placeholder:"immediate|summary" help:"Notify when a job fails for good or its results can't be copied."`
	MachineBroken notifyMode `name:"machine-broken" placeholder:"immediate|summary" help:"Tell when a machine fails job after job, or is set aside."`
	MachineAway   notifyMode `name:"machine-away" placeholder:"immediate|summary" help:"Notify when a machine is away longer than --away-timeout, and when it is back."`
	MatrixDone    notifyMode `name:"matrix-done" placeholder:"immediate|summary" help:"Notify when all jobs of a matrix have ended."`
	MatrixFail    notifyMode `name:"matrix-fail" placeholder:"immediate|summary" help:"Notify about the first failure in a matrix."`
	Silent        notifyMode `name:"silent" placeholder:"immediate|summary" help:"Notify when a running job has printed nothing for --silent-after."`
	DiskLow       notifyMode `name:"disk-low" placeholder:"immediate|summary" help:"Notify when less than --min-free is left here or on a machine, or when the state can't be saved."`
	QueueEmpty    notifyMode `name:"queue-empty" placeholder:"immediate|summary" help:"Notify when no job is waiting."`
}

// modes are the flags by kind.
func (f *notifyFlags) modes() map[notify.Kind]notify.Mode {
	return map[notify.Kind]notify.Mode{
		notify.Running: f.Running.Mode, notify.Complete: f.Complete.Mode,
		notify.Copied: f.Copied.Mode, notify.Fail: f.Fail.Mode,
		notify.MachineBroken: f.MachineBroken.Mode, notify.MachineAway: f.MachineAway.Mode,
		notify.MatrixDone: f.MatrixDone.Mode,
		notify.MatrixFail: f.MatrixFail.Mode, notify.Silent: f.Silent.Mode,
		notify.DiskLow: f.DiskLow.Mode, notify.QueueEmpty: f.QueueEmpty.Mode,
	}
}

// notifyMode is the value of such a flag. The flag alone means at once.
type notifyMode struct{ notify.Mode }

// Decode reads the value, if there is one.
func (m *notifyMode) Decode(ctx *kong.DecodeContext) error {
	m.Mode = notify.Immediate
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	switch value := fmt.Sprint(ctx.Scan.Pop().Value); strings.ToLower(value) {
	case "immediate", "true":
	case "summary":
		m.Mode = notify.Summary
	case "off", "false":
		m.Mode = notify.Off
	default:
		return fmt.Errorf("%q is not immediate, summary or off", value)
	}
	return nil
}

// IsBool lets the flag stand without a value.
func (m *notifyMode) IsBool() bool { return true }

// commandsOn are the commands of --on.
func commandsOn(flags []string) ([]notify.Command, error) {
	var commands []notify.Command
	for _, flag := range flags {
		event, line, ok := strings.Cut(flag, "=")
		if !ok {
			return nil, api.Errorf(api.Usage, "--on %s: a command is missing", flag).
				WithHint("--on fail='./alarm.sh'")
		}
		kind := notify.Kind(strings.ReplaceAll(strings.TrimSpace(event), "_", "-"))
		commands = append(commands, notify.Command{Kind: kind, Line: line})
	}
	return commands, nil
}
