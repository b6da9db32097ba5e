package agent

import (
	"encoding/binary"
	"io"
	"time"
)

// maxWeave bounds the file fileWeave, in bytes. Each quarter of it is spent more slowly.
const maxWeave = 1 << 20

// weavePauses are how far apart notes are while the file is in its first quarter, its second, …:
// what comes in between counts as having come at once. A command that changes from one stream to
// the other without a pause fills the first quarter with 60,000 changes or more, and the others
// last for weeks.
var weavePauses = [...]time.Duration{0, time.Second / 10, time.Second, 20 * time.Second}

// weave notes in which order a command's two streams came, as far as that can be told: what is in
// both pipes when they are looked at may have come in either order. The note is a list of lengths,
// each a uvarint: so many bytes of standard output, then so many of standard error, and so on in
// turn. The last length isn't there, since more may come: it is all that the list leaves. Nothing
// is noted before both streams have had something, and a note that can't be written is the last.
type weave struct {
	create func() (io.WriteCloser, error)

	file    io.WriteCloser
	buf     []byte         // not written yet
	size    int64          // of the file
	seen    [streams]bool  // that have had something
	current Stream         // whose length is still to be noted
	length  int64          // of that, so far
	held    [streams]int64 // bytes that came since, all at once
	due     due            // when those are noted
	ended   bool
}

// came takes that n bytes have come.
func (w *weave) came(s Stream, n int64, now time.Duration) {
	if n <= 0 || w.ended {
		return
	}
	w.seen[s] = true
	w.held[s] += n
	pause := weavePauses[w.size*int64(len(weavePauses))/maxWeave]
	switch {
	case pause == 0:
		w.note()
	case w.due == 0:
		w.due = due(now + pause)
	}
}

// note notes what is held.
func (w *weave) note() {
	for i, n := range w.held {
		s := Stream(i)
		if n > 0 && s != w.current {
			w.buf = binary.AppendUvarint(w.buf, uint64(w.length))
			w.current, w.length = s, 0
		}
		w.length += n
	}
	w.held, w.due = [streams]int64{}, 0
	if len(w.buf) > 0 && w.seen[Stdout] && w.seen[Stderr] && !w.ended {
		w.ended = w.write() != nil
	}
}

func (w *weave) write() error {
	if w.file == nil {
		file, err := w.create()
		if err != nil {
			return err
		}
		w.file = file
	}
	if w.size+int64(len(w.buf)) >= maxWeave {
		return io.ErrShortWrite
	}
	_, err := w.file.Write(w.buf)
	w.size += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

func (w *weave) close() {
	if w.file != nil {
		_ = w.file.Close() // what isn't there is missing from the order, and from nothing else
	}
}
