package joblog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The seekable format: the last frame is one that other readers skip. It has, for each frame of the
// text, its length in the file and its length as text; then their number, a byte of flags, and a
// number by which all of it is known.
const (
	skippable   = 0x184D2A5E
	tableMagic  = 0x8F92EAB1
	footerBytes = 9
	entryBytes  = 8
	headerBytes = 8
	// with a checksum after each entry; we write none, as frames have their own
	withSums = 1 << 7
)

// frameBytes is how much text a frame has: enough to compress well, little enough that what is
// asked for from its middle is there in a few milliseconds.
const frameBytes = 512 << 10

// maxFrame is the longest frame that is decoded: others may have made longer ones than we do.
const maxFrame = 128 << 20

// frame is a piece of the text that is compressed by itself.
type frame struct {
	at, length int64 // in the file
	from, size int64 // in the text
}

// readTable reads the table of a file, nil if it has none: somebody else compressed it.
func readTable(f io.ReaderAt, fileSize int64) ([]frame, int64, error) {
	var footer [footerBytes]byte
	if fileSize < headerBytes+footerBytes {
		return nil, -1, nil
	}
	if _, err := f.ReadAt(footer[:], fileSize-footerBytes); err != nil {
		return nil, 0, err
	}
	count := int64(binary.LittleEndian.Uint32(footer[:4]))
	each := int64(entryBytes)
	if footer[4]&withSums != 0 {
		each += 4
	}
	length := count*each + footerBytes
	start := fileSize - length - headerBytes
	if binary.LittleEndian.Uint32(footer[5:]) != tableMagic || start < 0 {
		return nil, -1, nil
	}
	table := make([]byte, headerBytes+count*each)
	if _, err := f.ReadAt(table, start); err != nil {
		return nil, 0, err
	}
	if binary.LittleEndian.Uint32(table) != skippable ||
		int64(binary.LittleEndian.Uint32(table[4:])) != length {
		return nil, -1, nil
	}
	frames := make([]frame, 0, count)
	var at, from int64
	for i := range count {
		entry := table[headerBytes+i*each:]
		f := frame{
			at:     at,
			length: int64(binary.LittleEndian.Uint32(entry)),
			from:   from,
			size:   int64(binary.LittleEndian.Uint32(entry[4:])),
		}
		at, from = at+f.length, from+f.size
		frames = append(frames, f)
	}
	if at != start {
		return nil, 0, errors.New("the table of the compressed log doesn't fit what is before it")
	}
	return frames, from, nil
}

// decoder decodes single frames. It is made once: what it needs is a matter of the longest.
func decoder() *zstd.Decoder {
	frames.once.Do(func() { // at no start of the program that reads none
		frames.decoder, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2),
			zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderLowmem(true)) // which are valid
	})
	return frames.decoder
}

var frames struct {
	once    sync.Once
	decoder *zstd.Decoder
}

// readFrames reads from the frames that have the bytes. l.mu is held.
func (l *Log) readFrames(p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		at := offset + int64(n)
		i := sort.Search(len(l.frames), func(i int) bool {
			return l.frames[i].from+l.frames[i].size > at
		})
		if i == len(l.frames) {
			return n, io.EOF
		}
		if err := l.decode(i); err != nil {
			return n, err
		}
		n += copy(p[n:], l.raw[at-l.frames[i].from:])
	}
	return n, nil
}

// decode makes a frame the one whose text is at hand.
func (l *Log) decode(i int) error {
	if l.last == i {
		return nil
	}
	f := l.frames[i]
	if f.length > maxFrame || f.size > maxFrame {
		return fmt.Errorf("a frame of the compressed log has %d bytes", max(f.length, f.size))
	}
	packed := make([]byte, f.length)
	if _, err := l.file.ReadAt(packed, f.at); err != nil {
		return fmt.Errorf("read the compressed log: %w", err)
	}
	raw, err := decoder().DecodeAll(packed, l.raw[:0])
	if err == nil && int64(len(raw)) != f.size {
		err = fmt.Errorf("it has %d bytes, and should have %d", len(raw), f.size)
	}
	if err != nil {
		l.last = -1
		return fmt.Errorf("read the compressed log: frame %d: %w", i, err)
	}
	l.last, l.raw = i, raw
	return nil
}
