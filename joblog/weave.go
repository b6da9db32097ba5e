package joblog

import (
	"bytes"
	"encoding/binary"
)

// lineMost is how much of a line is held back before it is passed on in pieces, in bytes.
const lineMost = 64 << 10

// Weave passes on the lines of a run's two streams in the order in which they came, as far as that
// is known: what says it is a list of uvarints, so many bytes of stdout, then so many of stderr,
// and so on in turn. What the list leaves is all of one stream; where it isn't, the order is not
// known. A line stands where its end came. The list may be anything: it decides about nothing but
// the order.
type Weave struct {
	// Line gets each line, with its end; the last of a stream may have none, and a long one comes
	// in pieces.
	Line func(stderr bool, line []byte) error

	list    []byte   // of the order, not used yet
	lengths int64    // of the list that were used
	begun   int64    // bytes of the stream that has its turn, which are still to come
	ahead   [2]int64 // bytes that were passed on before the list had them
	text    [2][]byte
	line    [2][]byte // the beginning of a line, which was taken out of text
	ended   bool      // all has come
	misfit  bool
}

// Want tells whether more of a stream is needed before it can go on.
func (w *Weave) Want(stderr bool) bool { return len(w.text[index(stderr)]) < 1<<20 }

// Order takes the next bytes of the list.
func (w *Weave) Order(p []byte) { w.list = append(w.list, p...) }

// Text takes the next bytes of a stream.
func (w *Weave) Text(stderr bool, p []byte) {
	i := index(stderr)
	w.text[i] = append(w.text[i], p...)
}

// End says that all of the list and of the texts has come.
func (w *Weave) End() { w.ended = true }

func index(stderr bool) int {
	if stderr {
		return 1
	}
	return 0
}

// Go passes on what can be, by what has come so far.
func (w *Weave) Go() error {
	for {
		if w.begun == 0 && !w.next() {
			break
		}
		s := w.turn()
		skip := min(w.begun, w.ahead[s])
		w.ahead[s] -= skip
		w.begun -= skip
		n := min(w.begun, int64(len(w.text[s])))
		if err := w.pass(s, n); err != nil {
			return err
		}
		if w.begun -= n; w.begun > 0 && !w.ended {
			return nil // it has its turn still
		}
		w.misfit = w.misfit || w.begun > 0
		w.begun = 0
	}
	// What has come of a single stream has the turn that isn't noted yet.
	for s := range w.text {
		if len(w.text[1-s]) == 0 {
			if err := w.hurry(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// next takes the next length of the list.
func (w *Weave) next() bool {
	n, used := binary.Uvarint(w.list)
	if used <= 0 || n > 1<<62 {
		return false // it isn't whole yet, or garbage
	}
	w.list = w.list[used:]
	w.begun = int64(n)
	w.lengths++
	return true
}

// turn is the stream whose length was taken last.
func (w *Weave) turn() int { return int(w.lengths+1) % 2 }

// Left is how many bytes wait for their turn: at the end of both streams, those whose order isn't
// known.
func (w *Weave) Left() int { return len(w.text[0]) + len(w.text[1]) }

// Misfit tells that the list speaks of more bytes than there are: it is damaged, or a log is.
func (w *Weave) Misfit() bool { return w.misfit }

// Hurry passes on what waits, though it isn't known whose turn it is.
func (w *Weave) Hurry() error {
	for s := range w.text {
		if err := w.hurry(s); err != nil {
			return err
		}
	}
	return nil
}

func (w *Weave) hurry(s int) error {
	n := int64(len(w.text[s]))
	if w.turn() == s {
		done := min(n, w.begun)
		w.begun -= done
		w.ahead[s] += n - done
	} else {
		w.ahead[s] += n
	}
	return w.pass(s, n)
}

// Open passes on the beginnings of lines whose end hasn't come.
func (w *Weave) Open() error {
	for s, line := range w.line {
		if len(line) == 0 {
			continue
		}
		w.line[s] = nil
		if err := w.Line(s == 1, line); err != nil {
			return err
		}
	}
	return nil
}

// pass passes on n bytes of a stream, as far as they are lines.
func (w *Weave) pass(s int, n int64) error {
	p := w.text[s][:n]
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 && len(w.line[s])+len(p) < lineMost {
			w.line[s] = append(w.line[s], p...)
			break
		}
		if end == 0 {
			end = len(p)
		}
		line := p[:end]
		if len(w.line[s]) > 0 {
			line = append(w.line[s], line...)
			w.line[s] = nil
		}
		if err := w.Line(s == 1, line); err != nil {
			return err
		}
		p = p[end:]
	}
	if w.text[s] = w.text[s][n:]; len(w.text[s]) == 0 {
		w.text[s] = nil
	}
	return nil
}
