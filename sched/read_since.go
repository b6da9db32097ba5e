package sched

import (
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// since narrows jobs to those that have not ended, and those that ended at a time or after it.
type since struct {
	ended map[uint64]bool // the ended ones
}

func (f *since) has(id uint64, status Status) bool { return !Final(status) || f.ended[id] }

// splitSince takes the words since=TIME out of selectors; TIME is in the form of RFC 3339. They
// narrow what all the others select, as nobody means the jobs of a class and besides all of today.
// The latest one counts.
func (s *State) splitSince(words []string) (rest []string, f *since, err error) {
	var from time.Time
	for _, word := range words {
		text, ok := strings.CutPrefix(word, "since=")
		if !ok {
			rest = append(rest, word)
			continue
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, nil, errorf(Invalid, "%q is no time", text).
				hint("write 2h, 3d, 14:30, 2026-11-30 or 2026-11-30T14:30:00Z")
		}
		// What int64 can't hold in nanoseconds is as good as never, or always.
		if limit := time.Unix(0, math.MaxInt64); at.After(limit) {
			at = limit
		} else if first := time.Unix(0, 0); at.Before(first) {
			at = first
		}
		if at.After(from) {
			from = at
		}
		f = &since{}
	}
	if f != nil {
		f.ended, err = s.endedSince(nanos(from))
	}
	return rest, f, err
}

// staleBlocks is how many blocks of history in a row must have nothing of the time asked for before
// older ones are not looked at. Jobs come into blocks when nothing of them is left to do, which for
// a few is long after their end.
const staleBlocks = 4

// endedSince finds the jobs that ended at a time or later. It goes back through history as far as
// there are any, so that it costs what there is to find, not what there is.
func (s *State) endedSince(from int64) (map[uint64]bool, error) {
	found := map[uint64]bool{}
	for _, j := range s.history.pending {
		if j.EndedAt >= from {
			found[j.Id] = true
		}
	}
	stale := 0
	for b := len(s.history.blocks) - 1; b >= 0 && stale < staleBlocks; b-- {
		if s.history.blocks[b] == nil {
			continue
		}
		records, err := s.history.open(uint32(b))
		if err != nil {
			return nil, err
		}
		stale++
		for _, raw := range records {
			j := new(statepb.Job)
			if err := proto.Unmarshal(raw, j); err != nil {
				return nil, err
			}
			if j.EndedAt >= from {
				found[j.Id], stale = true, 0
			}
		}
	}
	return found, nil
}
