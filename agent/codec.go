package agent

import (
	"encoding/binary"
	"errors"
	"time"
)

// A coder carries the control messages of the protocol. Each message has one method that visits its
// fields in order; the same method writes and reads, so that the two can't differ. Numbers are
// varints, bytes have their length in front, elements of lists too. Fields are only added, at the
// end: a reader takes those that an older writer didn't send as zero, and skips those that it
// doesn't know.
type coder struct {
	buf     []byte // written so far, or left to read
	reading bool
	err     error // the first; from then on nothing is read
}

var errTruncated = errors.New("message is cut short")

func encode(fields func(*coder)) []byte {
	var c coder
	fields(&c)
	return c.buf
}

// decode reads a message. What it yields may share memory with p.
func decode(p []byte, fields func(*coder)) error {
	c := coder{buf: p, reading: true}
	fields(&c)
	if c.err != nil {
		return &Error{Kind: KindProtocol, Msg: "decode message", Err: c.err}
	}
	return nil
}

// absent tells whether there is nothing to read for this field.
func (c *coder) absent() bool { return c.err != nil || len(c.buf) == 0 }

func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.buf = nil
}

func (c *coder) uint(v *uint64) {
	switch {
	case !c.reading:
		c.buf = binary.AppendUvarint(c.buf, *v)
	case c.absent():
		*v = 0
	default:
		x, n := binary.Uvarint(c.buf)
		if n <= 0 {
			c.fail(errTruncated)
			return
		}
		*v, c.buf = x, c.buf[n:]
	}
}

// number carries any integer type as a zigzag varint.
func number[T ~int | ~int64 | ~uint8 | ~uint32](c *coder, v *T) {
	u := uint64(int64(*v)<<1) ^ uint64(int64(*v)>>63)
	c.uint(&u)
	if c.reading {
		n := int64(u>>1) ^ -int64(u&1)
		if int64(T(n)) != n {
			c.fail(errors.New("number is out of range"))
			return
		}
		*v = T(n)
	}
}

func (c *coder) bool(v *bool) {
	var u uint64
	if *v {
		u = 1
	}
	c.uint(&u)
	*v = u != 0
}

func (c *coder) bytes(v *[]byte) {
	n := uint64(len(*v))
	if c.reading {
		*v = nil
	}
	c.uint(&n)
	if !c.reading {
		c.buf = append(c.buf, *v...)
		return
	}
	if n > uint64(len(c.buf)) {
		c.fail(errTruncated)
		return
	}
	if n > 0 {
		*v, c.buf = c.buf[:n:n], c.buf[n:]
	}
}

func (c *coder) string(v *string) {
	if !c.reading {
		n := uint64(len(*v))
		c.uint(&n)
		c.buf = append(c.buf, *v...)
		return
	}
	var b []byte
	c.bytes(&b)
	*v = string(b)
}

// text carries a string that is there for people to read: of one that is longer than anybody reads,
// the beginning is taken.
func (c *coder) text(v *string) {
	if !c.reading {
		c.string(v)
		return
	}
	var b []byte
	c.bytes(&b)
	*v = string(b[:min(len(b), maxText)])
}

// time carries nanoseconds since 1970; the zero time is 0.
func (c *coder) time(v *time.Time) {
	var n int64
	if !c.reading && !v.IsZero() {
		n = v.UnixNano()
	}
	number(c, &n)
	if c.reading {
		*v = time.Time{}
		if n != 0 {
			*v = time.Unix(0, n).UTC()
		}
	}
}

// maxList bounds the elements of one list, and so the memory that a hostile message of empty
// elements can cost. Whoever has more to say sends several messages.
const maxList = 1 << 16

// list carries the elements, each with its length in front, so that elements can grow fields too.
func list[T any](c *coder, v *[]T, fields func(*coder, *T)) {
	n := uint64(len(*v))
	if !c.reading {
		c.uint(&n)
		for i := range *v {
			at := len(c.buf)
			c.buf = append(c.buf, 0, 0, 0, 0)
			fields(c, &(*v)[i])
			binary.BigEndian.PutUint32(c.buf[at:], uint32(len(c.buf)-at-4))
		}
		return
	}
	*v = nil
	c.uint(&n)
	if n > min(maxList, uint64(len(c.buf)/4)) {
		c.fail(errTruncated)
		return
	}
	for range n {
		if len(c.buf) < 4 {
			c.fail(errTruncated)
			return
		}
		size := uint64(binary.BigEndian.Uint32(c.buf))
		if size > uint64(len(c.buf)-4) {
			c.fail(errTruncated)
			return
		}
		sub := coder{buf: c.buf[4 : 4+size : 4+size], reading: true}
		var e T
		fields(&sub, &e)
		if sub.err != nil {
			c.fail(sub.err)
			return
		}
		*v, c.buf = append(*v, e), c.buf[4+size:]
	}
}
