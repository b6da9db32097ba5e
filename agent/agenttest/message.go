// Package agenttest is a hostile machine for tests: a program that stands between the host and a
// real agent, and changes what the agent says. It knows the protocol by itself, so that what it
// sends is right but for one thing.
package agenttest

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
)

// The shapes of the agent's messages, as package agent sends them: s is a string, u an unsigned
// number, n a signed one, [ ] a list of elements, each with its length in front. What a newer agent
// adds at the end stays as it is.
const (
	runShape  = "ssunns"
	exitShape = "nnnsnnnnnnsnnnnnnnnnssnnsnu"
	factShape = "sssssssssnnnnnu[ss][nnn]uus"
)

// shapes are those of the answers, by method; parts those of pieces that come before. The numbers
// are those of agent/frame.go.
var (
	shapes = map[byte]string{
		2:  factShape,
		3:  "[nns]",
		14: "[nns]",
		4:  "nnss[ns]nnnn[" + exitShape + "][nunnn]snn",
		11: "ssu",
		15: "ssu",
		16: "s",
		17: "n",
	}
	parts = map[byte]string{
		7: "[[" + runShape + "]nnnn[" + exitShape + "]n]",
		9: "[ssnsunnn][s][ss]usu",
	}
	helloShape = "nn[" + factShape + "]"
)

// Methods lists those that an agent answers.
var Methods = []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}

// value is a part of a message.
type value struct {
	kind  byte // s, u, n or [
	bytes []byte
	num   uint64
	items []message
	raw   []byte // instead of all that, as it is to be sent
}

type message struct {
	values []*value
	rest   []byte
}

var errShape = errors.New("the message has another shape")

// parse takes a message apart.
func parse(p []byte, shape string) (m message, err error) {
	for len(shape) > 0 && len(p) > 0 {
		v := &value{kind: shape[0]}
		m.values = append(m.values, v)
		n, used := binary.Uvarint(p)
		if used <= 0 {
			return m, errShape
		}
		p = p[used:]
		switch v.kind {
		case 's':
			if n > uint64(len(p)) {
				return m, errShape
			}
			v.bytes, p = p[:n], p[n:]
		case '[':
			end := matching(shape)
			for range n {
				if len(p) < 4 || uint64(binary.BigEndian.Uint32(p)) > uint64(len(p)-4) {
					return m, errShape
				}
				size := binary.BigEndian.Uint32(p)
				item, err := parse(p[4:4+size], shape[1:end])
				if err != nil {
					return m, err
				}
				v.items, p = append(v.items, item), p[4+size:]
			}
			shape = shape[end:]
		default:
			v.num = n
		}
		shape = shape[1:]
	}
	m.rest = p
	return m, nil
}

// matching is where the list ends with which a shape begins.
func matching(shape string) int {
	depth := 0
	for i := range shape {
		switch shape[i] {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	panic("agenttest: a shape without an end: " + shape)
}

// append encodes a message.
func (m message) append(p []byte) []byte {
	for _, v := range m.values {
		switch {
		case v.raw != nil:
			p = append(p, v.raw...)
		case v.kind == 's':
			p = append(binary.AppendUvarint(p, uint64(len(v.bytes))), v.bytes...)
		case v.kind == '[':
			p = binary.AppendUvarint(p, uint64(len(v.items)))
			for _, item := range v.items {
				at := len(p)
				p = item.append(append(p, 0, 0, 0, 0))
				binary.BigEndian.PutUint32(p[at:], uint32(len(p)-at-4))
			}
		default:
			p = binary.AppendUvarint(p, v.num)
		}
	}
	return append(p, m.rest...)
}

// all lists the values of a message, those within others too.
func (m message) all() (all []*value) {
	for _, v := range m.values {
		all = append(all, v)
		for _, item := range v.items {
			all = append(all, item.all()...)
		}
	}
	return all
}

// evil are texts that somebody may trip over.
var evil = []string{
	"",
	"\x00",
	"../../../../etc/passwd",
	"/etc/passwd",
	".",
	"..",
	"a/../b",
	"\xff\xfe",
	"\x1b]0;mine\a\x1b[2J\r\nforged",
	"=1+1",
	"$(touch mine)",
	"\u202etxt",
	strings.Repeat("x", 1<<10),
	strings.Repeat("y", 1<<20),
}

// numbers lists those at which something may overflow, as they stand on the wire.
var numbers = []uint64{
	0,
	1,
	2,
	3,
	127,
	128,
	1 << 31,
	1 << 32,
	1<<62 - 1,
	1 << 62,
	1<<63 - 1,
	1 << 63,
	1<<64 - 2,
	1<<64 - 1,
}

// spoil makes one thing of a message wrong.
func (m message) spoil(rng *rand.Rand) {
	all := m.all()
	if len(all) == 0 {
		return
	}
	v := all[rng.IntN(len(all))]
	switch {
	case rng.IntN(10) == 0: // a length or number that isn't true
		v.raw = binary.AppendUvarint(nil, numbers[rng.IntN(len(numbers))])
	case v.kind == 's':
		v.bytes = []byte(evil[rng.IntN(len(evil))])
	case v.kind == '[':
		switch n := len(v.items); {
		case n == 0 || rng.IntN(3) == 0:
			v.items = nil
		case rng.IntN(2) == 0:
			v.items = v.items[:rng.IntN(n)]
		default: // the same again and again
			for range 1 << rng.IntN(12) {
				v.items = append(v.items, v.items[rng.IntN(n)])
			}
		}
	default:
		v.num = numbers[rng.IntN(len(numbers))]
	}
}

// Check says whether a message has the shape that is known here of the method's answer, or of its
// pieces: package agent asks it.
func Check(method byte, piece bool, p []byte) error {
	shape := shapes[method]
	if piece {
		shape = parts[method]
	}
	m, err := parse(p, shape)
	if err == nil && len(m.rest) > 0 {
		err = errShape
	}
	return err
}
