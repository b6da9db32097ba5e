package agent

import "bytes"

const (
	// mostTail is how much of a stream's end is kept when there is more than may be: what is in
	// memory until the stream ends. Of a small log it is a quarter.
	mostTail = 64 << 10
	// leastLog is the limit of a log from which on its end is kept, too.
	leastLog = 4 << 10
	// gapLine stands in a log between its beginning and its end, and gapRoom is what it takes.
	gapLine = "\n[jobserver: %d bytes of the log were left out here]\n"
	gapRoom = 80
)

// tailRoom is how much of a log of so many bytes is kept for its end.
func tailRoom(limit int64) int64 {
	if limit < leastLog {
		return 0
	}
	return min(limit/4, mostTail)
}

// tail holds the last bytes of what it is given.
type tail struct {
	held   []byte // at least the last ones
	room   int
	passed int64 // bytes that came before these and are gone
}

// add takes bytes, and gives how many more are gone.
func (t *tail) add(p []byte, room int) (gone int64) {
	if room <= gapRoom {
		return int64(len(p))
	}
	t.room = room - gapRoom
	before := t.passed
	t.passed += int64(max(len(p)-t.room, 0))
	p = p[max(len(p)-t.room, 0):]
	total := len(t.bytes()) + len(p)
	t.passed += int64(max(total-t.room, 0))
	if len(t.held)+len(p) > 2*t.room {
		t.held = bytes.Clone(t.bytes())
	}
	t.held = append(t.held, p...)
	return t.passed - before
}

// bytes are the last ones.
func (t *tail) bytes() []byte { return t.held[max(len(t.held)-t.room, 0):] }
