//go:build linux

package retention

import (
	"cmp"
	"context"
	"slices"

	"jobserver/sched"
)

// unit goes at once, or not at all: a job, or a matrix with all that ran its cells.
type unit struct {
	matrix uint64 // 0: a single job
	jobs   []uint64
	end    int64 // of the newest, in nanoseconds
	whole  bool  // of a matrix: all of its jobs have ended
	asked  bool  // the selection has all of it
	chosen int   // jobs that the selection has of it
}

// How much one read of the state takes: a millisecond or two.
const (
	idsPage     = 20_000
	recordsPage = 250
)

// survey finds all jobs that have ended, in their units, the newest first. k.mu is held.
func (k *Keeper) survey(ctx context.Context) ([]*unit, error) {
	ended, err := k.ended(ctx)
	if err != nil {
		return nil, err
	}
	if err := k.learnEnds(ctx, ended); err != nil {
		return nil, err
	}
	matrices := map[uint64]*unit{}
	var units []*unit
	for page := range slices.Chunk(ended, idsPage/10) {
		err := k.Loop.Read(ctx, func(st *sched.State) {
			for _, id := range page {
				m := st.MatrixOf(id)
				u := matrices[m]
				if m == 0 || u == nil {
					u = &unit{matrix: m, whole: true}
					units = append(units, u)
				}
				if m != 0 {
					matrices[m] = u
				}
				u.jobs = append(u.jobs, id)
				u.end = max(u.end, k.ends[id])
			}
		})
		if err != nil {
			return nil, err
		}
	}
	err = k.Loop.Read(ctx, func(st *sched.State) {
		for m, u := range matrices {
			u.whole = st.MatrixJobs(m) == len(u.jobs)
		}
	})
	slices.SortStableFunc(units, func(a, b *unit) int { return cmp.Compare(b.end, a.end) })
	return units, err
}

// ended lists all jobs that have ended, ascending.
func (k *Keeper) ended(ctx context.Context) (ids []uint64, err error) {
	for first, next := uint64(1), uint64(2); first < next; first += idsPage {
		err := k.Loop.Read(ctx, func(st *sched.State) {
			ids = append(ids, st.EndedIn(first, idsPage)...)
			next = st.NextID()
		})
		if err != nil {
			return nil, err
		}
		if grown := int(next) - len(k.ends); grown > 0 {
			k.ends = append(k.ends, make([]int64, grown)...)
		}
	}
	return ids, nil
}

// learnEnds finds out when jobs ended of which that isn't known yet. Their records are decoded for
// it, but once only.
func (k *Keeper) learnEnds(ctx context.Context, ids []uint64) error {
	var unknown []uint64
	for _, id := range ids {
		if k.ends[id] == 0 {
			unknown = append(unknown, id)
		}
	}
	for page := range slices.Chunk(unknown, recordsPage) {
		err := k.Loop.Read(ctx, func(st *sched.State) {
			for _, id := range page {
				k.ends[id] = max(st.EndOf(id).UnixNano(), 1)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}
