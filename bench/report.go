package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// A table is the rows of one run.
type table struct{ rows []row }

// The part of the document that is written lies between these; what stands around it is kept.
const (
	tableBegins = "<!-- measured: begin -->"
	tableEnds   = "<!-- measured: end -->"
)

// writeDocument puts the runs into the document.
func writeDocument(ctx context.Context, name string, runs []table) error {
	old, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		old, err = []byte("# Benchmarks\n\n"+tableBegins+"\n"+tableEnds+"\n"), nil
	}
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(old, []byte(tableBegins))
	_, after, okToo := bytes.Cut(rest, []byte(tableEnds))
	if !ok || !okToo {
		return fmt.Errorf("%s has no place for the table: %s and %s are missing", name, tableBegins,
			tableEnds)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(tableBegins + "\n")
	writeVersions(ctx, &b)
	writeRuns(&b, runs)
	writeCommands(&b, runs[len(runs)-1])
	b.WriteString(tableEnds)
	b.Write(after)
	return renameio.WriteFile(name, b.Bytes(), 0o644)
}

// writeVersions says when, where and with what it was measured.
func writeVersions(ctx context.Context, b *bytes.Buffer) {
	fmt.Fprintf(b, "Measured on %s, %d cores, %s, Linux %s.\n\n", time.Now().UTC().
		Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), firstLine(ctx, "uname", "-r"))
	for _, words := range [][]string{{"git", "describe", "--always", "--dirty"},
		{"parallel", "--version"}, {"tsp", "-V"}, {"rsync", "--version"}, {"ssh", "-V"},
		{"jq", "--version"}} {
		fmt.Fprintf(b, "- `%s`: %s\n", strings.Join(words, " "), firstLine(ctx, words...))
	}
	b.WriteString("\n")
}

// firstLine is what a program says about itself; of one that can't, the error.
func firstLine(ctx context.Context, words ...string) string {
	// ssh tells its version on stderr
	out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" && err != nil {
		return err.Error()
	}
	return line
}

// writeRuns writes one table: the last run's figures, and the ratios of all runs.
func writeRuns(b *bytes.Buffer, runs []table) {
	ratio, spread := "Ratio", "Spread"
	if len(runs) > 1 {
		ratio, spread = fmt.Sprintf("Ratio, %d runs in a row", len(runs)), "Spread within the last"
	}
	fmt.Fprintf(b, "| | Figure | Ours | Theirs | %s | %s | Target | "+
		"|\n|---|---|---|---|---|---|---|---|\n", ratio, spread)
	for i, r := range runs[len(runs)-1].rows {
		ratios := make([]string, len(runs))
		all := true
		for k, run := range runs {
			ratios[k] = run.rows[i].ratioText()
			all = all && run.rows[i].reached
		}
		verdict := "missed"
		if all {
			verdict = "reached"
		}
		ours := r.ours
		if r.note != "" {
			ours += "; " + r.note
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.name, r.what, cell(ours),
			r.theirs, strings.Join(ratios, " · "), r.spread(), r.target, verdict)
	}
	b.WriteString("\n")
}

// writeCommands lists what was run.
func writeCommands(b *bytes.Buffer, t table) {
	b.WriteString("The command lines, `j` being jobserver:\n\n| | Ours | Theirs |\n|---|---|---|\n")
	for _, r := range t.rows {
		peer := "–"
		if r.peerCmd != "" {
			peer = "`" + cell(r.peerCmd) + "`"
		}
		fmt.Fprintf(b, "| %s | `%s` | %s |\n", r.name, cell(r.ourCmd), peer)
	}
	b.WriteString("\n")
}

// cell escapes what would end a table's cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
