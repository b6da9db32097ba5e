package snapshot

import (
	"encoding/binary"
	"fmt"
	"io"
)

// tornTail is what an interrupted Commit left behind the last good batch of
// the newest segment. It was never acknowledged.
type tornTail struct {
	from, to int64 // offsets in the segment
}

// tail judges what stands behind the last batch that was read from the newest
// segment: zeros, which is the end; a torn batch, of which nothing was
// acknowledged; or damage to what was acknowledged. The rule: only one batch
// is ever under way, so behind a torn one there is nothing.
func (s *segment) tail(why error) (*tornTail, error) {
	last := s.off - 1 // of the bytes that are not zero
	var after int64   // where a valid batch begins
	err := scan(s.file, s.off, s.size, func(off int64, b []byte) bool {
		if i := lastNonZero(b); i >= 0 {
			last = off + int64(i)
		}
		return true
	})
	if err != nil {
		return nil, readError(s.name, s.off, err)
	}
	if s.size <= s.off {
		return nil, &CorruptError{s.name, s.off,
			"the file was cut off: zeros stand behind the last batch of every segment"}
	}
	if last < s.off {
		return nil, nil
	}
	err = s.candidates(s.off+batchAlign, func(off int64, b batch) bool {
		if b.at.next >= s.at.next {
			after = off
		}
		return after == 0
	})
	if err != nil {
		return nil, err
	}
	if after != 0 {
		return nil, &CorruptError{s.name, s.off,
			fmt.Sprintf("%v, and a valid batch follows at offset %d", why, after)}
	}
	if s.size-s.off < batchHeader {
		return nil, &CorruptError{s.name, s.off, "the file was cut off inside a batch"}
	}
	h := make([]byte, batchHeader)
	if _, err := s.file.ReadAt(h, s.off); err != nil {
		return nil, readError(s.name, s.off, err)
	}
	if binary.LittleEndian.Uint32(h) == batchMagic {
		// The length came with the magic, so it is what was to be written.
		_, length, reason := parseBatch(h, s.size-s.off)
		if reason != "" {
			return nil, &CorruptError{s.name, s.off, reason}
		}
		if end := s.off + batchHeader + int64(length); last >= end {
			return nil, &CorruptError{s.name, s.off,
				fmt.Sprintf("%v, and something stands behind that batch at offset %d", why, last)}
		}
	}
	return &tornTail{s.off, last + 1}, nil
}

// candidates calls fn with every batch from an offset on that is valid by
// itself, whatever stands between them, until fn returns false.
func (s *segment) candidates(from int64, fn func(off int64, b batch) bool) error {
	h := make([]byte, batchHeader)
	more := true
	err := scan(s.file, from, s.size, func(off int64, window []byte) bool {
		for i := 0; i+4 <= len(window) && more; i += batchAlign {
			if binary.LittleEndian.Uint32(window[i:]) != batchMagic {
				continue
			}
			at := off + int64(i)
			if _, err := s.file.ReadAt(h, at); err != nil {
				continue
			}
			b, length, reason := parseBatch(h, s.size-at)
			if reason != "" {
				continue
			}
			whole := make([]byte, batchHeader+length)
			if _, err := s.file.ReadAt(whole, at); err != nil || batchCRC(s.seed, whole) != b.crc {
				continue
			}
			b.body = whole[batchHeader:]
			more = fn(at, b)
		}
		return more
	})
	if err != nil {
		return readError(s.name, from, err)
	}
	return nil
}

// scan shows a part of a file in windows that begin at multiples of 8 bytes
// from its start, until fn returns false.
func scan(f io.ReaderAt, from, to int64, fn func(off int64, b []byte) bool) error {
	window := make([]byte, min(1<<20, max(to-from, 0)))
	for from < to {
		b := window[:min(int64(len(window)), to-from)]
		if _, err := f.ReadAt(b, from); err != nil {
			return err
		}
		if !fn(from, b) {
			return nil
		}
		from += int64(len(b))
	}
	return nil
}

func lastNonZero(b []byte) int {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return i
		}
	}
	return -1
}
