package agent

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// TestOutput: pieces of what a run has written come by themselves, in any order, as far as they are
// there; a poll that may bring only so much says how much there is.
func TestOutput(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	exe, err := os.Executable()
	must(t, err)
	const size = 3_000_000
	s := m.command("%s helper bytes %d", exe, size)
	start(t, c, s)
	want := follow(t, c, s.Run).out
	for _, tt := range []struct {
		name       string
		stream     Stream
		off, until int64
		want       []byte
		size       int64
	}{
		{"the middle", Stdout, 1_000_001, 2_000_003, want[1_000_001:2_000_003], size},
		{"the beginning", Stdout, 0, 10, want[:10], size},
		{"over the end", Stdout, size - 5, size + 5, want[size-5:], size},
		{"behind the end", Stdout, size + 1, size + 5, nil, size},
		{"nothing", Stdout, 7, 7, nil, size},
		{"of a stream without any", Stderr, 0, 5, nil, 0},
	} {
		var got bytes.Buffer
		n, err := c.Output(t.Context(), OutputRequest{s.Run, tt.stream, tt.off, tt.until},
			func(p []byte) error {
				got.Write(p)
				return nil
			})
		if err != nil || n != tt.size || !bytes.Equal(got.Bytes(), tt.want) {
			t.Errorf("%s: %d bytes came of %d, the stream has %d: %v", tt.name, got.Len(),
				len(tt.want), n, err)
		}
	}
	for _, wrong := range []OutputRequest{
		{s.Run, Stdout, -1, 5}, {s.Run, Stdout, 5, 4}, {s.Run, streams, 0, 5}, {},
	} {
		if _, err := c.Output(t.Context(), wrong, nil); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	var came int64
	reply, err := c.Poll(t.Context(), PollRequest{Run: s.Run, Most: 1 << 20},
		func(_ Stream, p []byte) error {
			came += int64(len(p))
			return nil
		})
	if err != nil || came != 1<<20 || reply.Sizes[Stdout] != size || reply.Exit != nil {
		t.Errorf("%d bytes came with a poll, %+v: %v", came, reply, err)
	}
}
