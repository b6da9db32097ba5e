package sched

import (
	"fmt"
	"time"

	"jobserver/sched/statepb"
)

// Forgetting what ended long ago. A matrix is forgotten as a whole or not at all, as its tables and
// plots are made of all of its cells, and as those that are missing would run anew when it is
// submitted again. What somebody still needs is kept: see kept.

// PrunePiece is how many jobs one request may forget so that others don't wait for it: a few
// milliseconds of a turn.
const PrunePiece = OperationPiece

// EndedIn lists the jobs with an id from first on, of the next span ids, that have ended.
func (s *State) EndedIn(first, span uint64) (ids []uint64) {
	for id := max(first, 1); id < min(first+span, s.nextID); id++ {
		if Final(s.Status(id)) {
			ids = append(ids, id)
		}
	}
	return ids
}

// EndOf is when a job ended; the zero time if it hasn't, or isn't there.
func (s *State) EndOf(id uint64) time.Time {
	if !Final(s.Status(id)) {
		return time.Time{}
	}
	return Time(s.Job(id).EndedAt)
}

// Resting gives those of the jobs that have ended, and of which nothing is left to do: no machine
// has anything of them that is to be ended, removed or copied. Nothing is written to their logs.
func (s *State) Resting(ids []uint64) (resting []uint64) {
	owed := map[uint64]bool{}
	for _, o := range s.owed {
		owed[o.Run.Job] = true
	}
	for _, id := range ids {
		if Final(s.Status(id)) && !owed[id] && s.resultsOf(id) != statepb.Results_RESULTS_FAILED {
			resting = append(resting, id)
		}
	}
	return resting
}

func (s *State) resultsOf(id uint64) statepb.Results {
	return statepb.Results(s.index.mark[id] >> 4)
}

// Needed says why jobs must not be forgotten for their age, each "" when nothing speaks against it.
func (s *State) Needed(ids []uint64) []string {
	why := make([]string, len(ids))
	for i, id := range ids {
		why[i] = s.needed(id)
	}
	return why
}

// needed is why one job is. That its machine has something of it which is to be removed is no
// reason: that is done without it.
func (s *State) needed(id uint64) string {
	status := s.Status(id)
	c, inMatrix := s.cellOf(id)
	switch {
	case status == 0:
		return "it is forgotten already"
	case !Final(status):
		return "it is " + StatusName(status)
	case s.resultsOf(id) == statepb.Results_RESULTS_FAILED:
		return fmt.Sprintf("its results could not be copied: `jobserver job recopy %d` tries "+
			"again, `jobserver job rm -f %d` gives them up", id, id)
	case s.isWatching(s.rootOf(id)):
		return "others wait for it, or for its matrix"
	case inMatrix && c.matrix.counts.Unfinished() > 0:
		return fmt.Sprintf("matrix %d has jobs that haven't ended", c.matrix.Id)
	}
	return ""
}

// PlanPrune forgets the jobs that ended before a time. What is needed meanwhile, or isn't old
// enough, is passed over, and its fate says why.
func (s *State) PlanPrune(ids []uint64, before time.Time) Plan {
	p := s.planner()
	for _, id := range ids {
		fate := Fate{Job: id, Status: s.Status(id)}
		fate.Note = s.needed(id)
		if fate.Note == "" && !s.EndOf(id).Before(before) {
			fate.Note = "it ended later"
		}
		if fate.Changed = fate.Note == ""; fate.Changed {
			p.add(&Change{JobForgotten: &statepb.JobForgotten{Job: id}})
		}
		p.Fates = append(p.Fates, fate)
	}
	return p.Plan
}

// MatrixJobs is how many jobs there are of a matrix: of its cells, and those that ran a cell again.
func (s *State) MatrixJobs(id uint64) int {
	if m := s.matrices[id]; m != nil {
		return m.jobs
	}
	return 0
}
