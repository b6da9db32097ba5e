package snapshot

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/s2"
)

// A snapshot is a header, blocks, and a last block that is the footer. Blocks
// follow each other without gaps:
//
//	0  magic   4
//	4  kind    4    blockRaw, blockS2, blockFooter
//	8  index   4    0, 1, 2, …
//	12 count   4    of records
//	16 length  4    of the records, encoded as in a batch's body
//	20 stored  4    of what follows: the records, compressed if that pays
//	24 reserved 4
//	28 crc     4    CRC-32C of the 28 bytes before and of what follows, from the file's seed
//
// The footer's 24 bytes are the number of records, the number of blocks, and
// the CRC-32C over the checksums of all blocks in order; the file ends there.
const (
	blockMagic  = 0x4b4c424a // "JBLK"
	blockHeader = 32
	blockSize   = 256 << 10 // a block is closed when it has reached this
	maxBlock    = blockSize + maxRecord + 16

	blockRaw    = 0
	blockS2     = 1
	blockFooter = 2
	footerSize  = 24
)

// snapshotWriter streams records into the blocks of a snapshot.
type snapshotWriter struct {
	out    io.Writer
	seed   uint32
	sum    uint32 // over the checksums of the blocks
	index  uint32
	count  uint32 // records in raw
	total  uint64
	raw    []byte
	stored []byte // header and compressed records
}

func newSnapshotWriter(out io.Writer, h header) (*snapshotWriter, error) {
	if _, err := out.Write(h.encode()); err != nil {
		return nil, err
	}
	return &snapshotWriter{out: out, seed: seed(snapshotMagic, h.store, h.number),
		raw: make([]byte, blockHeader)}, nil
}

// add appends one record, which it copies.
func (w *snapshotWriter) add(rec []byte) error {
	if len(rec) > maxRecord {
		return fmt.Errorf("%w: a record of %d bytes, more than %d", ErrTooLarge, len(rec),
			maxRecord)
	}
	w.raw = binary.AppendUvarint(w.raw, uint64(len(rec)))
	w.raw = append(w.raw, rec...)
	w.count++
	if len(w.raw)-blockHeader < blockSize {
		return nil
	}
	return w.flush()
}

// flush writes the block that was collected, compressed if that saves an
// eighth: reading back is then faster from most disks, and what the caller has
// compressed already stays as it is.
func (w *snapshotWriter) flush() error {
	length := len(w.raw) - blockHeader
	if length == 0 {
		return nil
	}
	if need := blockHeader + s2.MaxEncodedLen(length); cap(w.stored) < need {
		w.stored = make([]byte, need)
	}
	block, kind := w.raw, uint32(blockRaw)
	packed := s2.Encode(w.stored[blockHeader:cap(w.stored)], w.raw[blockHeader:])
	if len(packed) < length-length/8 {
		block, kind = w.stored[:blockHeader+len(packed)], blockS2
	}
	if err := w.write(block, kind, length); err != nil {
		return err
	}
	w.total += uint64(w.count)
	w.count = 0
	w.raw = w.raw[:blockHeader]
	return nil
}

// write fills in the header of a block and writes both.
func (w *snapshotWriter) write(block []byte, kind uint32, length int) error {
	binary.LittleEndian.PutUint32(block, blockMagic)
	binary.LittleEndian.PutUint32(block[4:], kind)
	binary.LittleEndian.PutUint32(block[8:], w.index)
	binary.LittleEndian.PutUint32(block[12:], w.count)
	binary.LittleEndian.PutUint32(block[16:], uint32(length))
	binary.LittleEndian.PutUint32(block[20:], uint32(len(block)-blockHeader))
	binary.LittleEndian.PutUint32(block[24:], 0)
	crc := batchCRC(w.seed, block)
	binary.LittleEndian.PutUint32(block[28:], crc)
	w.sum = crc32.Update(w.sum, castagnoli, block[28:32])
	w.index++
	_, err := w.out.Write(block)
	return err
}

// finish writes the last block and the footer.
func (w *snapshotWriter) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	foot := make([]byte, blockHeader, blockHeader+footerSize)
	foot = binary.LittleEndian.AppendUint64(foot, w.total)
	foot = binary.LittleEndian.AppendUint64(foot, uint64(w.index))
	foot = binary.LittleEndian.AppendUint64(foot, uint64(w.sum))
	return w.write(foot, blockFooter, footerSize)
}

// snapshotReader reads the blocks of a snapshot in order.
type snapshotReader struct {
	name string
	file File
	size int64
	head header
	seed uint32
	in   *bufio.Reader
	off  int64

	sum   uint32
	index uint32
	total uint64
}

// block is one block as it is stored.
type block struct {
	kind   uint32
	index  uint32
	count  uint32
	length uint32
	stored []byte
	buf    []byte // that holds it, for next to use again
}

// openSnapshot opens a snapshot and reads its header. The caller closes it.
func openSnapshot(fsys FS, number uint64, store storeID) (*snapshotReader, error) {
	name := snapshotName(number)
	f, err := fsys.Open(name, false)
	if err != nil {
		return nil, err
	}
	r := &snapshotReader{name: name, file: f, seed: seed(snapshotMagic, store, number),
		off: headerSize}
	if r.size, err = f.Size(); err != nil {
		f.Close()
		return nil, err
	}
	if r.head, err = readHeader(f, name, snapshotMagic, number); err != nil {
		f.Close()
		return nil, err
	}
	if r.head.store != store {
		f.Close()
		return nil, &CorruptError{name, 24, "it belongs to another server id"}
	}
	r.in = bufio.NewReaderSize(io.NewSectionReader(f, headerSize, r.size-headerSize),
		int(min(r.size, 64<<10)))
	return r, nil
}

func (r *snapshotReader) Close() error { return r.file.Close() }

// next reads a block into buf, which it enlarges if need be, and checks it. At
// the footer, which it checks against all that went before, it returns io.EOF.
func (r *snapshotReader) next(buf []byte) (block, error) {
	h, err := r.in.Peek(blockHeader)
	if err != nil {
		return block{}, readError(r.name, r.off, err)
	}
	b, stored, reason := parseBlock(h, r.size-r.off)
	if reason == "" && b.index != r.index {
		reason = fmt.Sprintf("block %d instead of %d", b.index, r.index)
	}
	if reason != "" {
		return block{}, &CorruptError{r.name, r.off, reason}
	}
	crc := h[28:32:32]
	whole := buf[:0]
	if cap(whole) < blockHeader+stored {
		// Large enough for most blocks, but never for more than the file holds.
		whole = make([]byte, 0, blockHeader+max(stored, int(min(blockSize*5/4, r.size))))
	}
	whole = whole[:blockHeader+stored]
	sum := crc32.Update(r.sum, castagnoli, crc)
	want := binary.LittleEndian.Uint32(crc)
	if _, err := io.ReadFull(r.in, whole); err != nil {
		return block{}, readError(r.name, r.off, err)
	}
	if batchCRC(r.seed, whole) != want {
		return block{}, &CorruptError{r.name, r.off, "checksum of a block differs"}
	}
	b.stored, b.buf = whole[blockHeader:], whole
	if b.kind == blockFooter {
		return block{}, r.footer(b)
	}
	r.sum = sum
	r.off += int64(len(whole))
	r.index++
	r.total += uint64(b.count)
	return b, nil
}

// footer checks the counts, and that nothing follows.
func (r *snapshotReader) footer(b block) error {
	end := r.off + blockHeader + int64(len(b.stored))
	switch {
	case len(b.stored) != footerSize || end != r.size:
		return &CorruptError{r.name, r.off, "the file does not end where its footer does"}
	case binary.LittleEndian.Uint64(b.stored) != r.total,
		binary.LittleEndian.Uint64(b.stored[8:]) != uint64(r.index),
		binary.LittleEndian.Uint64(b.stored[16:]) != uint64(r.sum):
		return &CorruptError{r.name, r.off, "the counts or the checksum of the whole file differ"}
	}
	return io.EOF
}

// parseBlock decodes a block's header, and returns the length of what follows.
func parseBlock(h []byte, room int64) (b block, stored int, reason string) {
	b = block{
		kind:   binary.LittleEndian.Uint32(h[4:]),
		index:  binary.LittleEndian.Uint32(h[8:]),
		count:  binary.LittleEndian.Uint32(h[12:]),
		length: binary.LittleEndian.Uint32(h[16:]),
	}
	size := binary.LittleEndian.Uint32(h[20:])
	switch {
	case binary.LittleEndian.Uint32(h) != blockMagic:
		return b, 0, "no block begins here"
	case b.kind > blockFooter:
		return b, 0, "unknown kind of block"
	case int64(size) > room-blockHeader || size > maxBlock:
		return b, 0, "impossible length of a block: the file was cut off or damaged"
	case b.length > maxBlock || b.count > b.length || b.kind != blockS2 && b.length != size:
		return b, 0, "impossible length of a block's records"
	}
	return b, int(size), ""
}

// unpack gives the records of a block, decompressed into buf if it is large enough.
func (b *block) unpack(buf []byte) ([]byte, error) {
	if b.kind == blockRaw {
		return b.stored, nil
	}
	if n, err := s2.DecodedLen(b.stored); err != nil || n != int(b.length) {
		return nil, errBadRecord
	}
	return s2.Decode(buf[:cap(buf)], b.stored)
}
