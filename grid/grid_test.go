package grid

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"jobserver/tests/budget"
)

// shop is a small file system.
var shop = Files{
	Read: func(name string) ([]byte, error) {
		switch name {
		case "names.txt":
			return []byte("# fruit\napple\n\n  pear, ripe  \r\n"), nil
		case "empty.txt":
			return []byte("\n#\n"), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	},
	Glob: func(pattern string) ([]string, error) {
		if pattern == "data/*.csv" {
			return []string{"data/a.csv", "data/b.csv"}, nil
		}
		return nil, nil
	},
}

func TestValues(t *testing.T) {
	for list, want := range map[string][]string{
		"a,b":                 {"a", "b"},
		"":                    {""},
		"a,,b":                {"a", "", "b"},
		`a\,b,c`:              {"a,b", "c"},
		`"a,b",c`:             {"a,b", "c"},
		`'it is, said',x`:     {"it is, said", "x"},
		`it's`:                {"it's"},
		`"a"b`:                {`"a"b`},
		`"`:                   {`"`},
		`\"a\"`:               {`"a"`},
		`a\\b`:                {`a\b`},
		`\n`:                  {`\n`},
		"1..4":                {"1", "2", "3", "4"},
		"4..1":                {"4", "3", "2", "1"},
		"3..3":                {"3"},
		"1..8+3":              {"1", "4", "7"},
		"8..1+-3":             {"8", "5", "2"},
		"1..64*2":             {"1", "2", "4", "8", "16", "32", "64"},
		"64..1*0.5":           {"64", "32", "16", "8", "4", "2", "1"},
		"0.1..0.5/5":          {"0.1", "0.2", "0.3", "0.4", "0.5"},
		"0..1/4":              {"0", "0.3333333333", "0.6666666667", "1"},
		"0.1..0.4+0.1":        {"0.1", "0.2", "0.3", "0.4"},
		"1e2..1e4*10":         {"100", "1000", "10000"},
		"-2..2+2":             {"-2", "0", "2"},
		"0.5..2.5":            {"0.5", "1.5", "2.5"},
		"1e-3..1e-1*10":       {"0.001", "0.01", "0.1"},
		"08..11":              {"08", "09", "10", "11"},
		"1..3,10,x,7..8":      {"1", "2", "3", "10", "x", "7", "8"},
		`"1..3"`:              {"1..3"},
		"v1..v2":              {"v1..v2"},
		"1..x":                {"1..x"},
		"@names.txt":          {"apple", "pear, ripe"},
		"@data/*.csv":         {"data/a.csv", "data/b.csv"},
		`\@names.txt`:         {"@names.txt"},
		`"@names.txt",x`:      {"@names.txt", "x"},
		"1000000000000..1e12": {"1000000000000"},

		`"{\"a\": 1, \"b\": 2}",x`: {`{"a": 1, "b": 2}`, "x"},
		`"a\\b,c",d`:               {`a\b,c`, "d"},
		`'a\b,c',d`:                {`a\b,c`, "d"},
		`{"a": 1, "b": 2},x`:       {`{"a": 1, "b": 2}`, "x"},
		`x,[1, [2, 3]]`:            {"x", "[1, [2, 3]]"},
		`{"a": "}, {"}`:            {`{"a": "}, {"}`},
		"{A},{B}":                  {"{A}", "{B}"},
		"[a,b]":                    {"[a", "b]"},
		`"5`:                       {`"5`},
	} {
		axis, err := ParseAxis("K="+list, shop)
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		if diff := cmp.Diff(want, axis.Values); diff != "" {
			t.Errorf("%s (-want +got):\n%s", list, diff)
		}
	}
}

func TestBadValues(t *testing.T) {
	for word, want := range map[string]string{
		"K":         `"K" is not of the form KEY=V1,V2,…`,
		"=a":        `"=a" is not of the form KEY=V1,V2,…`,
		"1K=a":      `"1K" can't be a variable's name`,
		"K=1..":     "K: the range 1.. never ends",
		"K=5..1..2": "K: 5..1..2 is no range",
		"K=@":       "K: @ is without the name of a file",
		"K=a,@,b":   "K: @ is without the name of a file",
		"K=1..8+0":  "K: the range 1..8+0 never ends: its step leads away from its end",
		"K=1..8+-1": "K: the range 1..8+-1 never ends: its step leads away from its end",
		"K=1..8*1":  "K: the range 1..8*1 never ends: its factor leads away from its end",
		"K=1..8*0.5": "K: the range 1..8*0.5 never ends: its factor leads away from " +
			"its end",
		"K=1..8*-2": "K: the range 1..8*-2 never ends: its factor leads away from " +
			"its end",
		"K=0..8*2": "K: the range 0..8*2 never ends: no factor leads from its first " +
			"number to its last",
		"K=-1..8*2": "K: the range -1..8*2 never ends: no factor leads from its " +
			"first number to its last",
		"K=1..8/0":   "K: the range 1..8/0 is to have 0 values",
		"K=1..8/1.5": "K: the range 1..8/1.5 is to have 3/2 values",
		"K=1..8/1":   "K: the range 1..8/1 has two ends and one value",
		"K=1e-3..1e-1": "K: the range 1e-3..1e-1 has no step, and whole steps from its " +
			"first number don't lead to its last",
		"K=0.5..0.1": "K: the range 0.5..0.1 has no step, and whole steps from its " +
			"first number don't lead to its last",
		"K=1..8.5": "K: the range 1..8.5 has no step, and whole steps from its " +
			"first number don't lead to its last",
		"K=1..9999999":          "K: the range 1..9999999 has more than 1000000 values",
		"K=1..2*1.000000000001": "K: the range 1..2*1.000000000001 has numbers of too many digits",
		`K="a,b`:                `K: a value begins with ", and the quote is never closed`,
		`K="5" disk,x`:          `K: a value begins with ", and the quote closes in its middle`,
		"K=@nowhere":            "K: there is no file nowhere to take values from",
		"K=@empty.txt":          "K: empty.txt has no values in it",
		"K=@*.none":             "K: no file matches *.none",
		"K=a\x00":               "a value of K has a zero byte in it",
	} {
		if _, err := ParseAxis(word, shop); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}

// sweep makes a Spec of command-line words.
func sweep(t *testing.T, words ...string) Spec {
	t.Helper()
	var s Spec
	for _, w := range words {
		flag, text, _ := strings.Cut(w, " ")
		var pick Pick
		var err error
		switch flag {
		case "exclude", "include":
			pick, err = ParsePick(text, shop)
		}
		switch flag {
		case "zip":
			s.Zip = append(s.Zip, strings.Split(text, ","))
		case "exclude":
			s.Exclude = append(s.Exclude, pick)
		case "include":
			s.Include = append(s.Include, pick)
		case "where":
			s.Where = append(s.Where, text)
		case "x":
			fmt.Sscan(text, &s.Repeats)
		case "order":
			s.Order = Order(text)
		case "seed":
			fmt.Sscan(text, &s.Seed)
		default:
			var axis Axis
			axis, err = ParseAxis(w, shop)
			s.Axes = append(s.Axes, axis)
		}
		if err != nil {
			t.Fatalf("%s: %v", w, err)
		}
	}
	return s
}

// cells spells the cells of a grid: values, and the repeat when there are several.
func cells(g *Grid) string {
	var all []string
	for i := range g.Count {
		row := make([]uint32, len(g.Axes)+1)
		if g.Cells != nil {
			row = g.Row(i)
		} else {
			n := i
			row[len(g.Axes)], n = uint32(n%g.Repeats), n/g.Repeats
			for a := len(g.Axes) - 1; a >= 0; a-- {
				row[a], n = uint32(n%len(g.Axes[a].Values)), n/len(g.Axes[a].Values)
			}
		}
		var cell strings.Builder
		for a, axis := range g.Axes {
			cell.WriteString(axis.Values[row[a]])
		}
		if g.Repeats > 1 {
			fmt.Fprintf(&cell, ".%d", row[len(g.Axes)])
		}
		all = append(all, cell.String())
	}
	return strings.Join(all, " ")
}

func TestExpand(t *testing.T) {
	for name, c := range map[string]struct {
		words []string
		want  string
		warns []string
	}{
		"product": {words: []string{"I=1,2", "J=a,b"}, want: "1a 1b 2a 2b"},
		"repeats": {words: []string{"I=1,2", "x 2"}, want: "1.0 1.1 2.0 2.1"},
		"repeats last": {words: []string{"I=1,2", "x 2", "order repeats-last"},
			want: "1.0 2.0 1.1 2.1"},
		"zip": {words: []string{"A=1,2,3", "J=x,y", "B=a,b,b", "zip A,B"},
			want: "1xa 1ya 2xb 2yb 3xb 3yb"},
		"exclude": {words: []string{"I=1..3", "J=a,b", "exclude I=1,J=b", "exclude I=3"},
			want: "1a 2a 2b"},
		"exclude lists": {words: []string{"I=1..4", "J=a,b", "exclude I=2..4,J=b"},
			want: "1a 1b 2a 3a 4a"},
		"exclude nothing": {words: []string{"I=1,2", "exclude I=9"}, want: "1 2",
			warns: []string{"--exclude I=9 excludes nothing"}},
		"include": {words: []string{"I=1,2", "J=a,b", "include I=9,J=c"},
			want: "1a 1b 2a 2b 9c"},
		"include the others": {words: []string{"I=1,2", "J=a,b", "include I=9"},
			want: "1a 1b 2a 2b 9a 9b"},
		"include zipped": {words: []string{"A=1,2", "B=a,b", "J=x,y", "zip A,B", "include J=z"},
			want: "1ax 1ay 2bx 2by 1az 2bz"},
		"include again": {words: []string{"I=1,2", "include I=2"}, want: "1 2",
			warns: []string{"--include I=2 adds nothing: the grid has it already"}},
		"where": {words: []string{"I=1..3", "J=1..3", "where I<J"}, want: "12 13 23"},
		"where twice": {words: []string{"I=1..3", "J=1..3", "where I<J", "where J!=3"},
			want: "12"},
		"include past where": {words: []string{"I=1,2", "J=1,2", "where I<J", "include I=2,J=2"},
			want: "12 22"},
		"where on repeats": {words: []string{"I=1,2", "x 3", "where I==1 || REPEAT<1"},
			want: "1.0 1.1 1.2 2.0"},
		"random": {words: []string{"I=1..4", "x 2", "order random", "seed 7"},
			want: "2.0 3.0 4.0 4.1 3.1 1.0 1.1 2.1"},
		"value twice": {words: []string{"I=1,2,1"}, want: "1 2",
			warns: []string{
				`I has the value "1" more than once: it runs once; -x N repeats all cells`,
			}},
		"braces": {words: []string{"I={1..8},{NAME},{}"}, want: "{1..8} {NAME} {}",
			warns: []string{"the value {1..8} of I stays as it is: values are not expanded",
				"the value {NAME} of I stays as it is: values are not expanded"}},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := sweep(t, c.words...).Expand()
			if err != nil {
				t.Fatal(err)
			}
			if got := cells(g); name != "random" && got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			} else if name == "random" {
				again, err := sweep(t, c.words...).Expand()
				if err != nil || cells(again) != got || got == "1.0 1.1 2.0 2.1 3.0 3.1 4.0 4.1" {
					t.Errorf("random gives %s, then %s: %v", got, cells(again), err)
				}
				sorted := strings.Fields(got)
				slices.Sort(sorted)
				if strings.Join(sorted, " ") != "1.0 1.1 2.0 2.1 3.0 3.1 4.0 4.1" {
					t.Errorf("random lost cells: %s", got)
				}
			}
			if diff := cmp.Diff(c.warns, g.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadGrids(t *testing.T) {
	for name, c := range map[string]struct {
		words []string
		want  string
	}{
		"nothing": {[]string{}, "a sweep needs variables with values"},
		"twice":   {[]string{"I=1", "I=2"}, "the variable I is given twice"},
		"contradiction": {[]string{"I=1,2", "exclude I=1", "include I=1"},
			"--include I=1 and --exclude I=1 contradict each other"},
		"empty": {[]string{"I=1,2", "where I>5"}, "the grid is empty: no cell is left"},
		"all excluded": {[]string{"I=1,2", "exclude I=1,2"},
			"the grid is empty: no cell is left"},
		"zip of one": {[]string{"I=1,2", "zip I"},
			"--zip I names one variable: it takes two or more"},
		"zip unknown": {[]string{"I=1,2", "zip I,J"},
			"--zip I,J names J, which is no variable of the sweep"},
		"zip uneven": {[]string{"I=1,2", "J=1..3", "zip I,J"},
			"I has 2 values and J has 3: they can't vary together"},
		"zip twice": {[]string{"I=1,2", "J=1,2", "zip I,J", "zip J,I"}, "J is zipped twice"},
		"exclude what": {[]string{"I=1,2", "exclude K=1"},
			"--exclude K=1 names K, which is no variable of the sweep"},
		"include what": {[]string{"I=1,2", "include i=1"},
			"--include i=1 names i, which is no variable of the sweep"},
		"include half": {[]string{"A=1,2", "B=1,2", "zip A,B", "include A=3"},
			"--include A=3 doesn't say what B is, which varies together with others"},
		"too many": {[]string{"I=1..2000", "J=1..1000"},
			"the sweep has 2000000 cells; at most 1000000 are possible"},
		"too many looks": {[]string{"I=1..5000", "J=1..5000", "where I<J"},
			"the product of all values has more than 20000000 cells"},
		"too many left": {[]string{"I=1..2000", "J=1..2000", "where I<J"},
			"the sweep has 1000001 cells; at most 1000000 are possible"},
		"order":    {[]string{"I=1", "order best"}, `there is no order "best"`},
		"negative": {[]string{"I=1", "x -1"}, "a cell can't run -1 times"},
		"mixed": {[]string{"I=1,x", "where I<3"},
			`the condition "I<3" can't be read: "x" and "3" can't be ordered: one is a number, the other is not`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sweep(t, c.words...).Expand()
			var own *Error
			if !errors.As(err, &own) || own.Msg != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestWhere(t *testing.T) {
	axes := []Axis{{"I", []string{"2"}}, {"J", []string{"10"}}, {"MODE", []string{"fast"}},
		{"X", []string{"0.5"}}}
	for text, want := range map[string]bool{
		"I<J": true, "J<I": false, "I<=2": true, "I==2.0": true, "I=2": true, "MODE==fast": true,
		"MODE!=exotic": true,
		`MODE=="fast"`: true, "MODE<slow": true, "I*J==20": true, "J/I==5": true, "J%3==1": true,
		"-I<0": true, "I+J*2==22": true,
		"(I+J)*2==24": true, "!(I<J)": false, "!I<J": false, "I>5||J>5": true, "I>5&&J>5": false,
		"I>5 or J>5 and X<1": true,
		"not I>5":            true, "X<1e-1": false, "X>=5e-1": true, "I-1==1": true,
		"J-I-3==5":  true,
		"REPEAT==0": true, "MODE!=2": true,
	} {
		w, err := Compile(text, axes)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := w.Match(make([]uint32, 5)); err != nil || got != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":             "it ends where a value is missing",
		"I":            "it is a value, and a condition is wanted",
		"I<":           "it ends where a value is missing",
		"I<J J":        `"J" is one too many`,
		"I<J<3":        "comparisons can't be chained",
		"(I<J":         "a ( is never closed",
		"I && J":       "&& takes conditions",
		"(I<J)+1==2":   "+ takes values, not conditions",
		"(I<J)<2":      "< takes values, not conditions",
		"-(I<J)==1":    "- takes values, not conditions",
		"K<1":          `the condition "K<1" names K, which is no variable of the sweep`,
		`I=="a`:        "a quote is never closed",
		"I~3":          `what is "~"?`,
		"*3<1":         `a value is missing before "*"`,
		"MODE*2==1":    `"fast" is no number`,
		"I/(J-J)==1":   "2 / 0 is no number",
		"MODE<1":       `"fast" and "1" can't be ordered`,
		"! I":          "! takes conditions",
		"((((I<J))))(": `"(" is one too many`,
	} {
		w, err := Compile(text, axes)
		if err == nil {
			_, err = w.Match(make([]uint32, 5))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := Compile(strings.Repeat("(", 5000), axes); err == nil ||
		!strings.Contains(err.Error(), "nested too deeply") {
		t.Errorf("5000 parentheses: %v", err)
	}
}

// TestAgainstModel compares Expand with the definition spelled out: of all combinations those that
// pass, each once.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		axes := []Axis{}
		for i := range rapid.IntRange(1, 3).Draw(t, "axes") {
			a := Axis{Name: string(rune('A' + i))}
			for v := range rapid.IntRange(1, 4).Draw(t, "values") {
				a.Values = append(a.Values, fmt.Sprint(v))
			}
			axes = append(axes, a)
		}
		s := Spec{Axes: axes, Repeats: rapid.IntRange(1, 3).
			Draw(t, "repeats"), Order: rapid.SampledFrom([]Order{Product, Random, RepeatsLast}).
			Draw(t, "order")}
		value := func(a Axis) string { return rapid.SampledFrom(a.Values).Draw(t, "value") }
		for range rapid.IntRange(0, 2).Draw(t, "excludes") {
			var p Pick
			for _, a := range axes {
				if rapid.Bool().Draw(t, "named") {
					p = append(p, Term{a.Name, []string{value(a)}})
				}
			}
			if p != nil {
				s.Exclude = append(s.Exclude, p)
			}
		}
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		s.Where = []string{fmt.Sprintf("A<=%d", limit)}
		want := map[string]bool{}
		var walk func(cell []string)
		walk = func(cell []string) {
			if len(cell) < len(axes) {
				for _, v := range axes[len(cell)].Values {
					walk(append(slices.Clone(cell), v))
				}
				return
			}
			for _, p := range s.Exclude {
				all := true
				for _, term := range p {
					all = all && cell[term.Name[0]-'A'] == term.Values[0]
				}
				if all {
					return
				}
			}
			if int(cell[0][0]-'0') > limit {
				return
			}
			for r := range s.Repeats {
				text := strings.Join(cell, "")
				if s.Repeats > 1 {
					text += fmt.Sprintf(".%d", r)
				}
				want[text] = true
			}
		}
		walk(nil)
		g, err := s.Expand()
		if len(want) == 0 {
			if err == nil {
				t.Fatal("an empty grid is taken")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, c := range strings.Fields(cells(g)) {
			got[c] = true
		}
		if g.Count != len(want) || !cmp.Equal(got, want) {
			t.Fatalf("got %d cells, want %d: %s", g.Count, len(want), cmp.Diff(want, got))
		}
	})
}

func BenchmarkExpand100k(b *testing.B) {
	var axes []Axis
	for _, w := range []string{"I=1..100", "J=1..100", "K=1..10"} {
		a, err := ParseAxis(w, shop)
		if err != nil {
			b.Fatal(err)
		}
		axes = append(axes, a)
	}
	s := Spec{Axes: axes, Where: []string{"I*J>=0 && K!=none"}, Order: Random}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Expand(); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseAxis(f *testing.F) {
	for _, s := range []string{"K=1..8", "K=1..64*2,a", `K="a,b",c`, "K=@names.txt", "K=0.1..0.5/5",
		"K=1e9..1e99*1.5", `K=\"\,`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		// A range has up to a million values, each of some exact numbers.
		defer budget.Hold(t, 1<<20+(1+strings.Count(word, ".."))*MaxCells<<10)()
		a, err := ParseAxis(word, shop)
		if err == nil && len(a.Values) == 0 {
			t.Errorf("%q has no values and no error", word)
		}
	})
}

func FuzzWhere(f *testing.F) {
	for _, s := range []string{"I<J", "!(I<J)&&MODE=='a b'", "I*J%3==-1 || not REPEAT>1e-3", "((((",
		"I<J<"} {
		f.Add(s)
	}
	axes := []Axis{{"I", []string{"1", "x"}}, {"J", []string{"2"}}, {"MODE", []string{"a b"}}}
	f.Fuzz(func(t *testing.T, text string) {
		defer budget.Hold(t, 1<<20+64*len(text))()
		if w, err := Compile(text, axes); err == nil {
			for i := range uint32(2) {
				w.Match([]uint32{i, 0, 0, 1})
			}
		}
	})
}
