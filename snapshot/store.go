package snapshot

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Store is an open state directory. One goroutine commits: Commit, Seal, Full,
// NeedsCompaction, Rotate and Close are its. WriteSnapshot may run in another.
type Store struct {
	fs     FS
	opt    Options
	lock   io.Closer
	server storeID

	// Fields of the goroutine that commits.
	err    error // why nothing works any more
	file   File  // the newest segment
	number uint64
	seed   uint32
	off    int64    // where its batches end
	size   int64    // of the file, which is durable, and zero from off on
	at     position // at off
	sealed bool     // the last batch is provably complete
	buf    []byte
	since  int64       // length of the batches since the last snapshot or mark
	made   int         // segments since then
	failed atomic.Bool // the last snapshot; WriteSnapshot sets it
	space  space

	snapSize  atomic.Int64 // of the newest snapshot; WriteSnapshot sets it
	snapshots sync.Mutex   // held by WriteSnapshot: one at a time
}

// keepBuffer is the largest buffer that is kept for the next commit.
const keepBuffer = 16 << 20

// Commit makes records durable as one batch: after a crash all of them are
// there or none. They are durable when it returns nil. An ErrTooLarge has
// written nothing. After any other error nothing is certain, and every later
// call returns the same *PoisonedError: neither the write nor the sync is tried
// again, since what the kernel kept of a failed one can't be known. The records
// are not kept.
func (s *Store) Commit(records [][]byte) error {
	if s.err != nil || len(records) == 0 {
		return s.err
	}
	return s.append(records, false)
}

// Seal writes an empty batch behind the last one, whose bytes can then not be
// mistaken for a torn write any more. To be called after a second of quiet; it
// does nothing if nothing was committed since the last one.
func (s *Store) Seal() error {
	if s.err != nil || s.sealed {
		return s.err
	}
	return s.append(nil, true)
}

func (s *Store) append(records [][]byte, sealing bool) error {
	buf, after, err := appendBatch(s.buf[:0], s.seed, s.at, records)
	if err != nil {
		return err
	}
	if s.buf = buf; cap(buf) > keepBuffer {
		s.buf = nil
	}
	if err := s.grow(int64(len(buf))); err != nil {
		return s.poison("make room in "+segmentName(s.number), err)
	}
	if _, err := s.file.WriteAt(buf, s.off); err != nil {
		return s.poison("write "+segmentName(s.number), err)
	}
	if err := s.file.Sync(); err != nil {
		return s.poison("sync "+segmentName(s.number), err)
	}
	s.off += int64(len(buf))
	s.at = after
	s.sealed = sealing
	s.since += int64(len(buf))
	s.space.written += int64(len(buf))
	return nil
}

// grow makes sure that n bytes more, and then at least one zero, are in the
// file already. So writing a batch changes neither size nor allocation, and
// fdatasync has only the data to write; a batch can't fail for want of space
// half-way; and a file that was cut off shows it.
func (s *Store) grow(n int64) error {
	need := s.off + n + 1
	if need <= s.size {
		return nil
	}
	step := min(max(s.size, s.opt.grow), 4*s.opt.grow)
	size := (need + step - 1) / step * step
	err := s.withReserve(func() error { return s.file.Extend(s.size, size) })
	if err != nil {
		return err
	}
	// Else the batch might reach the disk before the size does, and would look
	// like a file that was cut off.
	if err := s.file.Sync(); err != nil {
		return err
	}
	s.size = size
	return nil
}

// poison ends the store's life after an error. What is returned is what every
// later call returns.
func (s *Store) poison(op string, err error) error {
	s.err = &PoisonedError{Op: op, Err: err}
	return s.err
}

// NeedsCompaction tells that it is time for Rotate and WriteSnapshot: the
// journal since the last snapshot is longer than CompactAt and than half the
// snapshot, or consists of many segments, since each start makes one; or the
// last try has failed. When to try again is for the caller to say.
func (s *Store) NeedsCompaction() bool {
	return s.failed.Load() || s.since > max(s.opt.CompactAt, s.snapSize.Load()/2) || s.made > 100
}

// CompactionPays says that replaying the journal takes longer than writing a snapshot of the state
// that it makes: a start replays about a third of what a snapshot writes, and reads back, in the
// same time.
func (s *Store) CompactionPays() bool {
	return s.since > max(paysFrom, s.snapSize.Load()/3)
}

// paysFrom is how long a journal has to be, in bytes, before it takes anybody's time.
const paysFrom = 512 << 10

// Mark is the point between two commits at which Rotate was called.
type Mark struct {
	segment uint64
	at      position
}

// Rotate begins a new segment. The state at this moment is what WriteSnapshot
// is to write for the mark that it returns. An error that is not ErrPoisoned
// left everything as it was (no space for the new segment, say): commits go on,
// and NeedsCompaction says yes still.
func (s *Store) Rotate() (Mark, error) {
	if s.err != nil {
		return Mark{}, s.err
	}
	usable, err := s.begin(s.number + 1)
	if err != nil && usable {
		return Mark{}, fmt.Errorf("begin %s: %w", segmentName(s.number+1), err)
	}
	if err != nil {
		return Mark{}, s.poison("begin "+segmentName(s.number+1), err)
	}
	s.since, s.made = 0, 1
	s.failed.Store(false)
	return Mark{s.number, s.at}, nil
}

// begin makes a segment that takes over at this point, and goes on in it. The
// order matters: the segment is durable before `format` names it, and `format`
// is durable before anything is committed there. As long as `format` certainly
// does not name it, the segment before is as usable as it was, and the next
// attempt writes the new one anew.
func (s *Store) begin(number uint64) (usable bool, err error) {
	h := header{magic: segmentMagic, store: s.server, number: number, at: s.at, prevEnd: s.off}
	first := append(h.encode(), make([]byte, s.opt.grow)...)
	name := segmentName(number)
	if err := s.writeFile(name, first); err != nil {
		return true, err
	}
	if err := s.fs.SyncDir("."); err != nil {
		return false, err
	}
	f, err := s.fs.Open(name, true)
	if err != nil {
		return true, err
	}
	if err := s.writeFile(formatName, formatFile{number, s.opt.Version}.encode()); err != nil {
		f.Close()
		return isNoSpace(err), err // a full disk stops it before the rename
	}
	if err := s.fs.SyncDir("."); err != nil {
		f.Close()
		return false, err
	}
	if s.file != nil {
		// Everything in it is durable: there is nothing to learn from an error.
		s.file.Close()
	}
	s.use(f, number, headerSize, int64(len(first)))
	return true, nil
}

// use makes an open segment the one that is written to.
func (s *Store) use(f File, number uint64, off, size int64) {
	s.file, s.number, s.off, s.size = f, number, off, size
	s.seed = seed(segmentMagic, s.server, number)
	s.sealed = true // the header vouches for what was before
	s.made++
}

// writeFile replaces a small file. Its name is durable after SyncDir.
func (s *Store) writeFile(name string, data []byte) error {
	return s.withReserve(func() error { return writeFile(s.fs, name, data) })
}

func writeFile(fsys FS, name string, data []byte) error {
	p, err := fsys.Replace(name)
	if err != nil {
		return err
	}
	defer p.Cleanup()
	if _, err := p.Write(data); err != nil {
		return err
	}
	return p.Commit()
}

// Close seals the journal, unless it is poisoned, and gives up the lock. No
// WriteSnapshot may be running.
func (s *Store) Close() error {
	if errors.Is(s.err, ErrClosed) {
		return nil
	}
	err := s.Seal()
	s.err = ErrClosed
	return errors.Join(err, s.file.Close(), s.lock.Close())
}
