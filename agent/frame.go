package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// A frame on the wire: 4 bytes length of what follows (big-endian), 1 byte type, 4 bytes id of the
// call, payload. Both sides send frames of many calls in turn; those of one call keep their order.
const (
	frameHead = 9
	// maxFrame is the longest payload; the longest that is sent is a batch of starts, or a piece of
	// code. It is checked before memory is taken.
	maxFrame = 5 << 20
)

// What a frame is. The direction is the host's (H) or the agent's (A).
const (
	typeHello = 1 + iota // A: hello, first of all; H: the version that it picked, as one byte
	typeCall             // H: a method and its request
	typePart             // A: a piece of the reply, more follow
	typeDone             // A: the reply's last piece
	// A: an Error instead of (the rest of) the reply. With id 0 it is about the connection
	typeFail
	typeCancel // H: the reply is no longer wanted
	typeCredit // H: so many more bytes of parts may be sent (4 bytes, big-endian)
)

// The methods of typeCall, its payload's first byte.
const (
	methodPing = 1 + iota
	methodFacts
	methodStart
	methodPoll
	methodControl
	methodForget
	methodList
	methodKill
	methodManifest
	methodFetch
	methodCode
	methodTakeOver
	methodSteer
	methodPrepare
	methodInput
	methodLay
	methodOutput
	methodsEnd // none
)

const (
	// 2: the output of a poll comes in parts.
	minVersion = 2
	maxVersion = 2
	// maxJunk is how much a login shell may print before the agent speaks.
	maxJunk = 64 << 10
)

// window is how many bytes of parts of one call may be on their way or waiting in the host's
// memory. For results it keeps a link of 100 ms and 80 MB/s full. Polls are as many as runs that
// are followed, and each may have to wait for the host's disk: one of them keeps 40 MB/s full,
// twice what a channel of x/crypto/ssh does.
func window(method byte) int {
	if method == methodPoll {
		return 4 << 20
	}
	return 8 << 20
}

// magic begins what an agent sends. It is no valid UTF-8 and no escape sequence, so no banner
// contains it.
var magic = []byte("\x00\xffjobserver agent\xff\x00\r\n")

type frame struct {
	kind    byte
	id      uint32
	payload []byte
}

// newFrame is a buffer with room for a frame's head; the payload is appended to it.
func newFrame(size int) []byte { return make([]byte, frameHead, frameHead+size) }

// seal fills in the head of a buffer from newFrame.
func seal(buf []byte, kind byte, id uint32) []byte {
	binary.BigEndian.PutUint32(buf, uint32(len(buf)-4))
	buf[4] = kind
	binary.BigEndian.PutUint32(buf[5:], id)
	return buf
}

func makeFrame(kind byte, id uint32, payload ...[]byte) []byte {
	n := 0
	for _, p := range payload {
		n += len(p)
	}
	buf := newFrame(n)
	for _, p := range payload {
		buf = append(buf, p...)
	}
	return seal(buf, kind, id)
}

// readFrame reads one frame. alloc makes the payload's memory once its length has been found to be
// within limit; at the stream's proper end the error is io.EOF.
func readFrame(r *bufio.Reader, limit int, alloc func(kind byte, n int) []byte) (frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return frame{}, io.EOF
		}
		return frame{}, &Error{Kind: KindProtocol, Msg: "read frame", Err: err}
	}
	n := int64(binary.BigEndian.Uint32(head[:])) - (frameHead - 4)
	if n < 0 || n > int64(limit) {
		return frame{}, errorf(KindProtocol, "read frame: length %d is not within 0 and %d", n,
			limit)
	}
	f := frame{kind: head[4], id: binary.BigEndian.Uint32(head[5:])}
	f.payload = alloc(f.kind, int(n))
	if _, err := io.ReadFull(r, f.payload); err != nil {
		return frame{}, &Error{Kind: KindProtocol, Msg: "read frame", Err: err}
	}
	return f, nil
}

func freshBuffer(_ byte, n int) []byte { return make([]byte, n) }

// skipJunk reads up to the end of magic and returns what stood before
// it, or, when no magic comes, the error says what came instead.
func skipJunk(r *bufio.Reader) error {
	var junk []byte
	for len(junk) < maxJunk {
		// The last byte of magic ends a line, so lines are enough to look at, and nothing behind it
		// is consumed.
		line, err := r.ReadSlice('\n')
		junk = append(junk, line...)
		if bytes.HasSuffix(junk, magic) {
			return nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return &Error{Kind: KindNoAgent, Msg: "no agent answered: " + quoteJunk(junk), Err: err}
		}
	}
	return &Error{Kind: KindNoAgent, Msg: "no agent answered: " + quoteJunk(junk)}
}

// quoteJunk shows the end of what came, where a shell's complaint stands, without its control
// characters.
func quoteJunk(p []byte) string {
	const most = 300
	p = bytes.TrimSpace(p)
	if len(p) == 0 {
		return "nothing came"
	}
	if len(p) > most {
		return fmt.Sprintf("what came ended with %q", p[len(p)-most:])
	}
	return fmt.Sprintf("%q came", p)
}
