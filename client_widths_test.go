package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/view"
)

// widths are those at which every command's screen is held; 0 is off a terminal.
var widths = []int{0, 60, 80, 120, 200}

// mostOffTerminal is how wide a line off a terminal may be, as programs read other formats.
const mostOffTerminal = 240

// digits are the values of 5,000 characters, of which the golden files need not have all.
var digits = regexp.MustCompile(`(0123456789){21,}`)

// unruly is what people put into commands and values: ten lines, wide characters, and values of
// 5,000 characters.
type unruly struct{ lines, wide, long string }

func newUnruly() unruly {
	var lines []string
	for i := range 10 {
		lines = append(lines, fmt.Sprintf("  step %d --with some --more words of line %d", i, i))
	}
	return unruly{
		lines: "set -e\n" + strings.Join(lines, "\n"),
		wide:  "python 実験.py --名前 テスト --繰り返し 一〇〇 --出力 結果/日本語/とても長いファイル名.csv",
		long:  "run --config=" + strings.Repeat("0123456789", 500),
	}
}

// answer has the daemon say what every command asks for, with unruly texts wherever there can be.
func (u unruly) answer(f *fakeDaemon) {
	jobs := []api.Job{
		{JID: 17, Status: api.StatusDone, Class: "c", Cmd: u.lines, Machine: "m1",
			StartedAt: ago(time.Hour), DurationSeconds: 61, ResultsStatus: "copied",
			SubmittedAt: *ago(2 * time.Hour)},
		{JID: 18, Status: api.StatusFailed, Class: "クラス", Cmd: u.wide, Machine: "機械",
			StartedAt: ago(time.Hour), DurationSeconds: 3, ExitCode: api.Some(3), Error: u.long,
			SubmittedAt: *ago(2 * time.Hour)},
		{JID: 19, Status: api.StatusRunning, Class: "c", Cmd: "run {A}", CmdExpanded: u.long,
			CmdRun: u.long, Vars: map[string]string{"A": u.long, "B": u.wide}, Matrix: 20,
			Cell: api.Some(0), Machine: "m1", StartedAt: ago(time.Minute),
			SubmittedAt: *ago(2 * time.Hour), Env: map[string]string{"LONG": u.long},
			CpPath: "/data/" + u.long, Results: []string{u.long}, TagName: "夜間", Tag: 5},
	}
	matrix := api.Matrix{ID: 20, Name: "名前", Class: "c", Cmd: u.lines, Cells: 2,
		Vars:   []api.Axis{{Name: "A", Values: []string{u.long, u.wide}}},
		Counts: api.Counts{Running: 1, Done: 1}, SubmittedAt: *ago(time.Hour), CpPath: "/data"}
	machine := api.Machine{Addr: "機械.example.org", Class: "c", State: "connected", Slots: 2,
		LastError: "setup 3: step 1 of 2 exited with code 1: " + u.long}
	on(f, "ListJobs", func(*api.ListJobsArgs) (any, error) {
		return &api.ListJobsReply{Jobs: jobs, Matched: len(jobs),
			Counts: api.Counts{Running: 1, Done: 1, Failed: 1}}, nil
	})
	on(f, "Why", func(*api.JIDArgs) (any, error) {
		return &api.WhyReply{JID: 18, Status: api.StatusFailed, Summary: u.long,
			Details: []string{u.wide}, Output: []string{u.long, u.wide}}, nil
	})
	on(f, "WhyMany", func(*api.WhyManyArgs) (any, error) {
		return &api.WhyManyReply{Counts: api.Counts{Failed: 2}, Standouts: []string{"A=" + u.long},
			Groups: []api.FailureGroup{{Cause: "exited with code 3", LastLine: u.long, Attempts: 2,
				Jobs: 2, Final: 2, Examples: []uint64{18}}}}, nil
	})
	on(f, "ListMatrices", func(*api.ListMatricesArgs) (any, error) {
		return &api.ListMatricesReply{Matrices: []api.Matrix{matrix}}, nil
	})
	on(f, "MatrixCells", func(*api.MatrixCellsArgs) (any, error) {
		return &api.MatrixCellsReply{Matrix: matrix, Cells: []api.Cell{
			{JID: 19, Status: "done", Index: []uint32{0}, Metrics: []api.Measurement{{Name: "x",
				Value: 1.5}}},
			{JID: 21, Status: "done", Index: []uint32{1}, Metrics: []api.Measurement{{Name: "x",
				Value: 2.5}}}}}, nil
	})
	on(f, "ListMachines", func(*api.ListMachinesArgs) (any, error) {
		return &api.ListMachinesReply{Machines: []api.Machine{machine}}, nil
	})
	on(f, "ListTags", func(*api.ListTagsArgs) (any, error) {
		return &api.ListTagsReply{Tags: []api.Tag{{ID: 5, Name: strings.Repeat("夜間", 60),
			Counts: api.Counts{Done: 9}}}}, nil
	})
	on(f, "ListVars", func(*api.Empty) (any, error) {
		return &api.ListVarsReply{Vars: []api.Variable{{Name: "LONG", Value: api.Some(u.long)},
				{Name: "LINES", Value: api.Some(u.lines)},
				{Name: "WIDE", Value: api.Some(u.wide)}}},
			nil
	})
	on(f, "ListResources", func(*api.Empty) (any, error) {
		return &api.ListResourcesReply{
			Resources: []api.Resource{{Amount: api.Amount{Name: "license"}}},
		}, nil
	})
	on(f, api.ChangeJobs, func(*api.ChangeJobsArgs) (any, error) {
		return &api.ChangeJobsReply{Total: 2, Changed: 1, Matched: []api.ChangedJob{
			{JID: 17, Status: "done", Cmd: u.lines, Note: "it is done"},
			{JID: 19, Status: "running", Cmd: u.long, Changed: true}}}, nil
	})
}

// TestEveryScreen holds the screens of the commands that show something, at all widths, for unruly
// texts. full marks those that show all of a text in lines as long as it is, which a terminal
// folds.
func TestEveryScreen(t *testing.T) {
	s := newSession(t)
	newUnruly().answer(s.daemon)
	for _, test := range []struct {
		name string
		line string // words are separated by blanks
		full bool
	}{
		{"ls", "ls", false},
		{"ls-wide", "ls -o wide", true},
		{"ls-matrix", "ls %20", false},
		{"show", "job show 17..19", true},
		{"why", "job why 18", true},
		{"why-many", "job why %20", true},
		{"rm", "job rm 17 19 --dry-run", false},
		{"matrix-ls", "matrix ls", false},
		{"matrix-ls-one", "matrix ls 20", true},
		{"matrix-why", "matrix why 20", true},
		{"matrix-table", "matrix table 20", false},
		{"machine-ls", "machine ls", false},
		{"machine-ls-wide", "machine ls -o wide", true},
		{"tag-ls", "tag ls", false},
		{"var-ls", "var ls", false},
		{"resource-ls", "resource ls", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var all strings.Builder
			for _, width := range widths {
				s.env.Screen = view.Screen{Terminal: width > 0, Width: width}
				if code := s.run(strings.Fields(test.line)...); code != 0 {
					t.Fatalf("%s ended with %d: %s", test.line, code, s.stderr.String())
				}
				most := width
				if width == 0 {
					most = mostOffTerminal
				}
				for line := range strings.Lines(s.stdout.String()) {
					line = strings.TrimSuffix(line, "\n")
					if w := view.Width(line); w > most && (width == 0 || !test.full) {
						t.Errorf("a line of %d columns where %d may be: %.100q…", w, most, line)
					}
					if strings.TrimRight(line, " ") != line {
						t.Errorf("a line ends in blanks: %.100q…", line)
					}
				}
				fmt.Fprintf(&all, "== %d columns\n%s\n", width, s.stdout.String())
			}
			checkGolden(t, filepath.Join("testdata", "screens", "unruly", test.name+".txt"),
				digits.ReplaceAllStringFunc(all.String(), func(s string) string {
					return fmt.Sprintf("0123456789(%d times)", len(s)/10)
				}))
		})
	}
}
