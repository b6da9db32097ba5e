package snapshot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The format's version. A change that old readers would misread gets a new
// major number or an incompat bit; one that they may ignore, a minor number or
// a compat bit.
const (
	formatMajor   = 1
	formatMinor   = 0
	knownIncompat = featureShapes
)

// The features that a state may have, as bits of incompat. Every state that is written has all of
// them: whether a record uses one is known too late, when the segment has begun.
const (
	// featureShapes: jobs that need more than one slot. A daemon without it would put others beside
	// them.
	featureShapes = uint32(1 << 0)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// storeID names a store; the server-id file has it in hexadecimal.
type storeID [16]byte

func (id storeID) String() string { return hex.EncodeToString(id[:]) }

func parseStoreID(text []byte) (id storeID, ok bool) {
	raw, err := hex.DecodeString(string(bytes.TrimSuffix(text, []byte("\n"))))
	if err != nil || len(raw) != len(id) {
		return id, false
	}
	return storeID(raw), true
}

const (
	segmentMagic  = "JOBSWAL\n"
	snapshotMagic = "JOBSNAP\n"
	headerSize    = 80
)

// position is a point between two batches of the journal.
type position struct {
	next uint64 // sequence number of the next record
	prev uint32 // checksum of the batch before
}

// header begins every segment and every snapshot. Its layout is the same in
// all versions up to compat, and so is its checksum's place:
//
//	0  magic       8 bytes
//	8  major       2    12  incompat  4
//	10 minor       2    16  compat    4
//	20 prev        4    checksum of the last batch before this segment or snapshot
//	24 store       16
//	40 number      8    as in the file's name
//	48 next        8    sequence of the segment's first record; of the first not in the snapshot
//	56 prevEnd     8    segment: where the batches of the segment before it end; snapshot: 0
//	64 reserved    12
//	76 crc         4    CRC-32C of the 76 bytes before
type header struct {
	magic   string
	store   storeID
	number  uint64
	at      position
	prevEnd int64
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, h.magic)
	binary.LittleEndian.PutUint16(b[8:], formatMajor)
	binary.LittleEndian.PutUint16(b[10:], formatMinor)
	binary.LittleEndian.PutUint32(b[12:], knownIncompat)
	binary.LittleEndian.PutUint32(b[20:], h.at.prev)
	copy(b[24:], h.store[:])
	binary.LittleEndian.PutUint64(b[40:], h.number)
	binary.LittleEndian.PutUint64(b[48:], h.at.next)
	binary.LittleEndian.PutUint64(b[56:], uint64(h.prevEnd))
	binary.LittleEndian.PutUint32(b[76:], crc32.Checksum(b[:76], castagnoli))
	return b
}

// readHeader reads the header of a file and checks that it is the one that the
// file's name promises. Its error is a *CorruptError, a *FormatError, or that
// of reading.
func readHeader(f File, name, magic string, number uint64) (header, error) {
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return header{}, readError(name, 0, err)
	}
	h, err := decodeHeader(b, name, magic)
	if err != nil {
		return header{}, err
	}
	if h.number != number {
		return header{}, &CorruptError{name, 40,
			fmt.Sprintf("it says that it is number %d: a file was renamed or copied", h.number)}
	}
	return h, nil
}

func decodeHeader(b []byte, name, magic string) (header, error) {
	if string(b[:8]) != magic {
		return header{}, &CorruptError{name, 0, "it does not begin as such a file does"}
	}
	if crc32.Checksum(b[:76], castagnoli) != binary.LittleEndian.Uint32(b[76:]) {
		return header{}, &CorruptError{name, 0, "checksum of the file's header differs"}
	}
	major, minor := binary.LittleEndian.Uint16(b[8:]), binary.LittleEndian.Uint16(b[10:])
	incompat := binary.LittleEndian.Uint32(b[12:])
	if major != formatMajor || incompat&^knownIncompat != 0 {
		return header{}, &FormatError{name, int(major), int(minor), incompat, ""}
	}
	return header{
		magic:   magic,
		store:   storeID(b[24:40]),
		number:  binary.LittleEndian.Uint64(b[40:]),
		at:      position{binary.LittleEndian.Uint64(b[48:]), binary.LittleEndian.Uint32(b[20:])},
		prevEnd: int64(binary.LittleEndian.Uint64(b[56:])),
	}, nil
}

// seed is where the checksums of a file's batches or blocks begin, so that
// none of another file, or of another store, can pass for one of this file. It
// does not depend on the header, so that a damaged header hides nothing from
// Salvage.
func seed(magic string, store storeID, number uint64) uint32 {
	b := append([]byte(magic), store[:]...)
	return crc32.Checksum(binary.LittleEndian.AppendUint64(b, number), castagnoli)
}

// formatFile is the file `format`: the version, and the newest segment, which
// it names before a commit goes there. So a segment that disappears is missed.
// The first line and the last keep their form in all versions, and so does the one that says which
// program wrote it, so that one that can't read the state knows what can:
//
//	jobserver state 1.0 incompat 0
//	segment 7
//	by 1.1.0
//	crc32c 0badc0de
type formatFile struct {
	segment uint64
	by      string // the program's version; "" if it isn't known, as of 1.0
}

func (f formatFile) encode() []byte {
	text := fmt.Sprintf("jobserver state %d.%d incompat %d\nsegment %d\n", formatMajor, formatMinor,
		knownIncompat, f.segment)
	if isVersion(f.by) {
		text += byWord + f.by + "\n"
	}
	return fmt.Appendf([]byte(text), "crc32c %08x\n", crc32.Checksum([]byte(text), castagnoli))
}

func decodeFormat(text []byte) (formatFile, error) {
	corrupt := func(reason string) (formatFile, error) {
		return formatFile{}, &CorruptError{formatName, -1, reason}
	}
	body, sum, found := strings.Cut(string(text), "crc32c ")
	if !found || sum != fmt.Sprintf("%08x\n", crc32.Checksum([]byte(body), castagnoli)) {
		return corrupt("its checksum differs")
	}
	first, rest, _ := strings.Cut(body, "\n")
	var major, minor int
	var incompat uint32
	if _, err := fmt.Sscanf(first, "jobserver state %d.%d incompat %d", &major, &minor,
		&incompat); err != nil {
		return corrupt("its first line is not understood")
	}
	by := writerIn(rest)
	if major != formatMajor || incompat&^knownIncompat != 0 {
		return formatFile{}, &FormatError{formatName, major, minor, incompat, by}
	}
	line, _, _ := strings.Cut(rest, "\n") // a later minor version may have more lines
	number, found := strings.CutPrefix(line, "segment ")
	segment, err := strconv.ParseUint(number, 10, 64)
	if !found || err != nil || segment == 0 {
		return corrupt("it names no segment")
	}
	return formatFile{segment, by}, nil
}

const byWord = "by "

// writerIn finds the version of the program that wrote the lines of a format file.
func writerIn(lines string) string {
	for line := range strings.Lines(lines) {
		by, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), byWord)
		if found && isVersion(by) {
			return by
		}
	}
	return ""
}

// isVersion tells whether a text may be a version: it is shown to people, and stands on a line.
func isVersion(text string) bool {
	return text != "" && len(text) <= 100 && !strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r > '~'
	})
}

// Names in the state directory.
const (
	lockName       = "lock"
	serverIDName   = "server-id"
	formatName     = "format"
	reserveName    = "reserve"
	quarantineName = "quarantine"
	segmentPrefix  = "wal-"
	snapshotPrefix = "snap-"
)

func segmentName(n uint64) string  { return fmt.Sprintf("%s%08d", segmentPrefix, n) }
func snapshotName(n uint64) string { return fmt.Sprintf("%s%08d", snapshotPrefix, n) }

// numberOf gives the number in a name that segmentName or snapshotName made.
func numberOf(name, prefix string) (uint64, bool) {
	digits, found := strings.CutPrefix(name, prefix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, found && err == nil && n > 0 && fmt.Sprintf("%s%08d", prefix, n) == name
}

// isTemporary tells the name of a file that Replace began and a crash orphaned.
func isTemporary(name string) bool {
	for _, prefix := range []string{serverIDName, formatName, reserveName, segmentPrefix,
		snapshotPrefix} {
		if strings.HasPrefix(name, "."+prefix) {
			return true
		}
	}
	return false
}
