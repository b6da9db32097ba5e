package live

import "slices"

// Most of each kind that a digest names, as in a reply of the daemon.
const (
	maxJobs  = 200
	maxOther = 30
)

// merge adds what a later digest says.
func (d *Digest) merge(later *Digest) {
	named := (d.Jobs != nil || d.First == 0) && (later.Jobs != nil || later.First == 0)
	d.Cursor, d.Pulse = later.Cursor, later.Pulse
	d.Events += later.Events
	d.Gap = d.Gap || later.Gap
	if later.First != 0 {
		if d.First == 0 || later.First < d.First {
			d.First = later.First
		}
		d.Last = max(d.Last, later.Last)
	}
	d.Jobs, _ = union(d.Jobs, later.Jobs, maxJobs, !named)
	d.Matrices, d.AllMatrices = union(
		d.Matrices,
		later.Matrices,
		maxOther,
		d.AllMatrices || later.AllMatrices,
	)
	d.Machines, d.AllMachines = union(
		d.Machines,
		later.Machines,
		maxOther,
		d.AllMachines || later.AllMachines,
	)
}

// union gives what is in either, ascending, or all when that is already so or they are too many.
func union[T uint64 | string](a, b []T, most int, all bool) ([]T, bool) {
	if all {
		return nil, true
	}
	if len(b) == 0 {
		return a, false
	}
	both := slices.Concat(a, b)
	slices.Sort(both)
	if both = slices.Compact(both); len(both) > most {
		return nil, true
	}
	return both, false
}
