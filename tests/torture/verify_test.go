package torture_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"jobserver/api"
)

// findings say what became of a load.
type findings struct {
	jobs, acknowledged, attempts int
	lost                         int // acknowledged and not there, or not as it was acknowledged
	doubled                      int // run or submitted more than once
	faults                       []string
}

func (f *findings) fault(counter *int, format string, args ...any) {
	*counter++
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// verify compares what the daemon says, what is in the files and what the runs themselves wrote
// down, with what the clients were told.
func (l *load) verify() *findings {
	f := &findings{acknowledged: len(l.tasks), faults: l.faults}
	jobs := l.w.allJobs()
	f.jobs = len(jobs)
	byID := map[uint64]*api.Job{}
	for i := range jobs {
		byID[jobs[i].JID] = &jobs[i]
	}
	runs := map[string]int{}   // attempts, by how often they began
	byName := map[string]int{} // jobs of each name
	for line := range strings.Lines(read(l.w.t, l.w.ledger)) {
		run, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if runs[run]++; runs[run] == 2 {
			f.fault(&f.doubled, "attempt %s ran more than once", run)
		}
	}
	for i := range jobs {
		_, rest, _ := strings.Cut(jobs[i].Cmd, `ATTEMPT `)
		name, _, _ := strings.Cut(rest, `"`)
		if byName[name]++; byName[name] == 2 {
			f.fault(&f.doubled, "%s was submitted once, and is two jobs", name)
		}
	}
	for _, t := range l.tasks {
		job := byID[t.jid]
		if job == nil {
			f.fault(&f.lost, "%s was acknowledged as job %d, which isn't there", t.name, t.jid)
			continue
		}
		l.verifyJob(f, t, job, runs)
	}
	return f
}

// verifyJob checks one job against its task.
func (l *load) verifyJob(f *findings, t *task, job *api.Job, runs map[string]int) {
	status, code := "done", 0
	switch t.kind {
	case fails:
		status, code = "failed", 7
	case overruns:
		status, code = "failed", -1
	case endless:
		status, code = "canceled", -1
	}
	if job.Status != status {
		f.fault(&f.lost, "%s, job %d, is %s, want %s: %s", t.name, t.jid, job.Status, status,
			job.Error)
		return
	}
	exited := 0
	for i := range job.Attempts {
		a := &job.Attempts[i]
		f.attempts++
		n := runs[fmt.Sprintf("%d.%d", job.JID, a.Attempt)]
		switch {
		case a.Outcome == "lost":
			f.fault(&f.lost, "%s, attempt %d of job %d, is said to be lost: %s", t.name, a.Attempt,
				job.JID, a.Error)
		case a.Outcome == "exited":
			exited++
			if n == 0 {
				f.fault(&f.lost, "attempt %d of job %d has exited, and never began", a.Attempt,
					job.JID)
			}
			l.verifyAttempt(f, t, job, a)
		case a.Outcome == "not started" && n > 0:
			f.fault(&f.doubled, "attempt %d of job %d is said not to have started, and did",
				a.Attempt, job.JID)
		}
	}
	want := 1
	switch t.kind {
	case retries:
		want = 2
	case endless, overruns:
		want = 0
	}
	if exited != want {
		f.fault(&f.doubled, "%s, job %d, has %d attempts that exited, want %d", t.name, job.JID,
			exited, want)
	}
	if got, known := job.ExitCode.Get(); code >= 0 && (!known || got != code) {
		f.fault(&f.lost, "%s, job %d: exit code %d (%v), want %d", t.name, job.JID, got, known,
			code)
	}
	if t.kind == yields {
		l.verifyResults(f, t, job)
	}
}

// verifyAttempt compares an attempt's log with what it printed, byte for byte.
func (l *load) verifyAttempt(f *findings, t *task, job *api.Job, a *api.Attempt) {
	out := read(l.w.t, a.Log)
	if t.kind == yields { // the path of its scratch directory is in its last line
		before, _, found := strings.Cut(out, "RESULTS: ")
		if !found || !strings.HasSuffix(out, "/scratch/"+t.name+"\n") {
			f.fault(&f.lost, "attempt %d of job %d: its log has no results: %q", a.Attempt, job.JID,
				out)
		}
		out = before
	}
	if want := t.stdout(); out != want {
		at := 0
		for at < min(len(out), len(want)) && out[at] == want[at] {
			at++
		}
		f.fault(&f.lost, "attempt %d of job %d: its log has %d bytes instead of %d, and differs "+
			"from byte %d on", a.Attempt, job.JID, len(out), len(want), at)
	}
	if t.kind != prints2M && read(l.w.t, a.ErrLog) != t.name+" ends\n" {
		f.fault(&f.lost, "attempt %d of job %d: its stderr is %q", a.Attempt, job.JID,
			read(l.w.t, a.ErrLog))
	}
}

// verifyResults compares the results, and what is recorded of them.
func (l *load) verifyResults(f *findings, t *task, job *api.Job) {
	if job.ResultsStatus != "copied" || !t.resultIs(job) {
		f.fault(&f.lost, "%s: the results of job %d are %s, in %s: %s", t.name, job.JID,
			job.ResultsStatus, job.ResultsDir, job.ResultsError)
		return
	}
	var record struct {
		JID     uint64 `json:"jid"`
		Results []struct{ Name, SHA256 string }
	}
	text, err := os.ReadFile(filepath.Join(job.ResultsDir, "job.json"))
	if err == nil {
		err = json.Unmarshal(text, &record)
	}
	if err != nil || record.JID != job.JID {
		f.fault(&f.lost, "the record of job %d: %v", job.JID, err)
		return
	}
	content, err := os.ReadFile(t.resultFile(job))
	sum := sha256.Sum256(content)
	for _, r := range record.Results {
		if err == nil && r.SHA256 == hex.EncodeToString(sum[:]) {
			return
		}
	}
	f.fault(&f.lost, "the record of job %d has no result with the checksum of its file", job.JID)
}
