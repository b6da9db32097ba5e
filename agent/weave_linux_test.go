package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// came says when bytes of a stream came.
type came struct {
	stream Stream
	bytes  int64
	at     time.Duration
}

func TestWeave(t *testing.T) {
	for _, c := range []struct {
		name string
		came []came
		want []uint64
	}{
		{"nothing", nil, nil},
		{"one stream", []came{{Stdout, 3, 0}, {Stdout, 4, 1}}, nil},
		{"the other", []came{{Stderr, 3, 0}, {Stderr, 4, 1}}, nil},
		{"in turn", []came{{Stdout, 3, 0}, {Stdout, 1, 1}, {Stderr, 5, 2}, {Stdout, 6, 3}},
			[]uint64{4, 5}},
		{"stderr first", []came{{Stderr, 3, 0}, {Stdout, 5, 1}, {Stderr, 1, 2}},
			[]uint64{0, 3, 5}},
		{"no bytes", []came{{Stdout, 3, 0}, {Stderr, 0, 1}, {Stdout, 2, 1}, {Stderr, 1, 2}},
			[]uint64{5}},
	} {
		file := &memory{room: 1 << 20}
		w := weave{create: func() (io.WriteCloser, error) { return file, nil }}
		for _, one := range c.came {
			w.came(one.stream, one.bytes, one.at)
		}
		w.note()
		if diff := cmp.Diff(c.want, lengths(file.Bytes())); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func lengths(p []byte) (all []uint64) {
	for len(p) > 0 {
		n, used := binary.Uvarint(p)
		all, p = append(all, n), p[used:]
	}
	return all
}

// A command that changes from stream to stream without an end is noted ever more seldom, and the
// file has an end.
func TestWeaveIsBounded(t *testing.T) {
	file := &memory{room: 2 * maxWeave}
	w := weave{create: func() (io.WriteCloser, error) { return file, nil }}
	sizes := []int{}
	for at := time.Duration(0); at < 240*time.Hour && !w.ended; at += 30 * time.Millisecond {
		if w.due.passed(at) {
			w.note()
		}
		w.came(Stdout, 100, at)
		w.came(Stderr, 100, at)
		if at%(time.Hour) == 0 {
			sizes = append(sizes, file.Len())
		}
	}
	if n := file.Len(); w.ended || n < 2*maxWeave/4 || n >= maxWeave {
		t.Errorf("after ten days the file has %d bytes, ended %v: %v", n, w.ended, sizes)
	}
	var both [2]uint64
	for i, n := range lengths(file.Bytes()) {
		both[i%2] += n
	}
	const atOnce = 100 * (20*time.Second/(30*time.Millisecond) + 1) // bytes
	if d := int64(both[0] - both[1]); d < 0 || d > int64(atOnce) {
		t.Errorf("the lengths add up to %v", both)
	}
	for !w.ended { // at the bound
		w.came(Stdout, 1<<40, 0)
		w.came(Stderr, 1<<40, 0)
		w.note()
	}
	if file.Len() > maxWeave {
		t.Errorf("%d bytes", file.Len())
	}
}

// A full disk loses the rest of the order, and nothing is put behind half a number.
func TestWeaveOnAFullDisk(t *testing.T) {
	file := &memory{room: 3}
	w := weave{create: func() (io.WriteCloser, error) { return file, nil }}
	for range 10 {
		w.came(Stdout, 300, 0)
		w.came(Stderr, 300, 0)
		file.room += 2
	}
	if !w.ended || file.Len() != 3+2 && file.Len() != 3 {
		t.Errorf("ended %v, %d bytes", w.ended, file.Len())
	}
	w = weave{create: func() (io.WriteCloser, error) { return nil, errors.New("no file") }}
	w.came(Stderr, 1, 0)
	if w.ended {
		t.Error("a file for one stream")
	}
	if w.came(Stdout, 1, 0); !w.ended {
		t.Error("it goes on without a file")
	}
}

// An order comes with the output, whole before the run's end is said, and only to who asks.
func TestPollBringsTheOrder(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	gate := filepath.Join(m.login, "gate")
	must(t, unix.Mkfifo(gate, 0o600))
	s := m.command("echo a; read x <gate; echo b >&2; read x <gate; echo c")
	start(t, c, s)
	var order bytes.Buffer
	var got [streams]bytes.Buffer
	take := func(s Stream, p []byte) error {
		if s == Weave {
			order.Write(p)
		} else {
			got[s].Write(p)
		}
		return nil
	}
	next := func() PollReply {
		r := PollRequest{Run: s.Run, OutOff: int64(got[0].Len()), ErrOff: int64(got[1].Len()),
			Weave: true, WeaveOff: int64(order.Len()), Wait: time.Minute}
		reply, err := c.Poll(t.Context(), r, take)
		must(t, err)
		return reply
	}
	for got[0].Len() == 0 {
		next()
	}
	must(t, os.WriteFile(gate, []byte("\n"), 0)) // waits for the reader
	for got[1].Len() == 0 {
		next()
	}
	must(t, os.WriteFile(gate, []byte("\n"), 0))
	for next().Exit == nil {
	}
	if diff := cmp.Diff([]uint64{2, 2}, lengths(order.Bytes())); diff != "" {
		t.Error(diff)
	}
	reply, err := c.Poll(t.Context(), PollRequest{Run: s.Run, OutOff: 4, ErrOff: 2}, take)
	if must(t, err); reply.Exit == nil || order.Len() != 2 {
		t.Errorf("who doesn't ask gets %d bytes of it", order.Len())
	}
}
