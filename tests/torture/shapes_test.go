package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/api"
)

// TestShapes is chaos in the middle of jobs on several machines, of inputs, stages and pauses: in
// the end each has run in its order, as often as it should, and nothing was given to two at a time.
func TestShapes(t *testing.T) {
	rng := seeded(t)
	w := newWorld(t)
	s := scene{clients: 24, lasting: 5 * time.Second, aim: append(slices.Clone(places),
		"fleet.prepare-due", "fleet.prepared")}
	end := time.Now()
	if long() {
		s.lasting, s.longer = min(30*time.Second, duration(t)/3), true
		end = end.Add(duration(t) / 4)
	} else {
		s.clients = 8
		t.Parallel()
	}
	alone := withSSH(envOption("JOBSERVER_INSTEAD=silence=70s"))
	for _, class := range []string{"x", "x", "x", "y"} {
		w.add(slots(3), alone, ofClass(class), withResources(map[string]string{"gpu": "0,1"}))
	}
	call[api.Empty](w, "SetResource", &api.SetResourceArgs{Name: "license", Value: "2"})
	l := &shapes{load: &load{w: w, clients: s.clients, patience: time.Minute},
		locks: filepath.Join(w.dir, "locks"), inputs: filepath.Join(w.dir, "inputs")}
	must(t, os.Mkdir(l.locks, 0o700))
	must(t, os.Mkdir(l.inputs, 0o700))
	onAll := append(slices.Clone(onMachines), (*chaos).killAgents)
	all := []*chaos{
		{w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 2)), choice: onDaemon, longer: s.longer,
			aim: s.aim},
		{w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 3)), choice: onAll, longer: s.longer},
	}
	var f *findings
	for round := 1; ; round++ {
		began := time.Now()
		l.endure(s, rng, l.run, all...)
		f = l.verify()
		t.Logf("round %d: the daemon had %v; the machines had %v; %d jobs, %d attempts; %d lost, "+
			"%d doubled", round, all[0], all[1], f.acknowledged, f.attempts, f.lost, f.doubled)
		for _, fault := range f.faults {
			t.Error(fault)
		}
		if t.Failed() || time.Until(end) < time.Since(began)/2 {
			break
		}
	}
	if !t.Failed() {
		w.cleanEnd()
	}
	count(t, f.acknowledged, "jobs of all shapes")
}

// killAgents ends the agents on a machine, and neither their sessions nor what they have started.
func (c *chaos) killAgents(_ context.Context) {
	c.agents += c.machine().killAgents(c.w.t)
}

// A deed of the ledger is what a run wrote down of itself.
type noted struct {
	begins, ends int // its places in the ledger, from 1; 0: it isn't there
	name         string
}

// runsIn reads what runs wrote into the ledger, and notes what can't be.
func (l *shapes) runsIn(f *findings) map[string]*noted {
	runs := map[string]*noted{}
	at := 0
	for line := range strings.Lines(read(l.w.t, l.w.ledger)) {
		at++
		words := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(words) < 3 {
			f.fault(&f.lost, "the ledger has the line %q", line)
			continue
		}
		run := runs[words[0]]
		if run == nil {
			run = &noted{name: words[1]}
			runs[words[0]] = run
		}
		place := &run.begins
		switch words[2] {
		case "begins":
		case "ends":
			place = &run.ends
		default:
			f.fault(&f.doubled, "run %s of %s: %s", words[0], words[1], words[2])
			continue
		}
		if *place != 0 {
			f.fault(&f.doubled, "run %s of %s %s more than once", words[0], words[1], words[2])
		}
		*place = at
	}
	return runs
}

// verify compares what the daemon says with what the runs wrote down and what has to be.
func (l *shapes) verify() *findings {
	f := &findings{acknowledged: len(l.members), faults: l.faults}
	runs := l.runsIn(f)
	byID := map[uint64]*api.Job{}
	jobs := l.w.allJobs()
	for i := range jobs {
		byID[jobs[i].JID] = &jobs[i]
	}
	if f.jobs = len(jobs); f.jobs != len(l.members) {
		f.fault(&f.doubled, "%d jobs were acknowledged, and there are %d", len(l.members), f.jobs)
	}
	first, last := map[string]int{}, map[string]int{} // by name: the first begin, the last end
	for _, run := range runs {
		if at := first[run.name]; at == 0 || run.begins < at {
			first[run.name] = run.begins
		}
		last[run.name] = max(last[run.name], run.ends, run.begins)
	}
	for _, m := range l.members {
		job := byID[m.jid]
		if job == nil {
			f.fault(&f.lost, "%s was acknowledged as job %d, which isn't there", m.name, m.jid)
			continue
		}
		for _, before := range m.after {
			if first[m.name] < last[before] {
				f.fault(&f.doubled, "%s has begun before %s had ended", m.name, before)
			}
		}
		l.verifyMember(f, m, job, runs)
	}
	return f
}

// verifyMember checks one job.
func (l *shapes) verifyMember(f *findings, m *member, job *api.Job, runs map[string]*noted) {
	if job.Status != m.status {
		f.fault(&f.lost, "%s, job %d, is %s, want %s: %s", m.name, m.jid, job.Status, m.status,
			job.Error)
		return
	}
	if code, known := job.ExitCode.Get(); m.exit >= 0 && (!known || code != m.exit) {
		f.fault(&f.lost, "%s, job %d: exit code %d (%v), want %d", m.name, m.jid, code, known,
			m.exit)
	}
	exited := 0
	var outcomes []string
	for i := range job.Attempts {
		a := &job.Attempts[i]
		outcomes = append(outcomes, fmt.Sprintf("%d %s %s", a.Attempt, a.Outcome, a.Error))
		f.attempts++
		began := 0
		for rank := range max(1, m.ranks) {
			run := runs[fmt.Sprintf("%d.%d.%d", job.JID, a.Attempt, rank)]
			if run == nil {
				continue
			}
			began++
			if run.name != m.name {
				f.fault(&f.doubled, "%s, job %d, ran the command of %s", m.name, m.jid, run.name)
			}
			if run.ends == 0 && m.status == "done" && i == len(job.Attempts)-1 {
				f.fault(&f.lost, "rank %d of %s, job %d, has not ended by itself", rank, m.name,
					m.jid)
			}
		}
		switch a.Outcome {
		case "lost":
			f.fault(&f.lost, "%s, attempt %d of job %d, is said to be lost: %s", m.name, a.Attempt,
				job.JID, a.Error)
		case "exited":
			exited++
			if code, _ := a.ExitCode.Get(); began == 0 || code == 0 && began != m.ranks {
				f.fault(&f.lost, "attempt %d of job %d, %s, has exited, and %d of its %d ranks "+
					"began", a.Attempt, job.JID, m.name, began, m.ranks)
			}
		case "not started":
			if began > 0 {
				f.fault(&f.doubled, "attempt %d of job %d is said not to have started, and did",
					a.Attempt, job.JID)
			}
		}
	}
	if exited != m.exited {
		f.fault(&f.doubled, "%s, job %d, has %d attempts that exited, want %d: %q", m.name, job.JID,
			exited, m.exited, outcomes)
	}
	if m.paused && job.PausedSeconds <= 0 {
		f.fault(&f.lost, "%s, job %d, was paused, and has no paused time", m.name, job.JID)
	}
	if m.status == "done" {
		l.verifyLogs(f, m, job)
		l.verifyResult(f, m, job)
	}
}

// verifyLogs compares what the ranks of a job printed with their logs.
func (l *shapes) verifyLogs(f *findings, m *member, job *api.Job) {
	if m.ranks < 2 {
		return
	}
	a := &job.Attempts[len(job.Attempts)-1]
	if len(a.Ranks) != m.ranks {
		f.fault(&f.lost, "%s, job %d, has %d ranks, want %d", m.name, m.jid, len(a.Ranks), m.ranks)
		return
	}
	for i := range a.Ranks {
		if m.result == "" {
			continue
		}
		var want strings.Builder
		for n := range 20 {
			fmt.Fprintf(&want, "%s %d %d\n", m.name, i, n)
		}
		out, _, _ := strings.Cut(read(l.w.t, a.Ranks[i].Log), "RESULTS: ")
		if out != want.String() {
			f.fault(&f.lost, "rank %d of %s, job %d: its log is %q", i, m.name, m.jid, out)
		}
	}
}

// verifyResult compares the result of each run of a job with what it left there.
func (l *shapes) verifyResult(f *findings, m *member, job *api.Job) {
	if m.result == "" {
		return
	}
	for rank := range m.ranks {
		dir := job.ResultsDir
		if m.ranks > 1 {
			dir = filepath.Join(dir, fmt.Sprintf("r%d", rank))
		}
		files, err := filepath.Glob(filepath.Join(dir, "*", "result"))
		if err != nil || len(files) != 1 || read(l.w.t, files[0]) != m.result+"\n" {
			f.fault(&f.lost, "the results of rank %d of %s, job %d, are %q (%s: %s)", rank, m.name,
				m.jid, files, job.ResultsStatus, job.ResultsError)
		}
	}
}
