package snapshot

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"
)

const (
	batchMagic  = 0x5441424a // "JBAT"
	batchHeader = 32
	batchAlign  = 8
	// A reader believes no longer ones: that bounds what a damaged
	// length can make it allocate. So does the file's size.
	maxRecord = MaxRecord
	maxBatch  = MaxBatch
)

// What Commit takes at the most, in bytes. A batch has a few more than its records: their lengths.
const (
	MaxRecord = 64 << 20
	MaxBatch  = 512 << 20
)

// A batch is what one Commit wrote. Batches follow each other without gaps,
// each at a multiple of 8 bytes:
//
//	0  magic    4
//	4  length   4   of the body, a multiple of 8
//	8  count    4   of records; 0 in a sealing batch
//	12 prev     4   checksum of the batch before
//	16 first    8   sequence number of the first record
//	24 reserved 4
//	28 crc      4   CRC-32C of the 28 bytes before and of the body, from the file's seed
//	32 body         count times: uvarint length, bytes; then zeros
//
// Magic and length share 8 aligned bytes, and therefore a sector: after a torn
// write they are both there, or neither.
type batch struct {
	count uint32
	at    position // before it
	body  []byte
	crc   uint32
}

// appendBatch encodes records as the batch at a position, and returns the
// position after it.
func appendBatch(buf []byte, seed uint32, at position, records [][]byte) ([]byte, position, error) {
	size := 0
	for _, rec := range records {
		if len(rec) > maxRecord {
			return buf, at, fmt.Errorf("%w: a record of %d bytes, more than %d", ErrTooLarge,
				len(rec), maxRecord)
		}
		size += uvarintLen(len(rec)) + len(rec)
	}
	length := (size + batchAlign - 1) / batchAlign * batchAlign
	if length > maxBatch {
		return buf, at, fmt.Errorf("%w: a batch of %d bytes, more than %d", ErrTooLarge, size,
			maxBatch)
	}
	start := len(buf)
	buf = slices.Grow(buf, batchHeader+length)
	buf = binary.LittleEndian.AppendUint32(buf, batchMagic)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(length))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(records)))
	buf = binary.LittleEndian.AppendUint32(buf, at.prev)
	buf = binary.LittleEndian.AppendUint64(buf, at.next)
	buf = append(buf, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, rec := range records {
		buf = binary.AppendUvarint(buf, uint64(len(rec)))
		buf = append(buf, rec...)
	}
	buf = append(buf, make([]byte, length-size)...)
	crc := batchCRC(seed, buf[start:])
	binary.LittleEndian.PutUint32(buf[start+28:], crc)
	return buf, position{at.next + uint64(len(records)), crc}, nil
}

func uvarintLen(n int) int { return (bits.Len(uint(n|1)) + 6) / 7 }

func batchCRC(seed uint32, b []byte) uint32 {
	return crc32.Update(crc32.Update(seed, castagnoli, b[:28]), castagnoli, b[batchHeader:])
}

// eachRecord calls fn with the records of a batch's body or of a snapshot's block.
func eachRecord(body []byte, count uint32, fn func([]byte) error) error {
	for range count {
		size, n := binary.Uvarint(body)
		if n <= 0 || size > maxRecord || size > uint64(len(body)-n) {
			return errBadRecord
		}
		rec := body[n : n+int(size) : n+int(size)]
		body = body[n+int(size):]
		if fn == nil {
			continue
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
	for _, b := range body {
		if b != 0 {
			return errBadRecord
		}
	}
	if len(body) >= batchAlign {
		return errBadRecord
	}
	return nil
}

var errBadRecord = errors.New("the lengths of its records don't add up")

// segment reads the batches of one segment in order.
type segment struct {
	name string
	file File
	size int64
	head header
	seed uint32
	in   *bufio.Reader // at off
	big  []byte        // for batches larger than in's buffer

	off int64    // where the next batch begins
	at  position // the position there
}

// errNoBatch: the bytes at off are not the batch that follows.
type errNoBatch struct{ reason string }

func (e errNoBatch) Error() string { return e.reason }

// openSegment opens a segment and reads its header. The caller closes it.
func openSegment(fsys FS, number uint64, store storeID) (*segment, error) {
	name := segmentName(number)
	f, err := fsys.Open(name, false)
	if err != nil {
		return nil, err
	}
	s := &segment{name: name, file: f, seed: seed(segmentMagic, store, number), off: headerSize}
	if s.size, err = f.Size(); err != nil {
		f.Close()
		return nil, err
	}
	if s.head, err = readHeader(f, name, segmentMagic, number); err != nil {
		f.Close()
		return nil, err
	}
	if s.head.store != store {
		f.Close()
		return nil, &CorruptError{name, 24, "it belongs to another server id"}
	}
	s.at = s.head.at
	s.in = bufio.NewReaderSize(io.NewSectionReader(f, headerSize, s.size-headerSize),
		int(min(max(s.size, 16), 1<<20)))
	return s, nil
}

func (s *segment) Close() error { return s.file.Close() }

// read returns the next batch; its body is valid until the next call. The
// error is an errNoBatch, or a failure of reading.
func (s *segment) read() (batch, error) {
	head, err := s.in.Peek(batchHeader)
	if err == io.EOF {
		return batch{}, errNoBatch{"the file ends"}
	}
	if err != nil {
		return batch{}, readError(s.name, s.off, err)
	}
	b, length, reason := parseBatch(head, s.size-s.off)
	switch {
	case reason != "":
		return batch{}, errNoBatch{reason}
	case b.at.prev != s.at.prev:
		return batch{}, errNoBatch{"it does not follow the batch before it"}
	case b.at.next != s.at.next:
		return batch{},
			errNoBatch{fmt.Sprintf("its first record is number %d instead of %d", b.at.next,
				s.at.next)}
	}
	whole, err := s.take(batchHeader + length)
	if err != nil {
		return batch{}, readError(s.name, s.off, err)
	}
	if batchCRC(s.seed, whole) != b.crc {
		return batch{}, errNoBatch{"checksum differs"}
	}
	b.body = whole[batchHeader:]
	s.off += int64(len(whole))
	s.at = position{s.at.next + uint64(b.count), b.crc}
	return b, nil
}

// take consumes n bytes, without a copy if they fit the buffer.
func (s *segment) take(n int) ([]byte, error) {
	if n <= s.in.Size() {
		b, err := s.in.Peek(n)
		if err == nil {
			_, err = s.in.Discard(n)
		}
		return b, err
	}
	if cap(s.big) < n {
		s.big = make([]byte, n)
	}
	_, err := io.ReadFull(s.in, s.big[:n])
	return s.big[:n], err
}

// parseBatch decodes a batch's header. A batch always ends before the last
// byte of the file: see Store.grow. So a file that was cut off is noticed, even
// if it was cut between two batches.
func parseBatch(h []byte, room int64) (b batch, length int, reason string) {
	size := binary.LittleEndian.Uint32(h[4:])
	b = batch{
		count: binary.LittleEndian.Uint32(h[8:]),
		at:    position{binary.LittleEndian.Uint64(h[16:]), binary.LittleEndian.Uint32(h[12:])},
		crc:   binary.LittleEndian.Uint32(h[28:]),
	}
	switch {
	case binary.LittleEndian.Uint32(h) != batchMagic:
		return b, 0, "no batch begins here"
	case int64(size) > room-batchHeader-1:
		return b, 0, "the file ends before the batch does: it was cut off"
	case size > maxBatch || size%batchAlign != 0 || b.count > size:
		return b, 0, "impossible length of a batch"
	}
	return b, int(size), ""
}

// readError makes a *CorruptError of an error that comes from the disk or from
// the end of the file, and passes others (no descriptors left) on.
func readError(name string, off int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return &CorruptError{name, off, "the file ends too early"}
	}
	if isMediaError(err) {
		return &CorruptError{name, off, fmt.Sprintf("reading: %v", err)}
	}
	return fmt.Errorf("read %s at offset %d: %w", name, off, err)
}
