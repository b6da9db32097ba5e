package sched

import (
	"fmt"
	"path/filepath"
	"strings"

	"jobserver/sched/statepb"
)

// The results of a gang lie on several machines, and are copied rank by rank, all at the same time.
// The job copies until the last of them has come, or failed to.

// copies says that the results of a rank are on their way.
func copies(c statepb.Results) bool {
	return c == statepb.Results_RESULTS_COPYING || c == statepb.Results_RESULTS_WAITING
}

// hasResults says that a run has named results, or seems to have meant to.
func hasResults(r *statepb.Attempt) bool { return len(r.Results) > 0 || r.Overlooked != "" }

// toCopy sends the results of an attempt's ranks on their way, those that aren't on the host.
func toCopy(a *statepb.Attempt) {
	for _, r := range runsOf(a) {
		if hasResults(r) && r.Copy != statepb.Results_RESULTS_COPIED {
			r.Copy, r.CopyError = statepb.Results_RESULTS_COPYING, ""
		}
	}
}

// copyingRanks are those of an attempt whose results are on their way.
func copyingRanks(a *statepb.Attempt) (all []*statepb.Attempt) {
	for _, r := range runsOf(a) {
		if r == a || copies(r.Copy) {
			all = append(all, r)
		}
	}
	return all
}

// copyingRank is the one of these with a number, or nil.
func copyingRank(a *statepb.Attempt, rank int32) *statepb.Attempt {
	for _, r := range copyingRanks(a) {
		if r.Rank == rank {
			return r
		}
	}
	return nil
}

// noteCopyEnded notes that the results of one rank are on the host, or why not. When they were the
// last, it gives what became of all of them.
func noteCopyEnded(j *job, r *statepb.Attempt, c *statepb.CopyEnded) *statepb.CopyEnded {
	a := last(j.Job)
	r.Copy, r.CopyError = statepb.Results_RESULTS_COPIED, ""
	if c.Error != "" {
		r.Copy, r.CopyError = statepb.Results_RESULTS_FAILED, c.Error
	}
	r.ResultsBytes, r.ResultsFiles = c.Bytes, c.Files
	dir := c.Dir
	if r.Rank > 0 && dir != "" {
		dir = filepath.Dir(dir)
	}
	whole := &statepb.CopyEnded{Job: c.Job, Dir: dir, Took: c.Took}
	if dir == "" {
		whole.Dir = j.ResultsDir
	}
	j.ResultsDir = whole.Dir
	var problems []string
	for _, one := range runsOf(a) {
		whole.Bytes += one.ResultsBytes
		whole.Files += one.ResultsFiles
		if one.Copy == statepb.Results_RESULTS_FAILED {
			problems = append(problems, rankPrefix(one)+one.CopyError)
		}
	}
	whole.Error = strings.Join(problems, "; ")
	if len(copyingRanks(a)) > 0 {
		return nil
	}
	return whole
}

// rankPrefix begins what concerns one rank alone.
func rankPrefix(r *statepb.Attempt) string {
	if r.Rank == 0 {
		return ""
	}
	return fmt.Sprintf("rank %d: ", r.Rank-1)
}

// oweCopied has what ranks have left removed whose results are on the host, or all of it.
func (s *State) oweCopied(j *statepb.Job, all bool) {
	a := last(j)
	for _, r := range runsOf(a) {
		if all || r.Copy != statepb.Results_RESULTS_FAILED {
			s.owe(&statepb.Obligation{Run: runRef(j, a, r)})
		}
	}
}

// stopCopying gives up the results of some ranks of a job.
func (s *State) stopCopying(j *job, ranks []*statepb.Attempt, why string, at int64) error {
	for _, r := range ranks {
		end := &statepb.CopyEnded{Job: j.Id, Error: why, Rank: r.Rank}
		if err := s.applyCopyEnded(end, at); err != nil {
			return err
		}
	}
	return nil
}
