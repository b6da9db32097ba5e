package sched

import (
	"maps"
	"slices"
)

// keys number what the cells of a matrix have in common with those of another one, in the order in
// which that is first seen.
type keys struct {
	dense  []uint32          // key to number+1, where few are possible
	filled map[uint64]uint32 // key to number, else, until all of them are there
	sorted []uint64          // then all keys, ascending,
	number []uint32          // and the number of each
	count  uint32
}

// newKeys is for so many cells, and keys below size.
func newKeys(size uint64, cells uint32) keys {
	if size <= 2*uint64(cells)+1024 { // beyond, keys and numbers take less
		return keys{dense: make([]uint32, size)}
	}
	return keys{filled: make(map[uint64]uint32, cells)}
}

// put gives the number of a key, a new one if it has none.
func (k *keys) put(key uint64) uint32 {
	if k.dense != nil {
		if k.dense[key] == 0 {
			k.count++
			k.dense[key] = k.count
		}
		return k.dense[key] - 1
	}
	n, ok := k.filled[key]
	if !ok {
		n = k.count
		k.filled[key] = n
		k.count++
	}
	return n
}

// done says that all keys are there: what is kept of them is as small as it can be.
func (k *keys) done() {
	if k.dense != nil {
		return
	}
	k.sorted = slices.AppendSeq(make([]uint64, 0, len(k.filled)), maps.Keys(k.filled))
	slices.Sort(k.sorted)
	k.number = make([]uint32, len(k.sorted))
	for i, key := range k.sorted {
		k.number[i] = k.filled[key]
	}
	k.filled = nil
}

// find gives the number of a key, once all of them are there; false: it has none.
func (k *keys) find(key uint64) (uint32, bool) {
	if k.dense != nil {
		n := k.dense[key]
		return n - 1, n > 0
	}
	i, ok := slices.BinarySearch(k.sorted, key)
	if !ok {
		return 0, false
	}
	return k.number[i], true
}
