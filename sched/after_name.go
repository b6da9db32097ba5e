package sched

import (
	"slices"
	"strconv"

	"jobserver/sched/statepb"
)

// The names by which a command knows the one job that it waited for: its id, and where its results
// are on the host.
const (
	afterName        = "AFTER"
	afterResultsName = "AFTER_RESULTS"
)

// afterNames is the name of these that a job's command, CP_PATH or inputs have, "" for none; the
// one for results rather than the other.
func afterNames(j *statepb.Job) string {
	names := append(Names(string(j.Cmd)), Names(j.CpPath)...)
	for _, path := range inputPaths(j) {
		names = append(names, Names(path)...)
	}
	for _, name := range []string{afterResultsName, afterName} {
		if slices.Contains(names, name) {
			return name
		}
	}
	return ""
}

// checkAfterNames refuses these where there isn't exactly one job that they could mean, and one
// that has results. Which cells wait for several others is seen when the matrix is made.
func (p *planner) checkAfterNames(j *statepb.Job) error {
	name := afterNames(j)
	if name == "" {
		return nil
	}
	one := errorf(Invalid, "{%s} is of the one job that this one waits for", name).
		hint("name exactly one with --after JID, or pair cells with --after-cell MATRIX")
	var cpPath string
	switch terms := j.After.GetTerms(); {
	case len(terms) == 1 && j.After.Cells == 0:
		t := terms[0]
		if len(t.Matrices) > 0 || len(t.Jobs) != 1 || t.Jobs[0].First != t.Jobs[0].Last {
			return one
		}
		cpPath = p.s.Job(p.s.newest(p.s.rootOf(t.Jobs[0].First))).GetCpPath()
	case len(terms) == 0 && j.After.GetCells() != 0:
		cpPath = p.matrix(j.After.Cells).GetTemplate().GetCpPath()
	default:
		return one
	}
	if name == afterResultsName && cpPath == "" {
		return errorf(Invalid, "{%s}: the job that this one waits for keeps no results", name).
			hint("submit that one with a CP_PATH")
	}
	return nil
}

// afterValue is the value of one of these; "" when there isn't exactly one job.
func (s *State) afterValue(j *statepb.Job, name string) string {
	root := s.afterRoot(j)
	if root == 0 {
		return ""
	}
	id := s.newest(root)
	if id == 0 {
		return "" // it was forgotten
	}
	if name == afterName {
		return strconv.FormatUint(id, 10)
	}
	return s.Job(id).GetResultsDir()
}

// afterRoot gives the root of the one job that a job waits for, 0 when there isn't exactly one.
func (s *State) afterRoot(j *statepb.Job) uint64 {
	terms := j.After.GetTerms()
	if len(terms) == 1 && j.After.Cells == 0 {
		t := terms[0]
		if len(t.Matrices) == 0 && len(t.Jobs) == 1 && t.Jobs[0].First == t.Jobs[0].Last {
			return s.rootOf(t.Jobs[0].First)
		}
	}
	m := s.matrices[j.Matrix]
	if len(terms) > 0 || j.After.GetCells() == 0 || m == nil || m.relation == nil ||
		m.relation.stale {
		return 0
	}
	r := m.relation
	g, ok := r.groupOf(m.Matrix, r.of.Matrix, uint32(j.Cell))
	if !ok || r.group(g).cells != 1 {
		return 0
	}
	return r.of.id(r.group(g).newest)
}
