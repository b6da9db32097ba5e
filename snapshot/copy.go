package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strings"
)

// ErrNoState says that a directory holds no state yet.
var ErrNoState = errors.New("there is no state yet")

// Copy gives the files that make the state of a directory in another one: what was committed before
// the call, and perhaps more, up to one commit. A daemon may go on meanwhile; nothing is locked or
// changed. put is called for one file after the other, and takes all of its content.
func Copy(dir string, put func(name string, size int64, content io.Reader) error) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("copy state: %w", err)
	}
	if err := copyState(OS(dir), put); err != nil {
		return fmt.Errorf("copy state: %w", err)
	}
	return nil
}

func copyState(fsys FS, put func(name string, size int64, content io.Reader) error) error {
	parts, err := openParts(fsys)
	defer func() {
		for _, p := range parts {
			p.file.Close()
		}
	}()
	if err != nil {
		return err
	}
	// The format, which makes all others a state, goes last.
	inv, err := takeInventory(fsys)
	if err != nil {
		return err
	}
	if err := put(
		serverIDName,
		int64(len(inv.serverID)),
		bytes.NewReader(inv.serverID),
	); err != nil {
		return err
	}
	for _, p := range parts {
		content := io.MultiReader(
			io.NewSectionReader(p.file, 0, p.size),
			bytes.NewReader(make([]byte, p.room)),
		)
		if err := put(p.name, p.size+p.room, content); err != nil {
			return err
		}
	}
	format := withSegment(inv.format, parts[len(parts)-1].number)
	return put(formatName, int64(len(format)), bytes.NewReader(format))
}

// withSegment is what `format` says, with another newest segment: version and features stay those
// of who wrote the state, since the one who reads the copy may be as old.
func withSegment(format []byte, segment uint64) []byte {
	body, _, _ := strings.Cut(string(format), "crc32c ")
	first, rest, _ := strings.Cut(body, "\n")
	_, more, _ := strings.Cut(rest, "\n")
	text := fmt.Sprintf("%s\nsegment %d\n%s", first, segment, more)
	return fmt.Appendf([]byte(text), "crc32c %08x\n", crc32.Checksum([]byte(text), castagnoli))
}

// part is a snapshot or segment to be copied.
type part struct {
	name   string
	number uint64
	file   File
	size   int64 // of what is copied
	room   int64 // zeros behind it: a segment never ends with a batch
}

// copyRoom is the room left behind the last batch of a segment, in bytes.
const copyRoom = 4096

// openParts opens what the state consists of at present. A snapshot that a daemon writes meanwhile
// may let old files go before they are open; then the newer ones are taken.
func openParts(fsys FS) (parts []part, err error) {
	_, running, err := fsys.Holder(lockName)
	if err != nil {
		return nil, err
	}
	for range 5 {
		var c *contents
		if c, err = loadBeside(fsys, running); err != nil {
			return nil, err
		}
		if c == nil {
			return nil, ErrNoState
		}
		if parts, err = c.open(fsys); !errors.Is(err, fs.ErrNotExist) {
			return parts, err
		}
		for _, p := range parts {
			p.file.Close()
		}
		parts = nil
	}
	return nil, err
}

// open opens the snapshot and the segments since; what it has opened comes with an error, too.
func (c *contents) open(fsys FS) (parts []part, err error) {
	add := func(name string, number uint64, size, room int64) error {
		f, err := fsys.Open(name, false)
		if err != nil {
			return err
		}
		parts = append(parts, part{name, number, f, size, room})
		return nil
	}
	if c.snapshot > 0 {
		if err := add(snapshotName(c.snapshot), c.snapshot, c.snapSize, 0); err != nil {
			return parts, err
		}
	}
	for _, s := range c.spans {
		if err := add(segmentName(s.segment), s.segment, s.end, copyRoom); err != nil {
			return parts, err
		}
	}
	return parts, nil
}
