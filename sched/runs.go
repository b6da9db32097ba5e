package sched

import (
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// Config says how the daemon was started, as far as the rules depend on it. It is not durable.
type Config struct {
	// the driver and its arguments before the job's words; empty: jobs run in a shell on their
	// machine
	Driver []string
	MaxLog int64 // bytes of each stream of a job's log that are kept; 0: all
}

// Configure gives the state the daemon's configuration.
func (s *State) Configure(c Config) { s.config = c }

// builtin is the value of one of the daemon's own variables, at dispatch.
func (s *State) builtin(j *statepb.Job, a *statepb.Attempt, name string) (string, bool) {
	user, host, port := hostParts(a.Machine)
	switch name {
	case "MACHINE":
		return a.Machine, true
	case "HOST":
		return host, true
	case "USER":
		return user, true
	case "PORT":
		return port, true
	case "SLOT":
		return strconv.Itoa(int(a.Slot)), true
	case "SLOTS":
		return joined(slotsGiven(a), func(slot int32) string {
			return strconv.Itoa(int(slot))
		}), true
	case "ATTEMPT":
		return strconv.Itoa(int(a.Number)), true
	case "REPEAT":
		return "0", true
	case seedName:
		var base uint64
		if m := s.matrices[j.Matrix]; m != nil {
			base = m.Seed
		}
		return strconv.FormatUint(Seed(base, 0), 10), true
	}
	if name == afterName || name == afterResultsName {
		return s.afterValue(j, name), true
	}
	if v, ok := gangValue(j.Needs, a, name); ok {
		return v, true
	}
	if g := grantOf(a, name); g != nil {
		return GrantText(g), true
	}
	return s.constant(j, name)
}

// constant is the value of those that don't depend on the attempt.
func (s *State) constant(j *statepb.Job, name string) (string, bool) {
	switch name {
	case "CLASS":
		return j.Class, true
	case "JID":
		return strconv.FormatUint(j.Id, 10), true
	case "MATRIX":
		if j.Matrix == 0 {
			return "", true
		}
		return strconv.FormatUint(j.Matrix, 10), true
	case "TAG":
		if t := s.tags[j.Tag]; t != nil {
			return t.Name, true
		}
		return "", true
	}
	return "", false
}

// run tells the fleet how to start, or to follow, a rank of the newest attempt of a job.
func (s *State) run(j *job, rank *statepb.Attempt) Run {
	whole := last(j.Job)
	a := viewOf(whole, rank)
	r := Run{
		Ref: runRef(j.Job, whole, rank), Known: a.StepStarted, BootID: a.BootId,
		Cancel: j.Canceling || whole.Expired || breaksUp(whole), Prepare: !prepared(whole),
		Timeout: time.Duration(a.Timeout), MaxLog: j.MaxLog,
	}
	if r.MaxLog == 0 {
		r.MaxLog = s.config.MaxLog
	}
	if a.Pause != statepb.Pause_PAUSE_NONE {
		stop := a.Pause == statepb.Pause_PAUSE_STOP
		r.Pause = &stop
	}
	if r.Setup = j.Setup != nil; !r.Setup {
		r.Code, r.Stdin = j.Code.GetHash(), j.Stdin
		r.Inputs, r.After = a.Inputs, j.After != nil
	}
	if j.Cwd != "" {
		dir := s.cwdOf(j.Job, a)
		r.Env = append(r.Env, varPrefix+"CWD="+dir)
		if !a.Driver { // it is the machine's directory, and a driver is on the host
			r.Cwd = dir
		}
	}
	if a.Driver {
		words, err := SplitWords(string(a.CmdRun))
		if err == nil { // checked at submission; a value with a quote in it may still spoil it
			r.Argv = append(slices.Clone(s.config.Driver), words...)
		}
	} else {
		r.Command = a.CmdRun
	}
	names := []string{"MACHINE", "HOST", "USER", "PORT", "SLOT", "SLOTS", "ATTEMPT", "CLASS", "JID",
		"MATRIX", "TAG"}
	for _, name := range names {
		v, _ := s.builtin(j.Job, a, name)
		r.Env = append(r.Env, varPrefix+name+"="+v)
	}
	if j.After != nil {
		for _, name := range []string{afterName, afterResultsName} {
			if v := s.afterValue(j.Job, name); v != "" {
				r.Env = append(r.Env, varPrefix+name+"="+v)
			}
		}
	}
	r.Env = append(r.Env, gangEnv(j.Needs, a)...)
	r.CPUs, r.Memory = pinnedTo(a), enforcedMemory(a)
	for _, g := range a.GetGiven().GetGrants() {
		r.Env = append(r.Env, varPrefix+placeholder(g.Name)+"="+GrantText(g))
	}
	r.Env = append(r.Env, gpuEnv(j.Job, a)...)
	for _, v := range j.Vars {
		if v.Secret {
			if r.Secrets == nil {
				r.Secrets = map[string][]byte{}
			}
			if now := s.vars[v.Name]; now != nil {
				r.Secrets[v.Name] = now.Value
			}
			continue
		}
		r.Env = append(r.Env, varPrefix+v.Name+"="+string(v.Value))
	}
	r.Env = append(r.Env, s.envOf(j.Job, a)...)
	r.Hidden = HiddenOf(j.Job)
	return r
}

// copyOf tells the fleet how to bring the results of a rank of a job to the host.
func (s *State) copyOf(j *statepb.Job, rank *statepb.Attempt) Copy {
	a := viewOf(last(j), rank)
	c := Copy{Job: proto.Clone(j).(*statepb.Job), Attempt: proto.Clone(a).(*statepb.Attempt)}
	if m := s.machines[a.Machine]; m != nil {
		c.Machine = proto.Clone(m.Machine).(*statepb.Machine)
	} else {
		c.Machine = &statepb.Machine{Addr: a.Machine}
	}
	c.Dest, c.Shared = Destination(j, rank.Rank, s.lookup(j, a))
	c.Secrets = append(s.secrets(), HiddenOf(j)...)
	return c
}

// secrets are the values of the secret variables.
func (s *State) secrets() (values []string) {
	for _, v := range s.Vars() {
		if v.Secret {
			values = append(values, strings.TrimSpace(string(v.Value)))
		}
	}
	return values
}

// shortestSecret is the shortest value that is taken out of texts, in bytes; see redact.
const shortestSecret = 4

// hideSecrets takes secrets out of the paths of an attempt's results. Once they are copied nobody
// needs them as they are, and the secrets may be forgotten before the job is.
func (s *State) hideSecrets(j *statepb.Job, a *statepb.Attempt) {
	for _, secret := range append(s.secrets(), HiddenOf(j)...) {
		if len(secret) < shortestSecret {
			continue
		}
		for i := range a.Results {
			a.Results[i] = strings.ReplaceAll(a.Results[i], secret, "(secret)")
		}
		for i := range a.ResultsRaw {
			a.ResultsRaw[i] = bytes.ReplaceAll(a.ResultsRaw[i], []byte(secret), []byte("(secret)"))
		}
	}
}

// Destination is the directory on the host that a job's results go to: CP_PATH with its variables
// put in, and the job's own directory in it, unless the path names the job itself or the job was
// submitted flat. Shared says that other jobs may put theirs there too.
//
// Of a job that runs on each of several machines, each rank has a directory of its own in there.
func Destination(
	j *statepb.Job, rank int32, value func(string) (string, bool),
) (dir string, shared bool) {
	text, whole := Expand(j.CpPath, MaxPath+1, value)
	dir = filepath.Clean(text)
	switch {
	case !whole:
		// submission and dispatch refuse that, but a tag's name may have changed since: no system
		// takes such a path
		return text, false
	case j.Flat && rank == 0:
		return dir, true
	case !slices.Contains(Names(j.CpPath), "JID"):
		dir = filepath.Join(dir, strconv.FormatUint(j.Id, 10))
	}
	if rank > 0 {
		dir = filepath.Join(dir, "r"+strconv.Itoa(int(rank)-1))
	}
	return dir, false
}

// checkWords checks that a driver's command line can be split.
func checkWords(cmd string) error {
	words, err := SplitWords(cmd)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return errorf(Invalid, "the command is empty")
	}
	return nil
}

// oneLine shortens a command for messages.
func oneLine(cmd string, limit int) string {
	cmd = strings.Join(strings.Fields(cmd), " ")
	if r := []rune(cmd); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return cmd
}
