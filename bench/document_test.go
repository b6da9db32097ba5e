package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inDocument writes runs into a document, and gives what is there then.
func inDocument(t *testing.T, name string, runs []table, merge bool, note string) string {
	t.Helper()
	if err := writeDocument(context.Background(), name, runs, merge, note); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rowsOf are the first words of a document's rows, those of both tables.
func rowsOf(document string) string {
	var names []string
	for line := range strings.Lines(document) {
		if name, ok := strings.CutPrefix(line, "| "); ok && name[0] != '|' {
			names = append(names, strings.Fields(name)[0])
		}
	}
	return strings.Join(names, " ")
}

func TestMergedLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	whole := inDocument(t, file, []table{{[]row{
		{name: "1a", what: "one", ourCmd: "j"}, {name: "1b", what: "two", ourCmd: "j"},
		{name: "16", missing: "there is no pueue here"}, {name: "24", ourCmd: "j"},
	}}}, false, "")
	if got, want := rowsOf(whole), "1a 1b 16 24 1a 1b 16 24"; got != want {
		t.Errorf("the rows are %s, not %s", got, want)
	}
	if !strings.Contains(whole, "| missing: there is no pueue here |") {
		t.Errorf("nothing says that line 16 is missing:\n%s", whole)
	}
	merged := inDocument(t, file, []table{{[]row{
		{name: "16a", what: "fast", ourCmd: "a | b", reached: true}, {name: "16b", what: "slow"},
	}}}, true, "the machine was busy")
	if got, want := rowsOf(merged), "1a 1b 16a 16b 24 1a 1b 16a 16b 24"; got != want {
		t.Errorf("the rows are %s, not %s", got, want)
	}
	again := inDocument(t, file, []table{
		{[]row{{name: "1a", what: "new"}, {name: "17", missing: "there is no python here"}}},
	}, true, "")
	if got, want := rowsOf(again), "1a 16a 16b 24 1a 16a 16b 24"; got != want {
		t.Errorf("the rows are %s, not %s", got, want)
	}
	one, sixteen := strings.Index(again, "- line 1: measured by itself"),
		strings.Index(again, "- line 16: measured by itself")
	if one < 0 || sixteen < one || strings.Count(again, "- line ") != 2 ||
		strings.Count(again, "the machine was busy") != 1 {
		t.Errorf("what is said of the lines:\n%s", again)
	}
	twice := inDocument(t, file, []table{{[]row{{name: "1a", what: "new"}}}}, true, "")
	if twice != again {
		t.Errorf("the same lines once more changed the document:\n%s\nbefore:\n%s", twice, again)
	}
}

// TestDocumentIsRead: what the project's own document holds comes out as it went in, so that
// merging lines loses none of the others.
func TestDocumentIsRead(t *testing.T) {
	b, err := os.ReadFile("../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), tableBegins+"\n")
	measured, _, ok := strings.Cut(rest, tableEnds)
	if !ok {
		t.Fatal("docs/benchmarks.md has no table")
	}
	if got := parsePart(measured).String(); got != measured {
		t.Errorf("read and written again, it is:\n%s", got)
	}
}

// TestMissingPeer: a line whose peer isn't here is missing, and neither reached nor missed.
func TestMissingPeer(t *testing.T) {
	l := line{16, measureAgainstPueue, "sh no-such-program-anywhere"}
	if got := l.missing(); got != "no-such-program-anywhere" {
		t.Errorf("%q is missing", got)
	}
}
