package slurm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Job is an allocation as squeue lists it.
type Job struct {
	ID    string // Slurm's number
	Name  string
	State string // Slurm's word: see KindOf
	// Reason is why it waits, or how it ended, in Slurm's words; "" where there is none.
	Reason    string
	Node      string    // where its script runs; "" while it waits
	Nodes     []string  // all that it has, at most MaxNodes
	Start     time.Time // began, or is expected to; zero: not known
	End       time.Time // will end at the latest; zero: not known, or there is no limit
	Submitted time.Time
}

// Answer has the outcome of a script.
type Answer struct {
	// by the login's clock, to which the jobs' times can be compared; zero: not known
	Now  time.Time
	Jobs []Job
	// Others are the numbers of listed jobs that have names of somebody else's.
	Others map[string]bool
	Ends   map[string]End // by the key of each command that has ended
}

// End is how one of Slurm's commands ended.
type End struct {
	Code int    // 0: well
	Said string // all that it printed beside the jobs, errors above all
}

// ReadAnswer reads what a script printed. Lines that aren't of ours are passed over. keep tells
// whose jobs count, by their names: anything else that is listed is nobody's business.
func ReadAnswer(said string, keep func(name string) bool) Answer {
	a := Answer{Ends: map[string]End{}, Others: map[string]bool{}}
	var words []string
	for line := range strings.Lines(said) {
		line = strings.TrimRight(line, "\r\n")
		if now, ok := strings.CutPrefix(line, wordNow); ok {
			a.Now = seconds(now)
			continue
		}
		if rest, ok := strings.CutPrefix(line, wordEnd); ok {
			key, code, _ := strings.Cut(rest, " ")
			if n, err := strconv.Atoi(code); err == nil && key != "" {
				a.Ends[key] = End{Code: n, Said: strings.Join(words, "\n")}
			}
			words = nil
			continue
		}
		out, ok := strings.CutPrefix(line, wordOut)
		if !ok {
			continue
		}
		if job, ok := parseJob(out); !ok {
			words = append(words, out)
		} else if keep(job.Name) {
			a.Jobs = append(a.Jobs, job)
		} else {
			a.Others[job.ID] = true
		}
	}
	return a
}

// parseJob reads a line of squeue's in the format of queue. The reason comes last: it is a text.
func parseJob(line string) (j Job, ok bool) {
	rest, ok := strings.CutPrefix(line, wordJob)
	if !ok {
		return j, false
	}
	f := strings.SplitN(rest, "|", 9)
	if len(f) < 9 || !isNumber(f[0]) || f[1] == "" || f[2] == "" {
		return j, false
	}
	j = Job{ID: f[0], Name: f[1], State: f[2], Reason: f[8],
		Start: seconds(f[4]), End: seconds(f[5]), Submitted: seconds(f[6])}
	if f[3] != "n/a" && f[3] != "(null)" {
		j.Node = f[3]
	}
	if j.Node != "" {
		j.Nodes = expand(f[7])
	}
	if j.Reason == "None" {
		j.Reason = ""
	}
	return j, true
}

// seconds is a time as SLURM_TIME_FORMAT=%s prints it; zero for N/A and NONE.
func seconds(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

// Submitted is the number of the job that sbatch says to have submitted; ok is false after any
// other answer.
func (a Answer) Submitted() (id string, ok bool) {
	end, answered := a.Ends["submit"]
	if !answered || end.Code != 0 {
		return "", false
	}
	for line := range strings.Lines(end.Said) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), ";") // a cluster's name may follow
		if !isNumber(word) {
			continue // a site's words about its policies
		}
		if id != "" {
			return "", false
		}
		id = word
	}
	return id, id != ""
}

// noJob begins the answer of squeue and scontrol about a number that the controller doesn't know
// (any more).
const noJob = "Invalid job id specified"

// Unknown tells whether the controller has answered that there is no such job of ours (any more).
// An answer without a word says nothing.
func (a Answer) Unknown(id string) bool {
	if a.has(id) {
		return false
	}
	return a.Others[id] || a.Ends[id].Code != 0 && strings.Contains(a.Ends[id].Said, noJob)
}

// Answered tells whether the controller has said anything of a job that was asked for.
func (a Answer) Answered(id string) bool { return a.has(id) || a.Unknown(id) }

func (a Answer) has(id string) bool {
	return slices.ContainsFunc(a.Jobs, func(j Job) bool { return j.ID == id })
}

// maxWords is how much of what a command says anybody reads, in bytes.
const maxWords = 500

// How timeout(1) ends, when the command did at its signal, and when it had to be killed.
const (
	codeTimeout = 124
	codeKilled  = 137
)

// Words gives what a command said, as one line without its own name before each.
func (e End) Words() string {
	var words []string
	for line := range strings.Lines(e.Said) {
		line = strings.TrimSpace(line)
		for _, name := range [...]string{"sbatch: ", "squeue: ", "scancel: ", "srun: ", "sinfo: ",
			"error: ", "fatal: ", "allocation failure: ", "Batch job submission failed: ",
			"slurm_load_jobs error: "} {
			line = strings.TrimPrefix(line, name)
		}
		if line != "" {
			words = append(words, line)
		}
	}
	if len(words) == 0 && (e.Code == codeTimeout || e.Code == codeKilled) {
		return fmt.Sprintf("Slurm's command gave no answer within %v", MaxTime)
	}
	all := strings.Join(words, "; ")
	if len(all) > maxWords {
		all = all[:maxWords] + "…"
	}
	return strings.ToValidUTF8(all, "\uFFFD")
}

// Unanswered tells whether what sbatch said leaves open that the controller took the job: there was
// no answer of the controller's, and it may still come to the request.
func (a Answer) Unanswered() bool {
	end, answered := a.Ends["submit"]
	// 124: timeout(1), which 137 is too; 126, 127: no program; more: a signal
	if !answered || end.Code == 0 || end.Code > 123 && end.Code < 255 {
		return true
	}
	for _, words := range [...]string{"timed out", "Unable to contact", "Connection", "connection",
		"Zero Bytes", "nexpected", "ommunication", "retrying", "munge", "Munge"} {
		if strings.Contains(end.Said, words) {
			return true
		}
	}
	return false
}
