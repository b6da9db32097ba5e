package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"jobserver/api"
	"jobserver/notify"
)

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
