package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Recovery says what Open found.
type Recovery struct {
	ServerID string // 32 hexadecimal digits, made at the first start
	Fresh    bool   // there was no state, or it was set aside
	// Notices are sentences for the log about all that was not as it should be:
	// a torn tail or a damaged snapshot that was set aside.
	Notices []string
	// Quarantined is the directory, below the state directory, to which
	// AllowFail moved the state that could not be loaded; else empty.
	Quarantined string
	// Unreserved tells that quarantine/ holds a state whose ids may still be
	// given out again: this start set it aside, or one before that was
	// interrupted. Before the caller gives out an id, it makes durable that those
	// which Salvage shows are taken, and then calls Reserved.
	Unreserved bool

	fs     FS
	server storeID
	c      *contents // nil if Fresh
}

// Snapshot is the name of the snapshot that Replay begins with; "" if none.
func (r *Recovery) Snapshot() string {
	if r.c == nil || r.c.snapshot == 0 {
		return ""
	}
	return snapshotName(r.c.snapshot)
}

// Changes is the number of journal records that Replay gives.
func (r *Recovery) Changes() uint64 {
	if r.c == nil {
		return 0
	}
	return r.c.records
}

// Replay gives the records of the snapshot to snap and then those of the
// journal since it to change, in the order in which they were written. A record
// is valid during the call only. It ends at the first error of either, which it
// returns. It has to be done before the first commit.
func (r *Recovery) Replay(snap, change func(rec []byte) error) error {
	if r.c == nil {
		return nil
	}
	return r.c.replay(r.fs, snap, change)
}

func (c *contents) replay(fsys FS, snap, change func(rec []byte) error) error {
	if c.snapshot > 0 {
		if err := replaySnapshot(fsys, c.snapshot, c.server, snap); err != nil {
			return err
		}
	}
	for _, span := range c.spans {
		if err := replaySpan(fsys, span, c.server, change); err != nil {
			return err
		}
	}
	return nil
}

func replaySpan(fsys FS, span span, store storeID, fn func([]byte) error) error {
	s, err := openSegment(fsys, span.segment, store)
	if err != nil {
		return err
	}
	defer s.Close()
	for s.off < span.end {
		at := s.off
		b, err := s.read()
		if errors.As(err, new(errNoBatch)) {
			err = &CorruptError{s.name, at, fmt.Sprintf("it changed after it was checked: %v", err)}
		}
		if err != nil {
			return err
		}
		if err := eachRecord(b.body, b.count, fn); err != nil {
			return err
		}
	}
	return nil
}

// unpacked is a block on its way from the goroutine that reads to the one that
// uses its records.
type unpacked struct {
	block
	plain   []byte // buffer for the records of a compressed block
	records []byte
	err     error
}

// replaySnapshot reads and decompresses blocks in a goroutine of its own, some
// blocks ahead of fn.
func replaySnapshot(fsys FS, number uint64, store storeID, fn func([]byte) error) error {
	r, err := openSnapshot(fsys, number, store)
	if err != nil {
		return err
	}
	defer r.Close()
	const ahead = 4
	spare, ready := make(chan *unpacked, ahead), make(chan *unpacked, ahead)
	for range ahead {
		spare <- new(unpacked)
	}
	go func() {
		defer close(ready)
		for u := range spare {
			u.fill(r)
			ready <- u // never blocks: there are only so many
			if u.err != nil {
				return
			}
		}
	}()
	err = func() error {
		defer close(spare)
		for u := range ready {
			if u.err == io.EOF {
				return nil
			}
			if u.err != nil {
				return u.err
			}
			if err := eachRecord(u.records, u.count, fn); err != nil {
				return err
			}
			spare <- u
		}
		return nil
	}()
	for range ready { // until the goroutine has ended
	}
	return err
}

// fill reads and unpacks the next block.
func (u *unpacked) fill(r *snapshotReader) {
	at := r.off
	if u.block, u.err = r.next(u.buf); u.err != nil {
		return
	}
	u.records, u.err = u.unpack(u.plain)
	if u.err != nil {
		u.err = &CorruptError{r.name, at, fmt.Sprintf("decompress a block: %v", u.err)}
	}
	if u.kind != blockRaw {
		u.plain = u.records
	}
}

// Salvage gives every record that can still be read from what was ever set
// aside, in no certain order and perhaps more than once, so that the caller can
// find the highest id in use. All of it is read, not only what is marked: that
// the ids of an older state are reserved stands in a later one, which may be
// damaged itself. A record is valid during the call only.
func (r *Recovery) Salvage(rec func([]byte)) error {
	all, _, err := quarantines(r.fs)
	for _, dir := range all {
		err = errors.Join(err, r.salvage(dir, rec))
	}
	return err
}

// Reserved tells that the ids which Salvage showed will not be given out again,
// whatever happens.
func (r *Recovery) Reserved() error {
	_, unreserved, err := quarantines(r.fs)
	for _, dir := range unreserved {
		if err := r.fs.Remove(dir + "/" + unreservedName); err != nil {
			return err
		}
		if err := r.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return err
}

func (r *Recovery) salvage(dir string, rec func([]byte)) error {
	names, err := r.fs.List(dir)
	if err != nil {
		return fmt.Errorf("list what was set aside: %w", err)
	}
	each := func(b []byte) error { rec(b); return nil }
	for _, name := range names {
		if n, ok := numberOf(name, segmentPrefix); ok {
			err = errors.Join(err, r.salvageSegment(dir+"/"+name, n, each))
		}
		if n, ok := numberOf(name, snapshotPrefix); ok {
			err = errors.Join(err, r.salvageSnapshot(dir+"/"+name, n, each))
		}
	}
	return err
}

func (r *Recovery) salvageSegment(name string, number uint64, each func([]byte) error) error {
	f, size, err := r.openAside(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s := &segment{name: name, file: f, size: size,
		seed: seed(segmentMagic, r.storeOf(f, name, segmentMagic, number), number)}
	return s.candidates(headerSize, func(_ int64, b batch) bool {
		_ = eachRecord(b.body, b.count, each) // as far as it goes
		return true
	})
}

// salvageSnapshot looks for blocks at every offset, as their lengths vary.
func (r *Recovery) salvageSnapshot(name string, number uint64, each func([]byte) error) error {
	f, size, err := r.openAside(name)
	if err != nil {
		return err
	}
	defer f.Close()
	seed := seed(snapshotMagic, r.storeOf(f, name, snapshotMagic, number), number)
	magic := binary.LittleEndian.AppendUint32(nil, blockMagic)
	for off := int64(headerSize); off+blockHeader <= size; {
		window := make([]byte, min(1<<20, size-off))
		if _, err := f.ReadAt(window, off); err != nil {
			return readError(name, off, err)
		}
		i := bytes.Index(window, magic)
		if i < 0 {
			off += int64(max(len(window)-len(magic)+1, 1))
			continue
		}
		off += int64(i)
		if n := salvageBlock(f, off, size, seed, each); n > 0 {
			off += n
		} else {
			off++
		}
	}
	return nil
}

// salvageBlock gives the records of the block at an offset, and its length; 0
// if there is none.
func salvageBlock(f File, off, size int64, seed uint32, each func([]byte) error) int64 {
	h := make([]byte, blockHeader)
	if _, err := f.ReadAt(h, off); err != nil {
		return 0
	}
	b, stored, reason := parseBlock(h, size-off)
	if reason != "" {
		return 0
	}
	whole := make([]byte, blockHeader+stored)
	if _, err := f.ReadAt(whole, off); err != nil ||
		batchCRC(seed, whole) != binary.LittleEndian.Uint32(h[28:]) {
		return 0
	}
	b.stored = whole[blockHeader:]
	if b.kind != blockFooter {
		if records, err := b.unpack(nil); err == nil {
			_ = eachRecord(records, b.count, each) // as far as it goes
		}
	}
	return int64(len(whole))
}

func (r *Recovery) openAside(name string) (File, int64, error) {
	f, err := r.fs.Open(name, false)
	if err != nil {
		return nil, 0, err
	}
	f = holed{f}
	size, err := f.Size()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// holed is a file whose unreadable places read as zeros: what a broken disk
// doesn't give back is missing, like what was overwritten, and the rest counts.
type holed struct{ File }

func (f holed) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	if !isMediaError(err) {
		return n, err
	}
	const sector = 4096
	for done := 0; done < len(b); {
		part := b[done:min(done+sector-int((off+int64(done))%sector), len(b))]
		switch n, err := f.File.ReadAt(part, off+int64(done)); {
		case isMediaError(err):
			clear(part)
		case err != nil:
			return done + n, err
		}
		done += len(part)
	}
	return len(b), nil
}

// storeOf is the server id by which a file's checksums begin: its header's, or
// if that can't be read the directory's.
func (r *Recovery) storeOf(f File, name, magic string, number uint64) storeID {
	if h, err := readHeader(f, name, magic, number); err == nil {
		return h.store
	}
	return r.server
}
