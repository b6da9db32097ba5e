package sched

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

func TestExpand(t *testing.T) {
	values := map[string]string{
		"NAME": "value", "A": "1", "lower": "x", "LOOP": "{NAME}", "EMPTY": "",
		"QUOTE": `it's "this"`, "JID": "7", "SECRET": "${JOBSERVER_SECRET}",
	}
	tests := []struct {
		template, want string
		names          []string
	}{
		{"", "", nil},
		{"plain", "plain", nil},
		{"{NAME}", "value", []string{"NAME"}},
		{"{A}{A}-{NAME}", "11-value", []string{"A", "NAME"}},
		{"a {lower} b", "a x b", []string{"lower"}},
		{"{OTHER}", "{OTHER}", []string{"OTHER"}},
		{"${HOME}", "${HOME}", nil},
		{"${NAME}", "${NAME}", nil},
		{"$${NAME}", "$${NAME}", nil},
		{"$ {NAME}", "$ value", []string{"NAME"}},
		{"awk '{print}'", "awk '{print}'", []string{"print"}},
		{"awk '{print $1}'", "awk '{print $1}'", nil},
		{"{{.ID}}", "{{.ID}}", nil},
		{"{{NAME}}", "{NAME}", nil},
		{"{{JID}} is {JID}", "{JID} is 7", []string{"JID"}},
		// only upper case has a spelling for the text itself
		{"{{lower}}", "{x}", []string{"lower"}},
		{"{{NAME}", "{value", []string{"NAME"}},
		{"{NAME}}", "value}", []string{"NAME"}},
		{"{{{NAME}}}", "{{NAME}}", nil},
		{"{}", "{}", nil},
		{"{1A}", "{1A}", nil},
		{"{A B}", "{A B}", nil},
		{"{NAME", "{NAME", nil},
		{"{LOOP}", "{NAME}", []string{"LOOP"}}, // in one pass
		{"{EMPTY}x", "x", []string{"EMPTY"}},
		{"{QUOTE}", `it's "this"`, []string{"QUOTE"}},
		{"echo {SECRET}", "echo ${JOBSERVER_SECRET}", []string{"SECRET"}},
		{"find -exec ls {} +", "find -exec ls {} +", nil},
		{"{a,b}{1..3}", "{a,b}{1..3}", nil},
		{`{"NAME": {A}}`, `{"NAME": 1}`, []string{"A"}},
		{"é{NAME}é", "évalueé", []string{"NAME"}},
	}
	for _, test := range tests {
		got, _ := Expand(test.template, 100, func(name string) (string, bool) {
			v, ok := values[name]
			return v, ok
		})
		if got != test.want {
			t.Errorf("Expand(%q) = %q, want %q", test.template, got, test.want)
		}
		if diff := cmp.Diff(test.names, Names(test.template)); diff != "" {
			t.Errorf("Names(%q): (-want +got)\n%s", test.template, diff)
		}
	}
}

func TestSingleQuoted(t *testing.T) {
	for template, want := range map[string]bool{
		`echo {S}`: false, `echo "{S}"`: false, `echo '{S}'`: true, `echo 'a' {S} 'b'`: false,
		`echo "it's {S}"`: false,
		`echo \'{S}`:      false, `echo '\'{S}`: false, `echo "\"" '{S}'`: true,
		`echo '{T}' {S}`: false,
		`echo '"'"{S}"`:  false,
	} {
		if got := singleQuoted(template, "S"); got != want {
			t.Errorf("%s: %t", template, got)
		}
	}
}

func TestSplitWords(t *testing.T) {
	tests := []struct {
		line string
		want []string // nil: refused
	}{
		{"", []string{}},
		{"  \t\n ", []string{}},
		{"a b  c", []string{"a", "b", "c"}},
		{"'a b' \"c d\"", []string{"a b", "c d"}},
		{`a\ b`, []string{"a b"}},
		{`''`, []string{""}},
		{`"" x`, []string{"", "x"}},
		{`a'b'"c"d`, []string{"abcd"}},
		{`'\n'`, []string{`\n`}},
		{`"\n\"\\\$\` + "`" + `"`, []string{`\n"\$` + "`"}},
		{"a\\\nb", []string{"ab"}},
		{"\\\n", []string{}},
		{"$HOME ~ *.c `x` | > &", []string{"$HOME", "~", "*.c", "`x`", "|", ">", "&"}},
		{"# no comment", []string{"#", "no", "comment"}},
		{"é 'ü'", []string{"é", "ü"}},
		{"'open", nil},
		{`"open`, nil},
		{`"open\"`, nil},
		{`lone\`, nil},
	}
	for _, test := range tests {
		got, err := SplitWords(test.line)
		if (err != nil) != (test.want == nil) {
			t.Errorf("SplitWords(%q): %v", test.line, err)
		} else if err == nil && !cmp.Equal(append([]string{}, got...), test.want) {
			t.Errorf("SplitWords(%q) = %q, want %q", test.line, got, test.want)
		}
	}
}

// FuzzExpand: what has no known name in it stays as it is, but
// for {{NAME}}; and a value is never looked at again.
func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"", "{A}", "{{A}}", "${A}", "{{{A}}}", "{A}{{B}}", "{print}",
		"{{.ID}}", "\xff{A"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, template string) {
		defer budget.Hold(t, 1<<20+64*len(template))()
		if got, whole := Expand(template, len(template),
			func(string) (string, bool) {
				return "", false
			}); !whole || !strings.Contains(template, "{{") && got != template {
			t.Errorf("%q became %q", template, got)
		}
		calls := 0
		size := expandedLen(template, func(string) (int, bool) { return len("{A}{B}"), true })
		got, whole := Expand(template, size, func(name string) (string, bool) {
			if calls++; !nameRE().MatchString(name) {
				t.Errorf("%q asks for %q", template, name)
			}
			return "{A}{B}", true
		})
		if calls > strings.Count(template, "{") {
			t.Errorf("%q asks %d times", template, calls)
		}
		if !whole || len(got) != size {
			t.Errorf("%q becomes %d bytes, and was to have %d", template, len(got), size)
		}
		if size == 0 {
			return
		}
		if cut, whole := Expand(template, size-1,
			func(string) (string, bool) { return "{A}{B}", true }); whole || cut != got[:size-1] {
			t.Errorf("%q becomes %q within a byte less", template, cut)
		}
	})
}

// FuzzSplitWords: words put into quotes come back as they were.
func FuzzSplitWords(f *testing.F) {
	for _, seed := range []string{"", "a b", `it's`, `"`, `\`, "a\nb", "$x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer budget.Hold(t, 1<<20+64*len(s))()
		if words, err := SplitWords(s); err == nil && len(strings.Join(words, "")) > len(s) {
			t.Errorf("%q became longer: %q", s, words)
		}
		quoted := "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		if words, err := SplitWords("x " + quoted); err != nil || len(words) != 2 || words[1] != s {
			t.Errorf("%q: %q, %v", quoted, words, err)
		}
	})
}
