package agent

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

func TestMarks(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxMarkLine-len("RESULTS: "))
	for name, tt := range map[string]struct {
		in, want string
		dropped  int64
		room     int
	}{
		"none": {in: "a\nb\nRESULT: x\nresults: x\nMETRICS: a=1\n"},
		"both": {
			in:   "a\nRESULTS: /a b/c\nMETRIC: loss=1\nb\n",
			want: "RESULTS: /a b/c\nMETRIC: loss=1\n",
		},
		"no newline": {in: "RESULTS: end", want: "RESULTS: end\n"},
		// A path that is missing is said; a metric that says nothing isn't worth a word.
		"nothing behind it": {in: "RESULTS: \nMETRIC:\nRESULTS:", want: "RESULTS: \nRESULTS: \n"},
		"no blank":          {in: "RESULTS:x\nMETRIC:a=1\n", want: "RESULTS: x\nMETRIC: a=1\n"},
		"blanks": {
			in:   "  RESULTS: \t a b \t\n\tMETRIC:  a=1  \n",
			want: "RESULTS: a b\nMETRIC: a=1\n",
		},
		"CRLF": {
			in:   "RESULTS: a\r\nMETRIC: b=1\r\r\n",
			want: "RESULTS: a\nMETRIC: b=1\n",
		},
		"a progress bar": {
			in:   "50%\r100%\rRESULTS: a\n 1/2\r 2/2\rMETRIC: b=1\rRESULTS: c",
			want: "RESULTS: a\nMETRIC: b=1\nRESULTS: c\n",
		},
		"colours": {
			in: "\x1b[1;32mRESULTS: \x1b[0ma\x1b[K\n\x1b[2K\x1b[1GMETRIC: " +
				"b=1\x1b[m\r\n\x1b(B\x1b]0;title\aRESULTS: c\n",
			want: "RESULTS: a\nMETRIC: b=1\nRESULTS: c\n",
		},
		"a cleared line": {in: "12%\r\x1b[KRESULTS: a\n", want: "RESULTS: a\n"},
		"a bar that is drawn again": {
			in: "50%\x1b[1G\x1b[2K100%\x1b[0GRESULTS: a\n1/2\x1b[GMETRIC: b=1\n" +
				"bar\x1b[1FRESULTS: c\n\x1b[2;40Hx\x1b[3HRESULTS: d\nx\x1b[5GRESULTS: no\n",
			want: "RESULTS: a\nMETRIC: b=1\nRESULTS: c\nRESULTS: d\n",
		},
		"a spinner": {
			in: "-\b\\\b|\bRESULTS: a\n\u280b\b\u2819\bMETRIC: b=1\n" +
				"\b\bRESULTS: caf\xe8\b\xe9\n12%\b\b\b   \b\b\bRESULTS: d\n..\bRESULTS: no\n",
			want: "RESULTS: a\nMETRIC: b=1\nRESULTS: caf\xe9\nRESULTS: d\n",
		},
		"half a colour": {
			in:   "RESULTS: a\x1b\nRESULTS: b\x1b[3\nMETRIC: c=1\x1b]0;x\n",
			want: "RESULTS: a\nRESULTS: b\nMETRIC: c=1\n",
		},
		"a byte order mark": {in: "\ufeffRESULTS: a\n", want: "RESULTS: a\n"},
		"bytes": {
			in:   "\x00\n\xffRESULTS: no\nRESULTS: caf\xe9\x00\x9b\n",
			want: "RESULTS: caf\xe9\x00\x9b\n",
		},
		"longest": {in: "RESULTS: " + long + "\n", want: "RESULTS: " + long + "\n"},
		"too long": {
			in:      "RESULTS: " + long + "x\nRESULTS: next\n",
			want:    "RESULTS: next\n",
			dropped: 1,
		},
		"much too long": {
			in:      "METRIC: " + strings.Repeat(long, 5) + "\nMETRIC: next\n",
			want:    "METRIC: next\n",
			dropped: 1,
		},
		"too many": {
			in:      strings.Repeat("RESULTS: "+long+"\n", 256),
			want:    strings.Repeat("RESULTS: "+long+"\n", 255),
			dropped: 1,
		},
		"no room":        {in: "RESULTS: a\nRESULTS: b\n", want: "RES", dropped: 2, room: 3},
		"empty lines":    {in: "\n\r\n\nRESULTS: a\n\n\r", want: "RESULTS: a\n"},
		"in the middle":  {in: "x RESULTS: a\nxMETRIC: b\n"},
		"prefix, no end": {in: "RESULTS", want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 3, 7, 4096, 1 << 20} {
				if size < 4096 && len(tt.in) > 1<<20 {
					continue
				}
				file := &memory{room: tt.room}
				if tt.room == 0 {
					file.room = 1 << 30
				}
				m := newMarks(file)
				for p := range slices.Chunk([]byte(tt.in), size) {
					m.scan(p)
				}
				m.end()
				if file.String() != tt.want || m.dropped != tt.dropped ||
					m.err == nil && m.written != int64(len(tt.want)) {
					t.Errorf(
						"pieces of %d: %.100q, %d dropped, %d written",
						size,
						file.String(),
						m.dropped,
						m.written,
					)
				}
			}
		})
	}
}

// A line that was meant as a RESULTS line, as what it names is there, is remembered.
func TestOverlooked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "o"), "1")
	write(t, filepath.Join(dir, "a b"), "1")
	write(t, filepath.Join(dir, "d/x"), "1")
	for line, want := range map[string]bool{
		"RESULTS: o":                            false, // it is one
		"INFO RESULTS: o":                       true,
		"[12:00] RESULTS: " + dir + "/a b":      true,
		"+ RESULTS: 'a b'.":                     true,
		"RESULT: o":                             true,
		"Results: o (3 files)":                  true,
		"results=" + dir:                        true,
		"RESULTS = o":                           true,
		"\x1b[1mInfo:\x1b[m RESULTS: o\x1b[m\r": true,
		"INFO RESULTS: nowhere":                 false,
		"Results: 0.93":                         false,
		"Results:":                              false,
		"the results: o":                        false,
		"RESULTS o":                             false,
		"RESULTS: o\nResults: o":                false, // said twice
		"Results: d/x\nRESULTS: " + dir + "/d":  false, // it is in what was taken
		"Results: a b\nRESULTS: o":              true,
	} {
		for _, size := range []int{1, 1 << 20} {
			m := newMarks(&memory{room: 1 << 20})
			for p := range slices.Chunk([]byte("before\n"+line+"\nafter"), size) {
				m.scan(p)
			}
			m.end()
			if got := m.overlooked(dir); (got != "") != want {
				t.Errorf("%q: overlooked %q", line, got)
			}
		}
	}
	m := newMarks(&memory{room: 1 << 20})
	for range 100 {
		m.scan([]byte("INFO RESULTS: nowhere" + strings.Repeat(" ", 10000) + "\n"))
	}
	if len(m.suspects) > maxSuspects {
		t.Errorf("%d lines are kept", len(m.suspects))
	}
}

// unmarked are pieces of output without marks, as commands print them, 64 KiB each.
func unmarked() map[string][]byte {
	noise := make([]byte, 64<<10)
	rand.NewChaCha8([32]byte{}).Read(noise) // it never fails
	return map[string][]byte{
		"text":             lines("epoch 3: loss=0.25, accuracy: 0.81, learning rate 1e-3\n"),
		"a binary file":    noise,
		"bars":             lines("\r 37%|\u2588   | 370/1000 [00:01<00:02, 233.33it/s, loss=5]"),
		"coloured lines":   lines("\x1b[32mINFO\x1b[0m resulting metrics: \x1b[1mloss\x1b[m=1\n"),
		"spinners":         lines("fetching the most recent results: |\b/\b-\b\\\b\u2819\b\n"),
		"one endless line": bytes.Repeat([]byte("x:="), 64<<10/3),
	}
}

func lines(line string) []byte { return bytes.Repeat([]byte(line), 64<<10/len(line)) }

// TestUnmarkedOutput: looking for marks in output that has none takes no memory for each line. A
// run's supervisor had a core to do with the lines of a binary file, at 25 MB/s.
func TestUnmarkedOutput(t *testing.T) {
	for name, piece := range unmarked() {
		m := newMarks(&memory{room: 1 << 20})
		m.scan(piece)
		if n := testing.AllocsPerRun(20, func() { m.scan(piece) }); n > 0 {
			t.Errorf("%s: %.0f allocations in 64 KiB", name, n)
		}
	}
}

func BenchmarkMarks(b *testing.B) {
	for name, piece := range unmarked() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(piece)))
			m := newMarks(&memory{room: 1 << 20})
			for b.Loop() {
				m.scan(piece)
			}
		})
	}
}

func FuzzMarks(f *testing.F) {
	f.Add([]byte("a\nRESULTS: b\nMETRIC: c\n"), 3)
	f.Add([]byte("50%\r\x1b[KRESULTS: caf\xe9\r\n INFO RESULTS=x"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		defer budget.Hold(t, 1<<20+64*len(in))()
		size = max(1, size)
		var want []Mark
		var s screen
		for _, line := range bytes.FieldsFunc(in, func(r rune) bool {
			return r == '\n' ||
				r == '\r'
		}) {
			if m, ok := parseMark(s.seen(line)); ok {
				want = append(want, m)
			}
		}
		file := &memory{room: 1 << 30}
		m := newMarks(file)
		for p := range slices.Chunk(in, size) {
			m.scan(p)
		}
		m.end()
		got, used := parseMarks(file.Bytes())
		if diff := cmp.Diff(want, got); len(in) < MaxMarkLine && (diff != "" || used != m.written) {
			t.Error(diff)
		}
		m.overlooked(os.TempDir())
	})
}
