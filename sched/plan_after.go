package sched

import (
	"fmt"
	"slices"
	"strings"

	"jobserver/sched/statepb"
)

// maxSpans is how many runs of ids, and matrices, one job may wait for.
const maxSpans = 1000

// AfterSpec says what a job is to wait for, as selectors that are read when it is submitted.
type AfterSpec struct {
	Done   []string // all of these are to be done, and their results on the host
	Ended  []string // all of these are to have ended
	Failed []string // all of these are to have ended, and one of them not to have succeeded
	Cells  string   // of a matrix: each cell waits for those of this matrix that are like it
	Unmet  string   // what is done when this can't be met: wait, which is "" too, or cancel
}

// nothing says that no jobs are named.
func (spec *AfterSpec) nothing() bool {
	return len(spec.Done)+len(spec.Ended)+len(spec.Failed) == 0 && spec.Cells == ""
}

// after resolves what a job waits for, nil for nothing.
func (p *planner) after(spec *AfterSpec) (*statepb.After, error) {
	a := &statepb.After{}
	switch spec.Unmet {
	case "", "wait":
	case "cancel":
		a.Cancel = true
	default:
		return nil, errorf(
			Invalid,
			"--if-unmet %s: a job can wait or be canceled then",
			spec.Unmet,
		).
			hint("it waits, and is shown as blocked, unless you write --if-unmet cancel")
	}
	for _, term := range []struct {
		when  statepb.When
		words []string
	}{
		{statepb.When_ALL_DONE, spec.Done},
		{statepb.When_ALL_ENDED, spec.Ended},
		{statepb.When_ONE_FAILED, spec.Failed},
	} {
		if len(term.words) == 0 {
			continue
		}
		t, err := p.s.term(term.words, term.when)
		if err != nil {
			return nil, err
		}
		a.Terms = append(a.Terms, t)
	}
	if spec.Cells != "" {
		id, err := p.s.FindMatrix(spec.Cells)
		if err != nil {
			return nil, err
		}
		a.Cells = id
	}
	if len(a.Terms) == 0 && a.Cells == 0 {
		if a.Cancel {
			return nil, errorf(
				Invalid,
				"--if-unmet cancel: the job waits for nothing",
			).hint("say what for with --after")
		}
		return nil, nil
	}
	if b := p.s.foresee(a); b != "" {
		p.warn("it is blocked: %s", b)
	}
	return a, nil
}

// term resolves selectors. A matrix counts as a whole, with the cells that it gains later.
func (s *State) term(words []string, when statepb.When) (*statepb.Term, error) {
	t := &statepb.Term{When: when}
	var ids []uint64
	var texts []string
	for _, word := range words {
		sel, err := ParseSelector(word)
		if err != nil {
			return nil, eachByItself(word, when, err)
		}
		if m, err := s.wholeMatrix(sel); err != nil {
			return nil, err
		} else if m != 0 {
			if !slices.Contains(t.Matrices, m) {
				t.Matrices = append(t.Matrices, m)
			}
			texts = append(texts, fmt.Sprintf("%%%d", m))
			continue
		}
		found, err := s.Select([]string{word})
		if err != nil {
			return nil, err
		}
		for _, id := range found { // by its root, which stays the same whatever is forgotten
			ids = append(ids, s.rootOf(id))
		}
		if len(found) == 1 { // "last" is another job by tomorrow
			word = fmt.Sprint(found[0])
		}
		texts = append(texts, word)
	}
	t.Text = strings.Join(texts, " ")
	slices.Sort(ids)
	slices.Sort(t.Matrices)
	for _, id := range slices.Compact(ids) {
		if n := len(t.Jobs); n > 0 && t.Jobs[n-1].Last+1 == id {
			t.Jobs[n-1].Last = id
		} else {
			t.Jobs = append(t.Jobs, &statepb.Span{First: id, Last: id})
		}
	}
	if len(t.Jobs)+len(t.Matrices) > maxSpans {
		return nil, errorf(
			Invalid,
			"a job can't wait for %d sets of jobs that aren't consecutive",
			len(t.Jobs),
		).
			hint("wait for a matrix (%%93), or for a job that itself waits for some of them")
	}
	return t, nil
}

// eachByItself says of a word that is no selector, but a list of them, how several are given.
func eachByItself(word string, when statepb.When, err error) error {
	words := strings.FieldsFunc(word, func(r rune) bool { return r == ',' || r == ' ' })
	if own, ok := err.(*Error); ok && len(words) > 1 &&
		!slices.ContainsFunc(words, func(w string) bool {
			_, err := ParseSelector(w)
			return err != nil
		}) {
		flag := map[statepb.When]string{statepb.When_ALL_DONE: " --after ",
			statepb.When_ALL_ENDED: " --after-any ", statepb.When_ONE_FAILED: " --after-failed "}
		return own.hint("did you mean%s?", flag[when]+strings.Join(words, flag[when]))
	}
	return err
}

// wholeMatrix is the matrix that a selector names without narrowing it, 0 for none.
func (s *State) wholeMatrix(sel Selector) (uint64, error) {
	switch {
	case len(sel.Statuses) > 0 || sel.Uncopied:
	case sel.Base == BaseMatrix:
		return s.FindMatrix(sel.Name)
	case sel.Base == BaseID && s.index.status(sel.First) == 0 && s.matrices[sel.First] != nil:
		return sel.First, nil
	}
	return 0, nil
}

// foresee says what blocks a job that is about to be submitted, "" for nothing.
func (s *State) foresee(a *statepb.After) string {
	for _, t := range a.Terms {
		for _, v := range []verdict{stuck, bad, uncopied} {
			if t.When != statepb.When_ALL_DONE && v != stuck {
				continue
			}
			if id := s.firstTold(t, v); id != 0 {
				return fmt.Sprintf("job %d %s", id, s.toldWords(id, v))
			}
		}
	}
	return ""
}

// checkCellsAfter refuses a matrix whose cells can't be paired with those that they wait for.
func (p *planner) checkCellsAfter(m *statepb.Matrix) error {
	of := p.matrix(m.Template.After.GetCells())
	if of == nil {
		return nil
	}
	r := newRelation(m, of)
	instead := fmt.Sprintf("--after %%%d waits for all of that matrix", of.Id)
	if len(r.axes) == 0 && len(of.Axes) > 0 && (!r.repeats || m.Repeats != of.Repeats) {
		return errorf(
			Invalid,
			"no cell is like one of matrix %d: the two have no variable in common, and not the "+
				"same repeats",
			of.Id,
		).
			hint("%s", instead)
	}
	without := r.fill(m, of)
	if name := afterNames(m.Template); name != "" && without < 0 {
		for i, g := range r.groups {
			if g.cells > 1 && len(r.waiting(uint32(i))) > 0 {
				return errorf(
					Invalid,
					"{%s} is one job, and some cells wait for %d cells of matrix %d",
					name,
					g.cells,
					of.Id,
				).
					hint(
						"give this matrix the variables that only the other has, or leave {%s} out",
						name,
					)
			}
		}
	}
	if c := without; c >= 0 {
		var values []string
		for _, v := range CellVars(m, uint32(c)) {
			values = append(values, v.Name+"="+string(v.Value))
		}
		return errorf(
			Invalid,
			"cell %d (%s) has no cell of matrix %d to wait for",
			c,
			strings.Join(values, " "),
			of.Id,
		).
			hint("leave it out with --where, or give matrix %d these values first; %s", of.Id,
				instead)
	}
	return nil
}
