package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// image holds the contents of a state directory, by name.
type image map[string][]byte

func (m *memFS) image() image {
	img := image{}
	for dir, d := range m.cache {
		for name, n := range d {
			if !n.dir && dir == "." {
				img[name] = bytes.Clone(n.cache)
			} else if !n.dir {
				img[dir+"/"+name] = bytes.Clone(n.cache)
			}
		}
	}
	return img
}

// fs gives a file system with the image on its disk.
func (img image) fs() *memFS {
	m := newMemFS(512)
	for name, content := range img {
		m.nodes++
		// only the cache is written to in place
		n := &node{id: m.nodes, cache: bytes.Clone(content), disk: content}
		m.cache["."][name], m.disk["."][name] = n, n
	}
	return m
}

func (img image) clone() image {
	c := image{}
	for name, content := range img {
		c[name] = content
	}
	return c
}

// names gives the files whose names begin so, sorted.
func (img image) names(prefix string) []string {
	var names []string
	for name := range img {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// saved is a state with three snapshots and a journal that goes on, and what it
// holds. The last batch has two records.
func saved(t *testing.T, sealed bool) (image, [][]byte) {
	t.Helper()
	m := newMemFS(512)
	c := &client{ledger: newLedger(), opt: Options{FS: m, Reserve: -1, grow: 64}}
	steps := []func() error{c.open, func() error {
		return c.commit(2)
	}, c.compact, c.compact, c.compact,
		func() error {
			return c.commit(1)
		}, c.open, func() error { return c.commit(1) }, func() error { return c.commit(2) }}
	if sealed {
		steps = append(steps, c.close)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	var recs [][]byte
	for i := range c.acked {
		recs = append(recs, record(i))
	}
	return m.image(), recs
}

// verdict opens a damaged state. It must give all records, or refuse and leave
// everything as it is. With lastMayGo it may also set the last batch, of two
// records, aside, and say so.
func verdict(img image, recs [][]byte, lastMayGo bool) error {
	m := img.fs()
	_, r, err := Open("", Options{FS: m, Reserve: -1, grow: 64})
	if err != nil {
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			return fmt.Errorf("unexpected error: %w", err)
		}
		if !maps.EqualFunc(img, m.image(), bytes.Equal) {
			return fmt.Errorf("refused (%v), but changed", err)
		}
		return nil
	}
	got, err := contentsOf(r)
	if err != nil {
		return fmt.Errorf("opened, and then: %w", err)
	}
	if slices.EqualFunc(got, recs, bytes.Equal) {
		return nil
	}
	if lastMayGo && slices.EqualFunc(got, recs[:len(recs)-2], bytes.Equal) && len(r.Notices) > 0 {
		return nil
	}
	return fmt.Errorf("silently different: %d records of %d, notices %q", len(got), len(recs),
		r.Notices)
}

func TestEveryBit(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{true, false} {
		img, recs := saved(t, sealed)
		last := slices.Max(img.names("wal-"))
		for name, content := range img {
			if sealed && name != last {
				continue // they are the same
			}
			for bit := range len(content) * 8 {
				flipped := bytes.Clone(content)
				flipped[bit/8] ^= 1 << (bit % 8)
				broken := img.clone()
				broken[name] = flipped
				if err := verdict(broken, recs, !sealed && name == last); err != nil {
					t.Errorf("sealed %v, %s, bit %d: %v", sealed, name, bit, err)
				}
			}
		}
	}
}

// TestEveryTruncation: a file that was cut off is noticed at any length, since
// a segment always ends in zeros that were there before its batches.
func TestEveryTruncation(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{true, false} {
		img, recs := saved(t, sealed)
		for name, content := range img {
			for n := range content {
				broken := img.clone()
				broken[name] = content[:n]
				if err := verdict(broken, recs, false); err != nil {
					t.Errorf("sealed %v, %s cut to %d of %d bytes: %v", sealed, name, n,
						len(content), err)
				}
			}
		}
	}
}

// TestMisplacedFiles swaps, copies and deletes files.
func TestMisplacedFiles(t *testing.T) {
	t.Parallel()
	img, recs := saved(t, false)
	files := append(img.names("wal-"), img.names("snap-")...)
	next := segmentName(uint64(len(img.names("wal-")) + 10))
	for _, a := range files {
		for _, b := range append(files, next) {
			if a == b {
				continue
			}
			swapped, copied, gone := img.clone(), img.clone(), img.clone()
			copied[b] = img[a]
			if b != next {
				swapped[a], swapped[b] = img[b], img[a]
			}
			delete(gone, a)
			delete(gone, b)
			for what, broken := range map[string]image{"swapped": swapped, "copied": copied,
				"deleted": gone} {
				if err := verdict(broken, recs, false); err != nil {
					t.Errorf("%s and %s %s: %v", a, b, what, err)
				}
			}
		}
	}
	for name := range img {
		broken := img.clone()
		delete(broken, name)
		if err := verdict(broken, recs, false); err != nil {
			t.Errorf("%s deleted: %v", name, err)
		}
	}
}

// TestMixedStores: files of another server, or of the same one at another time.
func TestMixedStores(t *testing.T) {
	t.Parallel()
	img, recs := saved(t, true)
	other, _ := saved(t, true)
	for name := range img {
		mixed := img.clone()
		mixed[name] = other[name]
		if err := verdict(mixed, recs, false); err != nil && name != formatName {
			t.Errorf("%s of another server: %v", name, err)
		}
	}
}

// TestOlderSnapshots: without the newest snapshots, the older ones and the
// journal make the same state, and it is announced.
func TestOlderSnapshots(t *testing.T) {
	t.Parallel()
	img, recs := saved(t, true)
	snaps := img.names("snap-")
	for k := 1; k < len(snaps); k++ {
		broken := img.clone()
		for _, name := range snaps[len(snaps)-k:] {
			broken[name] = append([]byte("?"), img[name]...)
		}
		m := broken.fs()
		s, r, err := Open("", Options{FS: m})
		if err != nil {
			t.Fatal(err)
		}
		got, err := contentsOf(r)
		if err != nil || !slices.EqualFunc(got, recs, bytes.Equal) {
			t.Errorf("%d damaged: %d records of %d, %v", k, len(got), len(recs), err)
		}
		if len(r.Notices) != k+1 || r.Snapshot() != snaps[len(snaps)-k-1] {
			t.Errorf("%d damaged: began with %s, notices %q", k, r.Snapshot(), r.Notices)
		}
		if left := m.image().names("snap-"); len(left) != len(snaps)-k {
			t.Errorf("%d damaged: %q are still there", k, left)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNewerFormat: what a newer version wrote is refused, untouched, whatever
// the options.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	img, _ := saved(t, true)
	header := func(b []byte, change func(b []byte)) []byte {
		b = bytes.Clone(b)
		change(b)
		binary.LittleEndian.PutUint32(b[76:], crc32.Checksum(b[:76], castagnoli))
		return b
	}
	formatText := func(first, by string) []byte {
		text := first + "\nsegment 5\n" + by
		return fmt.Appendf([]byte(text), "crc32c %08x\n", crc32.Checksum([]byte(text), castagnoli))
	}
	withoutFormat := img.clone()
	delete(withoutFormat, formatName)
	lastWAL, lastSnap := slices.Max(img.names("wal-")), slices.Max(img.names("snap-"))
	for _, test := range []struct {
		name, file string
		content    []byte
		of         image
		wants      string // that should be used
	}{
		{"major of format", formatName, formatText("jobserver state 2.0 incompat 0", ""), img, ""},
		{"features of format", formatName, formatText("jobserver state 1.0 incompat 4", ""), img,
			""},
		{"features of a version", formatName,
			formatText("jobserver state 1.0 incompat 4", "by 1.2.0\n"), img, "1.2.0"},
		{"major of a version", formatName,
			formatText("jobserver state 2.0 incompat 0", "more 7\nby 2.0.0-dev.9+dirty\n"), img,
			"2.0.0-dev.9+dirty"},
		{"no version", formatName,
			formatText("jobserver state 2.0 incompat 0", "by \x1b[1m2.0\n"), img, ""},
		{"major of segment", lastWAL, header(img[lastWAL], func(b []byte) { b[8] = 2 }), img,
			""},
		{"features of segment", lastWAL, header(img[lastWAL], func(b []byte) { b[13] = 1 }), img,
			""},
		{"major of snapshot", lastSnap, header(img[lastSnap], func(b []byte) { b[8] = 9 }), img,
			""},
		{"major of segment, no format", lastWAL, header(img[lastWAL], func(b []byte) {
			b[8] = 2
		}), withoutFormat, ""},
		{"features of snapshot", lastSnap, header(img[lastSnap], func(b []byte) {
			b[12] |= 2
		}), img, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			newer := test.of.clone()
			newer[test.file] = test.content
			m := newer.fs()
			_, _, err := Open("", Options{FS: m, AllowFail: true})
			var format *FormatError
			if !errors.As(err, &format) || format.File != test.file || format.By != test.wants {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff(newer, m.image()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
