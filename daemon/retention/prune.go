//go:build linux

package retention

import (
	"context"
	"fmt"
	"slices"
	"time"

	"jobserver/sched"
)

// Request says what to forget.
type Request struct {
	Before time.Time // what ended before it
	Newest int       // but for so many that ended last; 0: all of it
	Jobs   []uint64  // only of these, ascending; nil: of all
	Act    bool      // else it is only found out
	Most   int       // with Act: if there are more, nothing is done; 0: any number

	see func(st *sched.State, id uint64)
}

// Result counts what became of the jobs that are old enough.
type Result struct {
	Fates   []sched.Fate // of the first MaxPage
	Total   int
	Changed int
}

func (r *Result) add(fates ...sched.Fate) {
	for _, f := range fates {
		r.Total++
		if f.Changed {
			r.Changed++
		}
		if len(r.Fates) < sched.MaxPage {
			r.Fates = append(r.Fates, f)
		}
	}
}

// show lets the caller see jobs that come into the result.
func (r *Request) show(st *sched.State, ids []uint64, result *Result) {
	if r.see == nil {
		return
	}
	for _, id := range ids[:min(len(ids), sched.MaxPage-len(result.Fates))] {
		r.see(st, id)
	}
}

// TooManyError says that more would be forgotten than the caller allows.
type TooManyError struct{ Total, Most int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d jobs match, more than %d", e.Total, e.Most)
}

// Prune forgets what a request says, in pieces, between which others have their turn. What was
// forgotten when it is interrupted stays so; who asks again goes on. see is shown the first MaxPage
// of the jobs, before they go.
func (k *Keeper) Prune(
	ctx context.Context, r Request, see func(st *sched.State, id uint64),
) (*Result, error) {
	r.see = see
	return k.prune(ctx, r)
}

func (k *Keeper) prune(ctx context.Context, r Request) (*Result, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.Keep == 0 && k.KeepJobs == 0 {
		defer func() { k.ends = nil }() // nobody asks for it every hour
	}
	units, err := k.survey(ctx)
	if err != nil {
		return nil, err
	}
	units = old(units, &r)
	if r.Jobs != nil {
		if units, err = k.within(ctx, units, r.Jobs); err != nil {
			return nil, err
		}
	}
	total := 0
	for _, u := range units {
		total += u.size()
	}
	if r.Act && r.Most > 0 && total > r.Most {
		return nil, &TooManyError{Total: total, Most: r.Most}
	}
	result := &Result{}
	if err := k.pruneUnits(ctx, units, &r, result); err != nil {
		return nil, err
	}
	if r.Act && result.Changed > 0 {
		k.Log.Info("jobs that ended long ago were forgotten, with their logs; not their results",
			"jobs", result.Changed, "kept", result.Total-result.Changed, "before", r.Before)
	}
	return result, nil
}

// size is how many jobs of the unit are concerned.
func (u *unit) size() int {
	if u.asked {
		return len(u.jobs)
	}
	return u.chosen
}

// old are the units that ended before the time, oldest first; not those that are among the newest
// that are kept. The one in which their number is reached is kept, too.
func old(units []*unit, r *Request) []*unit {
	kept := 0
	var found []*unit
	for _, u := range units {
		switch {
		case r.Newest > kept:
			kept += len(u.jobs)
		case time.Unix(0, u.end).Before(r.Before):
			u.asked, u.chosen = true, len(u.jobs)
			found = append(found, u)
		}
	}
	slices.Reverse(found)
	return found
}

// within narrows units to those of which the selection has something.
func (k *Keeper) within(ctx context.Context, units []*unit, jobs []uint64) ([]*unit, error) {
	has := func(id uint64) bool { _, ok := slices.BinarySearch(jobs, id); return ok }
	var found []*unit
	for _, u := range units {
		u.chosen = 0
		for _, id := range u.jobs {
			if has(id) {
				u.chosen++
			}
		}
		if u.chosen == 0 {
			continue
		}
		if u.matrix != 0 {
			// Of a cell that was run again, a selection of the matrix has the newest alone.
			var cells []uint64
			err := k.Loop.Read(ctx, func(st *sched.State) { cells = st.Cells(u.matrix) })
			if err != nil {
				return nil, err
			}
			u.asked = !slices.ContainsFunc(cells, func(id uint64) bool { return !has(id) })
		}
		if !u.asked {
			u.jobs = slices.DeleteFunc(u.jobs, func(id uint64) bool { return !has(id) })
		}
		found = append(found, u)
	}
	return found, nil
}

// pruneUnits forgets what it can: single jobs together, each matrix by itself.
func (k *Keeper) pruneUnits(ctx context.Context, units []*unit, r *Request, result *Result) error {
	var singles []uint64
	for _, u := range units {
		if u.matrix != 0 {
			if err := k.pruneMatrix(ctx, u, r, result); err != nil {
				return err
			}
			continue
		}
		if singles = append(singles, u.jobs...); len(singles) >= sched.PrunePiece {
			if err := k.pruneJobs(ctx, singles, r, result); err != nil {
				return err
			}
			singles = singles[:0]
		}
	}
	return k.pruneJobs(ctx, singles, r, result)
}

// pruneMatrix forgets a matrix, if all of it is to go and nothing of it is needed.
func (k *Keeper) pruneMatrix(ctx context.Context, u *unit, r *Request, result *Result) error {
	why, err := k.whyKept(ctx, u)
	if err == nil && why == "" && r.Act {
		err = k.storeMatrix(ctx, u.matrix)
	}
	for page := range slices.Chunk(u.jobs, sched.PrunePiece) {
		switch {
		case err != nil:
			return err
		case why != "":
			err = k.keep(ctx, page, why, r, result)
		default:
			err = k.pruneJobs(ctx, page, r, result)
		}
	}
	return err
}

// whyKept says why a matrix is kept: not all of it was named, or has ended, or is needed no more.
func (k *Keeper) whyKept(ctx context.Context, u *unit) (why string, err error) {
	switch {
	case !u.whole:
		return fmt.Sprintf("matrix %d has jobs that haven't ended", u.matrix), nil
	case !u.asked:
		return fmt.Sprintf("matrix %d is kept whole, as its tables need all cells: name it as "+
			"%%%d, or forget these with `jobserver job rm -f`", u.matrix, u.matrix), nil
	}
	for page := range slices.Chunk(u.jobs, recordsPage) {
		err := k.Loop.Read(ctx, func(st *sched.State) {
			for i, needed := range st.Needed(page) {
				if needed != "" && why == "" {
					why = needed
					if len(u.jobs) > 1 {
						why = fmt.Sprintf("matrix %d is kept whole: of job %d, %s", u.matrix,
							page[i], needed)
					}
				}
			}
		})
		if err != nil || why != "" {
			return why, err
		}
	}
	return "", nil
}

// keep notes that jobs stay, and why.
func (k *Keeper) keep(
	ctx context.Context, ids []uint64, why string, r *Request, result *Result,
) error {
	return k.Loop.Read(ctx, func(st *sched.State) {
		r.show(st, ids, result)
		for _, id := range ids {
			result.add(sched.Fate{Job: id, Status: st.Status(id), Note: why})
		}
	})
}

// pruneJobs forgets those jobs that nobody needs. They are archived first, and durably.
func (k *Keeper) pruneJobs(ctx context.Context, ids []uint64, r *Request, result *Result) error {
	var going []uint64
	err := k.Loop.Read(ctx, func(st *sched.State) {
		r.show(st, ids, result)
		for i, why := range st.Needed(ids) {
			if why == "" {
				going = append(going, ids[i])
			}
			if why != "" || !r.Act {
				result.add(sched.Fate{
					Job: ids[i], Status: st.Status(ids[i]), Changed: why == "", Note: why,
				})
			}
		}
	})
	if err != nil || !r.Act || len(going) == 0 {
		return err
	}
	if err := k.storeJobs(ctx, going); err != nil {
		return err
	}
	plan, _, err := k.Loop.Do(ctx, "", false,
		func(st *sched.State, _ time.Time) (sched.Plan, error) {
			return st.PlanPrune(going, r.Before), nil
		})
	result.add(plan.Fates...)
	return err
}
