package ssh

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/iotest"
)

// noise is n bytes, the same each time.
func noise(n int) []byte {
	p := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// TestPump: whatever the sizes of reads on either side, all arrives, then the source's error.
func TestPump(t *testing.T) {
	want := noise(3*maxPiece + 1)
	broken := errors.New("broken")
	for name, src := range map[string]io.Reader{
		"as much as is asked for": io.MultiReader(bytes.NewReader(want), iotest.ErrReader(broken)),
		"half of it": io.MultiReader(iotest.HalfReader(bytes.NewReader(want)),
			iotest.ErrReader(broken)),
		"the end with the last": &lastWith{want, broken},
	} {
		p := newPump()
		go p.run(src)
		got, err := io.ReadAll(iotest.HalfReader(p))
		if !bytes.Equal(got, want) || err != broken {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
		if _, err := p.Read(make([]byte, 1)); err != broken {
			t.Errorf("%s: after the end: %v", name, err)
		}
		<-p.ended
	}
}

// lastWith gives all it has, and its error with the last of it.
type lastWith struct {
	left []byte
	err  error
}

func (l *lastWith) Read(p []byte) (int, error) {
	n := copy(p, l.left)
	if l.left = l.left[n:]; len(l.left) == 0 {
		return n, l.err
	}
	return n, nil
}

// TestPumpStopped: a Read ends although the source blocks, and the pump when the source lets it go.
func TestPumpStopped(t *testing.T) {
	src, in := io.Pipe()
	p := newPump()
	go p.run(src)
	stopped := errors.New("stopped")
	done := make(chan error)
	go func() {
		_, err := p.Read(make([]byte, 1))
		done <- err
	}()
	p.stop(stopped)
	p.stop(errors.New("again"))
	if err := <-done; err != stopped {
		t.Errorf("a Read that waits: %v", err)
	}
	if _, err := p.Read(make([]byte, 1)); err != stopped {
		t.Errorf("the next Read: %v", err)
	}
	in.Close()
	<-p.ended
}

// TestReadAhead: what comes together with an error is not lost, and not told twice.
func TestReadAhead(t *testing.T) {
	want := noise(2*maxPiece + 5)
	broken := errors.New("broken")
	w := &watchedConn{Conn: sourceConn{src: &lastWith{slices.Clone(want), broken}}}
	w.established()
	got, err := io.ReadAll(iotest.OneByteReader(w))
	if !bytes.Equal(got, want) || err != broken {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

type sourceConn struct {
	net.Conn
	src io.Reader
}

func (c sourceConn) Read(p []byte) (int, error) { return c.src.Read(p) }
