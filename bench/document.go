package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
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

// commandsHead stands above the rows of the commands.
const commandsHead = "The command lines, `j` being jobserver:\n\n" +
	"| | Ours | Theirs |\n|---|---|---|\n"

// writeDocument puts the runs into the document. All that was there is replaced, or with merge the
// rows of the lines that were measured, and then it is told when that was, and what note says.
func writeDocument(ctx context.Context, name string, runs []table, merge bool, note string) error {
	old, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		old, err = []byte("# Benchmarks\n\n"+tableBegins+"\n"+tableEnds+"\n"), nil
	}
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), tableBegins+"\n")
	measured, after, okToo := strings.Cut(rest, tableEnds)
	if !ok || !okToo {
		return fmt.Errorf("%s has no place for the table: %s and %s are missing", name, tableBegins,
			tableEnds)
	}
	if merge { // a line without its peer leaves what was measured with it
		runs = slices.Clone(runs)
		for i, run := range runs {
			runs[i].rows = slices.DeleteFunc(slices.Clone(run.rows), func(r row) bool {
				return r.missing != ""
			})
		}
	}
	fresh := part{figures: figures(runs), commands: commands(runs[len(runs)-1])}
	if merge {
		measured = parsePart(measured).merge(fresh, alone(ctx, len(runs), note)).String()
	} else {
		fresh.head = versions(ctx)
		fresh.figuresHead = figuresHead(len(runs))
		measured = fresh.String()
	}
	written := before + tableBegins + "\n" + measured + tableEnds + after
	return renameio.WriteFile(name, []byte(written), 0o644)
}

// A part is what is written of the document.
type part struct {
	head        []string // lines: when, where and with what it was measured
	figuresHead []string // the two lines above the figures
	figures     []string // lines of a table, each with the name of its row first
	commands    []string
}

func (p part) String() string {
	var b strings.Builder
	none := []string{""}
	for _, line := range slices.Concat(p.head, none, p.figuresHead, p.figures, none) {
		b.WriteString(line + "\n")
	}
	b.WriteString(commandsHead)
	for _, line := range p.commands {
		b.WriteString(line + "\n")
	}
	b.WriteString("\n")
	return b.String()
}

// parsePart reads what String has written.
func parsePart(s string) (p part) {
	above, below, _ := strings.Cut(s, commandsHead)
	head, figures, _ := strings.Cut(above, "\n| |")
	p.head = strings.Split(strings.TrimRight(head, "\n"), "\n")
	lines := strings.Split(strings.TrimRight("| |"+figures, "\n"), "\n")
	p.figuresHead = lines[:min(2, len(lines))]
	p.figures = lines[len(p.figuresHead):]
	if below = strings.Trim(below, "\n"); below != "" {
		p.commands = strings.Split(below, "\n")
	}
	return p
}

// merge replaces the rows of the lines that fresh has, all of each, and says of each of them when
// it was measured.
func (p part) merge(fresh part, when string) part {
	lines := map[int]bool{}
	for _, r := range fresh.figures {
		lines[lineOf(r)] = true
	}
	p.figures = mergeRows(p.figures, fresh.figures, lines)
	p.commands = mergeRows(p.commands, fresh.commands, lines)
	p.head = slices.DeleteFunc(slices.Clone(p.head), func(s string) bool {
		n, ok := aloneLine(s)
		return ok && lines[n]
	})
	for n := range lines {
		p.head = append(p.head, fmt.Sprintf("- line %d: %s", n, when))
	}
	slices.SortStableFunc(p.head, func(a, b string) int {
		n, _ := aloneLine(a) // 0 for what is no such line, and stays in front
		m, _ := aloneLine(b)
		return cmp.Compare(n, m)
	})
	return p
}

// mergeRows puts the fresh rows in the place of the old ones of the same lines.
func mergeRows(old, fresh []string, lines map[int]bool) []string {
	rows := slices.DeleteFunc(slices.Clone(old), func(s string) bool { return lines[lineOf(s)] })
	rows = append(rows, fresh...)
	slices.SortStableFunc(rows, func(a, b string) int { return cmp.Compare(lineOf(a), lineOf(b)) })
	return rows
}

// lineOf is the number of the line that a row of a table belongs to: 14 for one that begins with
// "| 14a |".
func lineOf(tableRow string) int {
	name, _, _ := strings.Cut(strings.TrimPrefix(tableRow, "| "), " ")
	n, _ := strconv.Atoi(strings.TrimRight(name, "abcdefgh")) // our own
	return n
}

// aloneLine is the number of the line that a line of the head tells about.
func aloneLine(head string) (n int, ok bool) {
	number, _, ok := strings.Cut(strings.TrimPrefix(head, "- line "), ":")
	if !ok || !strings.HasPrefix(head, "- line ") {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil
}

// alone says when and how lines were measured that were measured by themselves.
func alone(ctx context.Context, runs int, note string) string {
	s := fmt.Sprintf("measured by itself on %s, at %s", time.Now().UTC().Format(time.DateOnly),
		firstLine(ctx, "git", "describe", "--always", "--dirty"))
	if runs > 1 {
		s += fmt.Sprintf(", %d runs in a row", runs)
	}
	if note != "" {
		s += "; " + note
	}
	return s
}

// versions say when, where and with what it was measured.
func versions(ctx context.Context) []string {
	lines := []string{fmt.Sprintf("Measured on %s, %d cores, %s, Linux %s.",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(),
		firstLine(ctx, "uname", "-r")), ""}
	for _, words := range [][]string{{"git", "describe", "--always", "--dirty"},
		{"parallel", "--version"}, {"tsp", "-V"}, {"rsync", "--version"}, {"ssh", "-V"},
		{"jq", "--version"}, {"pueue", "--version"}, {"hyperqueue-python", "-c",
			"import importlib.metadata as m; print('HyperQueue', m.version('hyperqueue'))"},
		{"sbatch", "--version"}} {
		lines = append(lines, fmt.Sprintf("- `%s`: %s", strings.Join(words, " "),
			firstLine(ctx, words...)))
	}
	return lines
}

// firstLine gives what a program says about itself; of one that can't, the error.
func firstLine(ctx context.Context, words ...string) string {
	// ssh tells its version on stderr
	out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	if len(line) == 0 && err != nil {
		return err.Error()
	}
	return string(line)
}

func figuresHead(runs int) []string {
	ratio, spread := "Ratio", "Spread"
	if runs > 1 {
		ratio, spread = fmt.Sprintf("Ratio, %d runs in a row", runs), "Spread within the last"
	}
	return []string{
		fmt.Sprintf("| | Figure | Ours | Theirs | %s | %s | Target | |", ratio, spread),
		strings.Repeat("|---", 8) + "|",
	}
}

// figures are the rows of the table: the last run's figures, and the ratios of all runs.
func figures(runs []table) (lines []string) {
	for _, r := range runs[len(runs)-1].rows {
		var ratios []string
		all := true
		for _, run := range runs {
			i := slices.IndexFunc(run.rows, func(other row) bool { return other.name == r.name })
			if i < 0 {
				continue // a run without what it is compared with
			}
			ratios = append(ratios, run.rows[i].ratioText())
			all = all && run.rows[i].reached
		}
		verdict := "missed"
		if r.missing != "" {
			verdict = "missing: " + r.missing
		} else if all {
			verdict = "reached"
		}
		ours := r.ours
		if r.note != "" {
			ours += "; " + r.note
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |", r.name,
			r.what, cell(ours), r.theirs, strings.Join(ratios, " · "), r.spread(), r.target,
			verdict))
	}
	return lines
}

// commands are the rows of what was run.
func commands(t table) (lines []string) {
	code := func(s string) string {
		if s == "" {
			return "–"
		}
		return "`" + cell(s) + "`"
	}
	for _, r := range t.rows {
		lines = append(lines, fmt.Sprintf("| %s | %s | %s |", r.name, code(r.ourCmd),
			code(r.peerCmd)))
	}
	return lines
}

// cell escapes what would end a table's cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
