package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/daemon"
	"jobserver/daemon/wire"
	"jobserver/disk"
	"jobserver/doctor"
	"jobserver/redact"
	"jobserver/sched"
	"jobserver/snapshot"
	"jobserver/ssh"
	"jobserver/version"
	"jobserver/view"
)

// DoctorCmd is `doctor`: what is wrong, and what to do about it.
type DoctorCmd struct {
	Bundle string `name:"bundle" placeholder:"FILE" predictor:"file" help:"Also write a report to send to others, a .tar.gz, without secrets; asks before it writes."`
	Yes    bool   `name:"yes" short:"y" help:"Write the report without asking."`
	stateDirFlag
}

// Run looks at everything, and fails when there is a problem.
func (c *DoctorCmd) Run(ctx context.Context, e *cli.Env) error {
	dir, err := c.dir(e)
	if err != nil {
		return err
	}
	facts, state := c.look(ctx, e, dir)
	findings := doctor.Examine(facts)
	if err := c.print(e, findings); err != nil {
		return err
	}
	if c.Bundle != "" {
		if err := c.bundle(ctx, e, facts, findings, state); err != nil {
			return err
		}
	}
	problems := 0
	for _, f := range findings {
		if f.State == doctor.Problem {
			problems++
		}
	}
	if problems > 0 {
		return api.Errorf(api.Internal, "%s", view.Counted(problems, "problem"))
	}
	return nil
}

// print prints the findings, for people each with what to do on a line of its own.
func (c *DoctorCmd) print(e *cli.Env, findings []doctor.Finding) error {
	if e.ForScripts() {
		return cli.List(e, findings, findingColumns())
	}
	width := 0
	for _, f := range findings {
		width = max(width, view.Width(f.Check))
	}
	for _, f := range findings {
		state := fmt.Sprintf("%-8s", f.State)
		pad := strings.Repeat(" ", width-view.Width(f.Check))
		fmt.Fprintf(e.Stdout, "%s %s%s  %s\n", state, view.Clean(f.Check), pad, view.Clean(f.What))
		if f.Do != "" {
			fmt.Fprintf(e.Stdout, "%*s→ %s\n", 8+1+width+2, "", e.Called(view.Clean(f.Do)))
		}
	}
	return nil
}

func findingColumns() []view.Column[doctor.Finding] {
	check := show.Plain("Check", "check", func(f doctor.Finding) string { return f.Check })
	check.IsID = true
	return []view.Column[doctor.Finding]{
		check,
		show.Plain("State", "state", func(f doctor.Finding) string { return string(f.State) }),
		show.Plain("What", "what", func(f doctor.Finding) string { return f.What }),
		show.Plain("Do", "do", func(f doctor.Finding) string { return f.Do }),
	}
}

// look gathers the facts. The state that is saved comes along, nil when it can't be read.
func (c *DoctorCmd) look(
	ctx context.Context, e *cli.Env, dir string,
) (*doctor.Facts, *sched.State) {
	f := &doctor.Facts{
		Now: e.Now(), ConfigErr: e.ConfigErr(), Program: version.String(), StateDir: dir,
		Socket: e.SocketPath(), Remote: e.Globals.Host,
	}
	status, err := cli.Call[api.Status](ctx, e, "Status", &api.Empty{})
	if err != nil {
		f.DaemonErr = err
	} else {
		f.Daemon = status
		machines, err := cli.Call[api.ListMachinesReply](ctx, e, "ListMachines",
			&api.ListMachinesArgs{})
		if err == nil {
			f.Machines = machines.Machines
		}
	}
	if f.Remote != "" {
		return f, nil
	}
	logs := filepath.Join(dir, "logs")
	if f.Daemon != nil {
		if c.StateDir == "" {
			f.StateDir = f.Daemon.StateDir
		}
		logs = f.Daemon.LogDir
	}
	state := lookAtState(f)
	f.Logs = doctor.Dir{Path: logs, Err: disk.Own(logs, true)}
	f.Disks = lookAtDisks(f.StateDir, logs)
	f.Clock = doctor.LookAtClock()
	f.Inotify = doctor.InotifyInstances()
	options := ssh.Options{}
	if f.Daemon != nil {
		f.Process = doctor.LookAtProcess(ctx, f.Daemon.PID)
		f.Service = doctor.LookAtService(ctx, f.Daemon.PID)
		options = sshOptions(doctor.Words(f.Daemon.PID))
	}
	f.SSH = examineSSH(ctx, options, f.Machines)
	return f, state
}

// lookAtState reads the saved state as a start would.
func lookAtState(f *doctor.Facts) *sched.State {
	dir := f.StateDir
	f.Quarantine, _ = filepath.Glob(filepath.Join(dir, "quarantine", "*")) // the pattern is valid
	report, err := snapshot.Check(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Saved.None = true
		return nil
	case err == nil:
		err = disk.Own(dir, false)
	}
	if err == nil {
		err = report.Err
	}
	if errors.Is(err, snapshot.ErrNoState) {
		f.Saved.None = true
		return nil
	}
	if err != nil {
		f.Saved.Err, f.Saved.Hint = err, api.HintOf(err)
		var corrupt *snapshot.CorruptError
		if errors.As(err, &corrupt) {
			f.Saved.Err = fmt.Errorf("a start would be refused: %s is damaged: %s",
				filepath.Join(dir, corrupt.File), daemon.DamageIn(corrupt))
			f.Saved.Hint = daemon.DamageHint(dir)
		}
		return nil
	}
	state, err := loadState(dir)
	if err != nil {
		f.Saved.Err = fmt.Errorf("the files are sound, but what they say is not: %w", err)
		f.Saved.Hint = daemon.DamageHint(dir)
		return nil
	}
	f.Saved.Text = fmt.Sprintf("%s is sound: %s, the last is %d", dir,
		view.Counted(state.JobCount(), "job"), state.NextID()-1)
	if !report.Sound() {
		f.Saved.Err = fmt.Errorf("a start would succeed, but some files in %s are damaged", dir)
		f.Saved.Hint = "`jobserver state check` shows which; take a backup: jobserver backup DIR"
	}
	return state
}

// lookAtDisks looks at the file systems of the directories, or of the nearest above them that
// exist.
func lookAtDisks(dirs ...string) (disks []doctor.Disk) {
	for _, dir := range dirs {
		at := dir
		for {
			if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
				break
			}
			at = filepath.Dir(at)
		}
		one := doctor.Disk{Path: dir, Free: -1, Files: -1}
		if of, err := disk.Of(at); err == nil {
			one.Free, one.Files, one.Network = of.Free, of.Files, of.Network
		}
		same := slices.ContainsFunc(disks, func(d doctor.Disk) bool {
			return d.Free == one.Free && d.Files == one.Files
		})
		if !same {
			disks = append(disks, one)
		}
	}
	return disks
}

// sshOptions gives the options that a daemon was started with, by its command line.
func sshOptions(words []string) (o ssh.Options) {
	for flag, to := range map[string]*string{
		"--ssh-config": &o.ConfigFile, "--identity": &o.Identity, "--known-hosts": &o.KnownHosts,
	} {
		for i, word := range words {
			if value, ok := strings.CutPrefix(word, flag+"="); ok {
				*to = value
			} else if word == flag && i+1 < len(words) {
				*to = words[i+1]
			}
		}
	}
	return o
}

// mostExamined is for how many machines the ssh configuration is looked at: it is mostly the same.
const mostExamined = 20

// examineSSH looks at what the machines are reached with, above all those that aren't reached.
func examineSSH(
	ctx context.Context, o ssh.Options, machines []api.Machine,
) map[string]ssh.Examination {
	var addrs []string
	for _, state := range []string{"refused", "away", "connecting", "connected"} {
		for i := range machines {
			m := &machines[i]
			if m.State == state && !sched.IsLocal(m.Addr) && len(addrs) < mostExamined {
				addrs = append(addrs, m.Addr)
			}
		}
	}
	if len(machines) == 0 {
		addrs = []string{"localhost"} // what holds for all
	}
	found := map[string]ssh.Examination{}
	dialer := ssh.NewDialer(o)
	for _, addr := range addrs {
		found[addr] = dialer.Examine(ctx, addr)
	}
	return found
}

// bundle writes the report, when whoever asked for it agrees.
func (c *DoctorCmd) bundle(
	ctx context.Context, e *cli.Env, facts *doctor.Facts, findings []doctor.Finding,
	state *sched.State,
) error {
	if _, err := os.Lstat(c.Bundle); err == nil {
		return api.Errorf(api.Conflict, "%s is there already: nothing was written", c.Bundle).
			WithHint("name another file")
	}
	files, err := reportFiles(facts, findings, state)
	if err != nil {
		return err
	}
	e.Note("the report would have, with secrets taken out, but with names of machines, users and " +
		"directories:")
	for _, f := range files {
		e.Note("  %-14s %s", f.Name, view.FormatSize(int64(len(f.Text))))
	}
	if !c.Yes {
		if !e.Interactive() {
			return api.Errorf(api.Confirm,
				"%s was not written: there is no terminal to ask on", c.Bundle).
				WithHint("--yes writes it")
		}
		err := e.Confirm(ctx, fmt.Sprintf("write %s?", c.Bundle), "nothing was written")
		if err != nil {
			return err
		}
	}
	if err := doctor.WriteBundle(c.Bundle, files, e.Now()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	e.Note("%s is written: look into it before you send it (tar tzf %s)", c.Bundle, c.Bundle)
	return nil
}

// reportFiles make up a report. Commands, variables and logs of jobs are not in it.
func reportFiles(
	facts *doctor.Facts, findings []doctor.Finding, state *sched.State,
) ([]doctor.File, error) {
	secrets := redact.New(secretsOf(state)...)
	var files []doctor.File
	put := func(name string, v any) error {
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		files = append(files,
			doctor.File{Name: name, Text: doctor.Hide(string(text), secrets) + "\n"})
		return nil
	}
	if err := put("doctor.json", findings); err != nil {
		return nil, err
	}
	if err := put("version.json", version.Of()); err != nil {
		return nil, err
	}
	if facts.Daemon == nil {
		return files, nil
	}
	if err := put("status.json", facts.Daemon); err != nil {
		return nil, err
	}
	if err := put("machines.json", facts.Machines); err != nil {
		return nil, err
	}
	if words := doctor.Words(facts.Daemon.PID); words != nil {
		files = append(files, doctor.File{Name: "serve.txt",
			Text: doctor.Hide(doctor.CommandLine(words), secrets) + "\n"})
	}
	if log := ownLog(facts.StateDir); log != "" {
		files = append(files, doctor.File{Name: "server.log", Text: doctor.Hide(log, secrets)})
	}
	return files, nil
}

// secretsOf are the values that nobody is to see: those of variables, and those that jobs were
// given.
func secretsOf(state *sched.State) []string {
	if state == nil {
		return nil
	}
	secrets := wire.Secrets(state)
	for id := uint64(1); id < state.NextID(); id++ {
		if j := state.Job(id); j != nil {
			secrets = append(secrets, sched.HiddenOf(j)...)
		}
	}
	slices.Sort(secrets)
	return slices.Compact(secrets)
}

// logTail is how much of the daemon's own log a report has, in bytes.
const logTail = 256 << 10

// ownLog is the end of the daemon's own log, without lines that quote a command.
func ownLog(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "server.log"))
	if err != nil {
		return ""
	}
	text = text[max(len(text)-logTail, 0):]
	var kept bytes.Buffer
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(" was submitted ")) &&
			!bytes.Contains(line, []byte(" submit ")) {
			kept.Write(line)
		}
	}
	return kept.String()
}
