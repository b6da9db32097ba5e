package foreign

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"jobserver/tests/budget"
)

// hostile are texts that no terminal, document or log may get as they are.
var hostile = []string{
	"\x1b[31mred",
	"\x1b]0;title\a",
	"\x1b]52;c;aGk=\a",
	"\x1b[2J",
	"\x1b[6n",
	"\x1bPq\x1b\\",
	"\u009b31m",
	"\u009d0;t\u009c",
	"a\rb",
	"a\bb",
	"\x00",
	"\x7f",
	"\u202egnp.exe",
	"\u2066x\u2069",
	"\u200e",
	"\u200b",
	"\ufeff",
	"\u2028",
	"\u2029",
	"\xff\xfe",
	"\xed\xa0\x80",
	"\U000e0041",
	"\v\f",
}

func TestCleanAndOneLine(t *testing.T) {
	for _, text := range hostile {
		for name, got := range map[string]string{"Clean": Clean("x" + text),
			"OneLine": OneLine("x" + text)} {
			if name == "OneLine" {
				got = strings.ReplaceAll(got, "\uFFFD", "")
			}
			if strings.ContainsFunc(got, Unsafe) || !utf8.ValidString(got) ||
				!strings.HasPrefix(got, "x") {
				t.Errorf("%s: %q becomes %q", name, text, got)
			}
		}
	}
	for _, text := range []string{"plain", "né 日本 👨‍👩‍👧", "a\u200cb"} {
		if got := Clean(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	if got, want := Clean(
		"a\x1b[2J\n\x7f\u202e\xff\U000e0041",
	), `a␛[2J␊␡\u202e\xff\U000e0041`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJSON(t *testing.T) {
	for _, text := range hostile {
		before, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		after := JSON(before)
		var a, b string
		if json.Unmarshal(before, &a) != nil || json.Unmarshal(after, &b) != nil || a != b {
			t.Errorf("%s becomes %s", before, after)
		}
		if strings.ContainsFunc(strings.ReplaceAll(string(after), "\uFFFD", ""), Unsafe) {
			t.Errorf("%q is left in %q", text, after)
		}
	}
}

func TestTerminal(t *testing.T) {
	tests := []struct{ name, in, own, log string }{
		{"text", "a\tb\n日本\n", "a\tb\n日本\n", "a\tb\n日本\n"},
		{"a style of ours", "\x1b[4;31mx\x1b[0m", "\x1b[4;31mx\x1b[0m", "\x1b[4;31mx\x1b[0m"},
		{"a style of others", "\x1b[8mx", "␛[8mx", "\x1b[8mx"},
		{"a redrawn line", "\rbar\x1b[K", "\rbar\x1b[K", "\rbar\x1b[K"},
		{"a line written over", "a\rb", "a␍b", "a\rb"},
		{"a screen", "\x1b[Ha\x1b[J", "\x1b[Ha\x1b[J", "␛[Ha␛[J"},
		{"a title", "\x1b]0;x\a", "␛]0;x␇", "␛]0;x␇"},
		{"a question", "\x1b[6n", "␛[6n", "␛[6n"},
		{"a C1 control", "\u009b6n", `\u009b6n`, `\u009b6n`},
		{"a mark of direction", "\u202ex", `\u202ex`, `\u202ex`},
		{"no character", "\xffx", `\xffx`, `\xffx`},
		{"a sequence without an end", "\x1b[31", "␛[31", "␛[31"},
		{"half a character", "x\xe6\x97", `x\xe6\x97`, `x\xe6\x97`},
	}
	for _, test := range tests {
		for size := 1; size <= len(test.in); size++ { // however it is cut
			var own, log bytes.Buffer
			for _, x := range []struct {
				terminal *Terminal
				out      *bytes.Buffer
				want     string
			}{{NewTerminal(&own), &own, test.own}, {NewLogTerminal(&log), &log, test.log}} {
				if strings.Contains(test.in, "a\r") && size == 1 {
					continue // each return begins a write of ours
				}
				for rest := test.in; rest != ""; {
					n := min(size, len(rest))
					if _, err := x.terminal.Write([]byte(rest[:n])); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if err := x.terminal.Flush(); err != nil {
					t.Fatal(err)
				}
				if x.out.String() != x.want {
					t.Errorf("%s, cut after %d: %q, want %q", test.name, size, x.out, x.want)
				}
			}
		}
	}
}

// FuzzTerminal: nothing passes but what is listed, however it is cut.
func FuzzTerminal(f *testing.F) {
	for _, text := range hostile {
		f.Add([]byte(text), 1)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		defer budget.Hold(t, 1<<20+64*len(in))()
		var out bytes.Buffer
		term := NewTerminal(&out)
		if cut = min(max(cut, 0), len(in)); cut > 0 {
			_, _ = term.Write(in[:cut])
		}
		_, _ = term.Write(in[cut:])
		_ = term.Flush()
		rest := out.Bytes()
		for len(rest) > 0 {
			if found := ours().Find(rest); found != nil {
				rest = rest[len(found):]
				continue
			}
			r, size := utf8.DecodeRune(rest)
			if Unsafe(r) && r != '\n' && r != '\t' && r != '\r' {
				t.Fatalf("%q is in %q", r, out.Bytes())
			}
			rest = rest[size:]
		}
	})
}
