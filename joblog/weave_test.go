package joblog

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// list is the form of an order: bytes of stdout, of stderr, and so on in turn.
func list(lengths ...uint64) (p []byte) {
	for _, n := range lengths {
		p = binary.AppendUvarint(p, n)
	}
	return p
}

// shown passes lines on as `o:…` and `e:…`.
func shown(to *strings.Builder) func(bool, []byte) error {
	return func(stderr bool, line []byte) error {
		fmt.Fprintf(to, "%c:%s|", "oe"[index(stderr)], strings.TrimSuffix(string(line), "\n"))
		return nil
	}
}

func TestWeave(t *testing.T) {
	for _, c := range []struct {
		name     string
		out, err string
		list     []byte
		want     string
		left     int // bytes without a known order
		misfit   bool
	}{
		{"nothing", "", "", nil, "", 0, false},
		{"one stream", "a\nb\n", "", nil, "o:a|o:b|", 0, false},
		{"the other", "", "a\nb\n", nil, "e:a|e:b|", 0, false},
		{"in turn", "a\nc\n", "b\nd\n", list(2, 2, 2), "o:a|e:b|o:c|e:d|", 0, false},
		{"stderr first", "b\n", "a\n", list(0, 2), "e:a|o:b|", 0, false},
		{"with the last length", "a\n", "b\n", list(2, 2), "o:a|e:b|", 0, false},
		{"no order", "a\nc\n", "b\n", nil, "o:a|o:c|e:b|", 6, false},
		{"of the beginning only", "a\nc\ne\n", "b\nd\n", list(2, 2), "o:a|e:b|o:c|o:e|e:d|", 6,
			false},
		{"half a length", "a\nc\n", "b\nd\n", append(list(2), 0x80), "o:a|o:c|e:b|e:d|", 6, false},
		{"a line in two pieces", "one\n", "two\n", list(2, 4, 2), "e:two|o:one|", 0, false},
		{"last lines without ends", "a", "b", list(0, 1), "o:a|e:b|", 0, false},
		{"more than there is", "a\nc\n", "b\n", list(2, 200, 2), "o:a|e:b|o:c|", 0, true},
		{"a number too large", "a\n", "b\n", list(1<<63, 2), "o:a|e:b|", 4, false},
		{"no number", "a\n", "b\n", []byte(strings.Repeat("\xff", 20)), "o:a|e:b|", 4, false},
		{"empty turns", "a\n", "b\n", list(0, 0, 0, 2, 2), "e:b|o:a|", 0, false},
		{"a long line", strings.Repeat("x", lineMost+1) + "\n", "b\n", list(10, 2), "e:b|o:" +
			strings.Repeat("x", lineMost+1) + "|", 0, false},
	} {
		var got strings.Builder
		w := Weave{Line: shown(&got)}
		w.Order(c.list)
		w.Text(false, []byte(c.out))
		w.Text(true, []byte(c.err))
		w.End()
		if err := w.Go(); err != nil {
			t.Fatal(err)
		}
		left := w.Left()
		if w.Hurry() != nil || w.Open() != nil {
			t.Fatal("the lines are taken")
		}
		if got.String() != c.want || left != c.left || w.Misfit() != c.misfit {
			t.Errorf("%s: %.80q, %d bytes without order, misfit %v", c.name, got.String(), left,
				w.Misfit())
		}
	}
}

// Whatever comes first, in whatever pieces, the lines are all there, each stream's in its order;
// and where the order is there before its bytes, they come in that order.
func TestWeaveLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var order []byte
		var text [2]string
		var want, got strings.Builder
		current, length := 0, 0
		for i := range rapid.IntRange(0, 40).Draw(t, "lines") {
			s := rapid.IntRange(0, 1).Draw(t, "stream")
			if s != current {
				order, current, length = binary.AppendUvarint(order, uint64(length)), s, 0
			}
			line := fmt.Sprintf("%d\n", i)
			length += len(line)
			text[s] += line
			_ = shown(&want)(s == 1, []byte(line))
		}
		early := rapid.Bool().Draw(t, "order first")
		if rapid.IntRange(0, 3).Draw(t, "damage") == 0 {
			order, early = rapid.SliceOf(rapid.Byte()).Draw(t, "garbage"), false
		}
		w := Weave{Line: shown(&got)}
		if early {
			w.Order(order)
			order = nil
		}
		rest := text
		for rest[0] != "" || rest[1] != "" || len(order) > 0 {
			for s := range rest {
				n := rapid.IntRange(0, len(rest[s])).Draw(t, "piece")
				w.Text(s == 1, []byte(rest[s][:n]))
				rest[s] = rest[s][n:]
			}
			n := rapid.IntRange(0, len(order)).Draw(t, "of the order")
			w.Order(order[:n])
			order = order[n:]
			if w.Go() != nil || !early && rapid.Bool().Draw(t, "hurry") && w.Hurry() != nil {
				t.Fatal("the lines are taken")
			}
		}
		w.End()
		if w.Go() != nil || w.Hurry() != nil || w.Open() != nil {
			t.Fatal("the lines are taken")
		}
		if early && got.String() != want.String() {
			t.Fatalf("%q, and it came as %q", got.String(), want.String())
		}
		var had [2]string
		for part := range strings.SplitSeq(strings.TrimSuffix(got.String(), "|"), "|") {
			if part != "" {
				had[strings.IndexByte("oe", part[0])] += part[2:] + "\n"
			}
		}
		if had != text {
			t.Fatalf("%q instead of %q", had, text)
		}
	})
}
