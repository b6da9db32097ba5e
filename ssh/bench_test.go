package ssh

import (
	"io"
	"testing"

	"jobserver/ssh/sshtest"
)

func BenchmarkExec(b *testing.B) {
	m := sshtest.Start(b)
	c, err := dialer(m).Dial(b.Context(), m.Name)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		s, err := c.Exec(b.Context(), "true")
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDial(b *testing.B) {
	m := sshtest.Start(b)
	d := dialer(m)
	for b.Loop() {
		c, err := d.Dial(b.Context(), m.Name)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkRead takes bytes from a machine, as copying results does.
func BenchmarkRead(b *testing.B) {
	m := sshtest.Start(b)
	c, err := dialer(m).Dial(b.Context(), m.Name)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const size = 64 << 20
	b.SetBytes(size)
	for b.Loop() {
		s, err := c.Exec(b.Context(), "exec dd if=/dev/zero bs=256k count=256 2>/dev/null")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, s); n != size || err != nil {
			b.Fatalf("%d bytes, %v", n, err)
		}
		if err := s.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRoundTrip sends a short message to a command and back.
func BenchmarkRoundTrip(b *testing.B) {
	m := sshtest.Start(b)
	c, err := dialer(m).Dial(b.Context(), m.Name)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s, err := c.Exec(b.Context(), "exec cat")
	if err != nil {
		b.Fatal(err)
	}
	msg := make([]byte, 64)
	for b.Loop() {
		if _, err := s.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(s, msg); err != nil {
			b.Fatal(err)
		}
	}
}
