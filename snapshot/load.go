package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
)

// inventory collects what the state directory's names and the small files say.
type inventory struct {
	names     []string
	segments  []uint64 // ascending
	snapshots []uint64 // ascending
	serverID  []byte   // nil if there is no such file
	format    []byte
}

func takeInventory(fsys FS) (*inventory, error) {
	names, err := fsys.List(".")
	if err != nil {
		return nil, fmt.Errorf("list state directory: %w", err)
	}
	inv := &inventory{names: names}
	for _, name := range names {
		if n, ok := numberOf(name, segmentPrefix); ok {
			inv.segments = append(inv.segments, n)
		}
		if n, ok := numberOf(name, snapshotPrefix); ok {
			inv.snapshots = append(inv.snapshots, n)
		}
	}
	slices.Sort(inv.segments)
	slices.Sort(inv.snapshots)
	if inv.serverID, err = readSmall(fsys, serverIDName); err != nil {
		return nil, err
	}
	if inv.format, err = readSmall(fsys, formatName); err != nil {
		return nil, err
	}
	return inv, nil
}

// readSmall returns what a small file holds, nil if it is missing.
func readSmall(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := make([]byte, 4096)
	n, err := f.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return nil, readError(name, 0, err)
	}
	return text[:n], nil
}

// contents is the saved state, read and checked: where its records are, and
// where the journal ends.
type contents struct {
	server   storeID
	snapshot uint64    // number of the snapshot to begin with; 0: from nothing
	snapSize int64     // in bytes
	spans    []span    // the segments since then, in order
	damaged  []uint64  // newer snapshots, which were passed over
	torn     *tornTail // in the last span's segment
	notices  []string
	end      position
	batches  int
	records  uint64 // in the journal since the snapshot
}

// span is the part of a segment that holds batches: from its header to end.
type span struct {
	segment uint64
	end     int64
}

// journalBytes is the length of the batches since the snapshot.
func (c *contents) journalBytes() (n int64) {
	for _, s := range c.spans {
		n += s.end - headerSize
	}
	return n
}

// load reads the state and checks all that a start depends on, and changes
// nothing. A nil result without an error means that there is none yet.
func load(fsys FS, inv *inventory) (*contents, error) {
	if inv.format == nil {
		return nil, checkFresh(fsys, inv)
	}
	format, err := decodeFormat(inv.format)
	if err != nil {
		return nil, err
	}
	server, ok := parseStoreID(inv.serverID)
	if !ok {
		return nil, &CorruptError{serverIDName, -1, "it is missing or is no server id"}
	}
	if err := checkNewest(fsys, inv, format.segment); err != nil {
		return nil, err
	}
	c := &contents{server: server, end: position{next: 1}}
	if err := c.chooseSnapshot(fsys, inv); err != nil {
		return nil, err
	}
	if err := c.followJournal(fsys, format.segment); err != nil {
		return nil, err
	}
	return c, nil
}

// checkFresh allows what a first start leaves that was interrupted before it
// wrote `format`: an empty first segment. No commit goes there before.
func checkFresh(fsys FS, inv *inventory) error {
	if _, ok := parseStoreID(inv.serverID); !ok && inv.serverID != nil {
		return &CorruptError{serverIDName, -1, "it is no server id"}
	}
	if len(inv.snapshots) == 0 && len(inv.segments) == 0 {
		return nil
	}
	if len(inv.snapshots) == 0 && slices.Equal(inv.segments, []uint64{1}) {
		empty, err := holdsNothing(fsys, 1)
		if empty || err != nil {
			return err
		}
	}
	return &CorruptError{formatName, -1, "it is missing, though there is a journal or a snapshot"}
}

// checkNewest compares the names with the segment that `format` names. One more
// may exist, without batches: it was made when the daemon died.
func checkNewest(fsys FS, inv *inventory, newest uint64) error {
	if n := len(inv.snapshots); n > 0 && inv.snapshots[n-1] > newest {
		return &CorruptError{snapshotName(inv.snapshots[n-1]), -1,
			fmt.Sprintf("`format` knows no segment after %d: it is an old copy", newest)}
	}
	for _, n := range inv.segments {
		if n <= newest {
			continue
		}
		empty, err := holdsNothing(fsys, n)
		if err != nil {
			return err
		}
		if n > newest+1 || !empty {
			return &CorruptError{segmentName(n), -1,
				fmt.Sprintf("`format` knows no segment after %d: it is an old copy", newest)}
		}
	}
	return nil
}

// holdsNothing tells whether a segment has only zeros behind its header.
func holdsNothing(fsys FS, number uint64) (bool, error) {
	name := segmentName(number)
	f, err := fsys.Open(name, false)
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return false, err
	}
	empty := true
	err = scan(f, headerSize, size, func(_ int64, b []byte) bool {
		empty = lastNonZero(b) < 0
		return empty
	})
	if err != nil {
		return false, readError(name, headerSize, err)
	}
	return empty, nil
}

// chooseSnapshot takes the newest snapshot that is sound.
func (c *contents) chooseSnapshot(fsys FS, inv *inventory) error {
	for _, n := range slices.Backward(inv.snapshots) {
		at, size, err := verifySnapshot(fsys, n, c.server)
		if err == nil {
			c.snapshot, c.snapSize, c.end = n, size, at
			return nil
		}
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			return err
		}
		c.damaged = append(c.damaged, n)
		c.notices = append(c.notices, fmt.Sprintf("snapshot %s is damaged at offset %d (%s): an "+
			"older one and the journal are used instead",
			corrupt.File, corrupt.Offset, corrupt.Reason))
	}
	return nil
}

// followJournal reads the segments from the snapshot to the newest.
func (c *contents) followJournal(fsys FS, newest uint64) error {
	n := max(c.snapshot, 1)
	s, err := c.openSegment(fsys, n)
	for ; err == nil && n < newest; n++ {
		var next *segment
		if next, err = c.openSegment(fsys, n+1); err == nil {
			err = errors.Join(c.readSpan(s, next.head.prevEnd), s.Close())
			s = next
		}
	}
	if err == nil {
		err = c.readNewest(s)
	}
	if s != nil {
		s.Close()
	}
	return err
}

// openSegment opens a segment that has to be there.
func (c *contents) openSegment(fsys FS, n uint64) (*segment, error) {
	s, err := openSegment(fsys, n, c.server)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	reason := "it is missing"
	if len(c.damaged) > 0 {
		reason = fmt.Sprintf("it is missing, and needed because %s is damaged",
			snapshotName(c.damaged[0]))
	}
	return nil, &CorruptError{segmentName(n), -1, reason}
}

// readSpan reads the batches of a segment up to the offset where the next
// segment says that they end: what stands behind is a torn tail that was set
// aside when the next segment was made.
func (c *contents) readSpan(s *segment, end int64) error {
	stop, err := c.readBatches(s, end)
	switch {
	case err != nil:
		return err
	case stop != nil:
		return &CorruptError{s.name, s.off, stop.Error()}
	case s.off != end:
		return &CorruptError{s.name, end,
			"a batch crosses the offset at which the next segment takes over"}
	}
	return nil
}

// readNewest reads the last segment, and judges what stands behind its last batch.
func (c *contents) readNewest(s *segment) error {
	stop, err := c.readBatches(s, math.MaxInt64)
	if err != nil {
		return err
	}
	if c.torn, err = s.tail(stop); err != nil {
		return err
	}
	if c.torn != nil {
		c.notices = append(c.notices, fmt.Sprintf("the last batch of %s, at offset %d, is "+
			"incomplete (%v): it was never acknowledged, and is left out",
			s.name, c.torn.from, stop))
	}
	return nil
}

// readBatches reads the batches of a segment up to an offset, or to bytes that
// are not the next batch; stop then says why they are not.
func (c *contents) readBatches(s *segment, end int64) (stop, err error) {
	if s.head.at != c.end {
		return nil, &CorruptError{s.name, 0, "it does not continue what was before it"}
	}
	for s.off < end && stop == nil {
		at := s.off
		b, err := s.read()
		if errors.As(err, new(errNoBatch)) {
			stop = err
			break
		}
		if err == nil && eachRecord(b.body, b.count, nil) != nil {
			err = &CorruptError{s.name, at, errBadRecord.Error()}
		}
		if err != nil {
			return nil, err
		}
		c.batches++
		c.records += uint64(b.count)
	}
	c.spans = append(c.spans, span{s.head.number, s.off})
	c.end = s.at
	return stop, nil
}
