package agenttest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The kinds of frames, as in agent/frame.go.
const (
	kindHello  = 1
	kindCall   = 2
	kindPart   = 3
	kindDone   = 4
	kindFail   = 5
	frameHead  = 9
	mostOfPart = 5 << 20
)

// frame is one frame on the wire.
type frame struct {
	kind    byte
	id      uint32
	payload []byte
}

func readFrame(r io.Reader) (f frame, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	n := binary.BigEndian.Uint32(head[:]) - (frameHead - 4)
	if n > mostOfPart {
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	f = frame{head[4], binary.BigEndian.Uint32(head[5:]), make([]byte, n)}
	_, err = io.ReadFull(r, f.payload)
	return f, err
}

func (f frame) bytes() []byte {
	p := binary.BigEndian.AppendUint32(nil, uint32(len(f.payload)+frameHead-4))
	p = binary.BigEndian.AppendUint32(append(p, f.kind), f.id)
	return append(p, f.payload...)
}

// A mode says what a machine does with one method's answers; 0 means all methods.
//
//	honest            what the agent says
//	spoil RATE        of so many frames in 1000 one thing is wrong
//	silent METHOD     no answer comes
//	slow METHOD       its bytes come one by one, ten a second
//	flood METHOD      pieces without an end come before it
//	huge METHOD       it has 5 MB more at its end
//	fail METHOD       instead an error comes, whose text has 5 MB
//	twice METHOD      it comes again and again
//	empty METHOD      it comes at once, and says nothing
//	names KIND        results are listed that there aren't, see Names
//
// Relay reads the mode anew from a file for each frame, so that a test changes it as it goes.
type relay struct {
	modeFile string
	rng      *rand.Rand
	out      io.Writer

	mu      sync.Mutex // guards what follows, and out
	methods map[uint32]byte
}

// Relay runs the real agent, program agent ARGS, and speaks for it. It returns when the agent has
// ended, or the host.
func Relay(program string, args []string, modeFile string, seed uint64) error {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r := &relay{
		modeFile: modeFile,
		rng:      rand.New(rand.NewPCG(seed, 1)),
		out:      os.Stdout,
		methods:  map[uint32]byte{},
	}
	go func() {
		_ = r.listen(in) // whatever ends it, the agent ends with its input
		in.Close()
	}()
	err = r.speak(bufio.NewReader(out))
	in.Close()
	_ = cmd.Wait() // how an agent ends says nothing here
	return err
}

// mode says what to do now with a method.
func (r *relay) mode(method byte) (what string, number int) {
	text, _ := os.ReadFile(r.modeFile) // without one it is honest
	words := append(strings.Fields(string(text)), "", "")
	number, _ = strconv.Atoi(words[1])
	if words[0] != "spoil" && words[0] != "names" && number != 0 && number != int(method) {
		return "honest", 0
	}
	return words[0], number
}

// listen hands on what the host says.
func (r *relay) listen(in io.Writer) error {
	host := bufio.NewReader(os.Stdin)
	for {
		f, err := readFrame(host)
		if err != nil {
			return err
		}
		if f.kind == kindCall && len(f.payload) > 0 {
			method := f.payload[0]
			r.mu.Lock()
			r.methods[f.id] = method
			r.mu.Unlock()
			switch what, _ := r.mode(method); what {
			case "flood":
				go r.flood(f.id)
			case "names":
				if method == manifestMethod {
					go r.names(f.id)
					continue
				}
			case "empty":
				r.write(frame{kindDone, f.id, nil}.bytes())
				continue
			}
		}
		if _, err := in.Write(f.bytes()); err != nil {
			return err
		}
	}
}

func (r *relay) write(p []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.out.Write(p)
	return err == nil
}

// flood sends pieces until nobody takes them.
func (r *relay) flood(id uint32) {
	piece := frame{kindPart, id, append([]byte{0}, bytes.Repeat([]byte("y"), 128<<10)...)}.bytes()
	for r.write(piece) {
		if what, _ := r.mode(0); what != "flood" {
			return
		}
	}
}

// speak hands on what the agent says, or something else.
func (r *relay) speak(agent *bufio.Reader) error {
	for { // what stands before the first frame
		b, err := agent.ReadByte()
		if err != nil {
			return err
		}
		r.write([]byte{b})
		if b == '\n' {
			break
		}
	}
	for {
		f, err := readFrame(agent)
		if err != nil {
			return err
		}
		r.mu.Lock()
		method := r.methods[f.id]
		if f.kind == kindDone || f.kind == kindFail {
			delete(r.methods, f.id)
		}
		r.mu.Unlock()
		if f.kind == kindHello {
			method = 0
		}
		if !r.say(f, method) {
			return io.ErrClosedPipe
		}
	}
}

// say sends a frame as the mode wants it; false: nobody takes it any more.
func (r *relay) say(f frame, method byte) bool {
	what, number := r.mode(method)
	if f.kind == kindHello && what != "spoil" {
		what = "honest"
	}
	switch what {
	case "silent":
		return true
	case "slow":
		for _, b := range f.bytes() {
			if now, _ := r.mode(method); now != "slow" {
				return false // half a frame is out: the connection is of no use any more
			}
			if !r.write([]byte{b}) {
				return false
			}
			time.Sleep(100 * time.Millisecond)
		}
		return true
	case "huge":
		f.payload = append(f.payload, make([]byte, mostOfPart-len(f.payload))...)
	case "fail":
		text := bytes.Repeat([]byte("e"), mostOfPart-16)
		f.kind, f.payload = kindFail, append(
			binary.AppendUvarint([]byte{0}, uint64(len(text))),
			text...)
	case "twice":
		for range 100 {
			r.write(f.bytes())
		}
	case "spoil":
		if r.rng.IntN(1000) < number {
			return r.write(Spoil(f.kind, f.id, method, f.payload, r.rng))
		}
	}
	return r.write(f.bytes())
}

// Spoil gives an agent's frame, of an answer to a call of the method, with one thing wrong; a
// greeting's method is 0.
func Spoil(kind byte, id uint32, method byte, payload []byte, rng *rand.Rand) []byte {
	f := frame{kind, id, payload}
	shape := shapes[method]
	switch f.kind {
	case kindPart:
		shape = parts[method]
	case kindHello:
		shape = helloShape
	case kindFail:
		shape = "ns"
	}
	if m, err := parse(f.payload, shape); err == nil && shape != "" && rng.IntN(4) > 0 {
		m.spoil(rng)
		f.payload = m.append(nil)
		if len(f.payload) <= mostOfPart {
			return f.bytes()
		}
		f.payload = f.payload[:mostOfPart]
	}
	p := f.bytes()
	switch rng.IntN(5) {
	case 0: // another kind
		p[4] = byte(rng.IntN(10))
	case 1: // of another call
		p[8] ^= 1
	case 2: // another length
		binary.BigEndian.PutUint32(p, uint32(numbers[rng.IntN(len(numbers))]))
	case 3: // any bit
		p[rng.IntN(len(p))] ^= 1 << rng.IntN(8)
	case 4: // cut short
		f.payload = f.payload[:len(f.payload)/2]
		p = f.bytes()
	}
	return p
}
