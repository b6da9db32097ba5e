package snapshot

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/s2"

	"jobserver/tests/budget"
)

// fuzzed is a state whose newest segment or snapshot is what the fuzzer gives.
func fuzzed(name string, content []byte) *memFS {
	id := storeID{1, 2, 3}
	return image{
		serverIDName: []byte(id.String() + "\n"),
		formatName:   formatFile{1, "1.1.0"}.encode(),
		segmentName(1): append((&header{magic: segmentMagic, store: id, number: 1,
			at: position{next: 1}}).encode(),
			make([]byte, 64)...),
		name: content,
	}.fs()
}

// FuzzSegment: no segment makes a reader crash, take memory out of proportion,
// or give records that do not survive the next start.
func FuzzSegment(f *testing.F) {
	id := storeID{1, 2, 3}
	at := position{next: 1}
	buf := (&header{magic: segmentMagic, store: id, number: 1, at: at}).encode()
	f.Add(append(bytes.Clone(buf), make([]byte, 40)...))
	for _, n := range []int{1, 0, 3} {
		var err error
		if buf, at, err = appendBatch(buf, seed(segmentMagic, id, 1), at,
			records("r", n)); err != nil {
			f.Fatal(err)
		}
		f.Add(append(bytes.Clone(buf), make([]byte, 40)...))
		f.Add(bytes.Clone(buf))
	}
	f.Add(buf[:len(buf)-9])
	f.Fuzz(func(t *testing.T, content []byte) {
		m := fuzzed(segmentName(1), content)
		var first [][]byte
		end := budget.Hold(t, 64<<10+64*len(content))
		_, r, err := Open("", Options{FS: m, Reserve: -1, grow: 64})
		if err == nil {
			first, err = contentsOf(r)
		}
		end()
		if err != nil {
			return
		}
		if _, r, err = Open("", Options{FS: m, Reserve: -1, grow: 64}); err != nil {
			t.Fatalf("second start: %v", err)
		}
		if again, err := contentsOf(r); err != nil || len(again) != len(first) {
			t.Errorf("%d records, then %d, %v", len(first), len(again), err)
		}
	})
}

// FuzzSnapshot is the same for a snapshot. A block may say that it is as long
// as the longest record when it is decompressed.
func FuzzSnapshot(f *testing.F) {
	id := storeID{1, 2, 3}
	for _, n := range []int{0, 1, 400} {
		var buf bytes.Buffer
		w, err := newSnapshotWriter(&buf,
			header{magic: snapshotMagic, store: id, number: 1, at: position{next: 1}})
		if err != nil {
			f.Fatal(err)
		}
		for _, rec := range records("a record that compresses", n) {
			if err := w.add(rec); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.finish(); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(buf.Bytes()))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m := fuzzed(snapshotName(1), content)
		defer budget.Hold(t, 8*maxBlock+64*len(content))()
		_, r, err := Open("", Options{FS: m, Reserve: -1, grow: 64})
		if err != nil {
			t.Errorf("the journal is whole, so a start needs no snapshot: %v", err)
			return
		}
		if _, err := contentsOf(r); err != nil {
			// Only what was written with a checksum can fail to decompress.
			t.Logf("replay: %v", err)
		}
		salvaged := &Recovery{fs: m, server: id}
		if err := salvaged.salvage(".", func([]byte) {}); err != nil {
			t.Errorf("salvage: %v", err)
		}
	})
}

// FuzzBody: what is inside of a block or a batch, past the checksums.
func FuzzBody(f *testing.F) {
	f.Add([]byte("\x01a\x00\x02bc"), uint32(3), uint32(7))
	f.Add(s2.Encode(nil, bytes.Repeat([]byte("\x03abc"), 100)), uint32(100), uint32(400))
	f.Fuzz(func(t *testing.T, body []byte, count, length uint32) {
		defer budget.Hold(t, 1<<20+64*len(body))()
		total := 0
		err := eachRecord(body, count, func(rec []byte) error { total += len(rec); return nil })
		if err == nil && (total > len(body) || int(count) > len(body)) {
			t.Errorf("%d records with %d bytes out of %d", count, total, len(body))
		}
		if length > maxBlock {
			return // parseBlock refuses it
		}
		b := block{kind: blockS2, length: length, stored: body}
		if plain, err := b.unpack(nil); err == nil && len(plain) != int(length) {
			t.Errorf("%d bytes instead of %d", len(plain), length)
		}
	})
}

// FuzzFormat: the small text files.
func FuzzFormat(f *testing.F) {
	f.Add(formatFile{7, ""}.encode())
	f.Add(formatFile{7, "1.1.0"}.encode())
	f.Add([]byte("jobserver state 2.0 incompat 0\nsegment 1\ncrc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer budget.Hold(t, 1<<20+64*len(text))()
		got, err := decodeFormat(text)
		if err == nil && got.segment == 0 {
			t.Error("it names no segment")
		}
		if id, ok := parseStoreID(text); ok &&
			!bytes.EqualFold([]byte(id.String()), bytes.TrimSpace(text)) {
			t.Errorf("%q became %s", text, id)
		}
	})
}
