package main

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
	"jobserver/cli/show"
	"jobserver/view"
)

func ago(d time.Duration) *time.Time {
	at := testNow.Add(-d)
	return &at
}

func ptr[T any](v T) *T { return &v }

// sampleListing has a row of every kind, and texts that try to break out of their cells.
func sampleListing() *show.Listing {
	hour := time.Hour
	return &show.Listing{
		Counts: api.Counts{Waiting: 2, Held: 1, Running: 2, Copying: 1, Done: 257, Failed: 4,
			Canceled: 12, Lost: 1},
		Jobs: []api.Job{
			{JID: 17, Status: api.StatusDone, Class: "foo",
				Cmd:     "exp00010 --mmu_overhead hacky_spec17 xalancbmk",
				Machine: "clnode199.clemson.cloudlab.us:22", ResultsStatus: "copied",
				StartedAt: ago(5 * hour), DurationSeconds: 5400},
			{JID: 18, Status: api.StatusDone, Class: "foo", Cmd: "true", Machine: "gpu1",
				StartedAt: ago(hour), DurationSeconds: 0.4, ResultsStatus: "none"},
			{JID: 19, Status: api.StatusDone, Class: "foo", Cmd: "make results", Machine: "gpu1",
				StartedAt: ago(hour), DurationSeconds: 61, ResultsStatus: "failed"},
			{JID: 20, Status: api.StatusFailed, Class: "foo",
				Cmd:     "./run.sh --size large --iterations 100000 --output results/large.csv",
				Machine: "gpu1", StartedAt: ago(2 * hour), DurationSeconds: 3725,
				ExitCode: api.Some(2)},
			{JID: 21, Status: api.StatusFailed, Class: "foo", Cmd: "leak", Machine: "gpu2",
				StartedAt: ago(2 * hour), DurationSeconds: 10, Signal: "SIGKILL"},
			{JID: 22, Status: api.StatusCanceled, Class: "foo", Cmd: "sleep 1000", Machine: "gpu2",
				StartedAt: ago(2 * hour), DurationSeconds: 90},
			{JID: 23, Status: api.StatusLost, Class: "foo", Cmd: "train", Machine: "gpu3",
				StartedAt: ago(30 * hour), DurationSeconds: 7200,
				Error: "gpu3 was rebooted while it ran"},
			{JID: 200, Status: api.StatusRunning, Class: "a-class-with-a-rather-long-name",
				Cmd:     "echo 'a\x1b[31mred\x07' \u202e ; printf '\r\n'",
				Machine: "evil\x1b]0;title\x07", StartedAt: ago(192 * time.Second)},
			{JID: 201, Status: api.StatusRunning, Canceling: true, Class: "日本語",
				Cmd:     "python 実験.py --名前 テスト --繰り返し 一〇〇 --出力 結果/日本語/とても長いファイル名.csv",
				Machine: "192.0.2.17:2222", StartedAt: ago(50 * hour)},
			{JID: 202, Status: api.StatusCopying, Class: "foo", Cmd: "dd", Machine: "gpu1",
				StartedAt: ago(time.Minute)},
			{JID: 203, Status: api.StatusWaiting, Class: "bar", Cmd: "bench {SIZE}",
				CmdExpanded: "bench 4G", Vars: map[string]string{"SIZE": "4G"},
				SubmittedAt: *ago(9 * 24 * hour)},
			{JID: 204, Status: api.StatusWaiting, Class: "bar", Cmd: "flaky", Attempt: 2,
				ExitCode: api.Some(1), Machine: "gpu1", SubmittedAt: *ago(30 * time.Second)},
			{JID: 205, Status: api.StatusHeld, Class: "bar", Cmd: "later",
				SubmittedAt: *ago(2 * time.Minute)},
			{JID: 206, Status: api.StatusRunning, Setup: true, Class: "bar",
				Steps: []string{"sudo apt-get update", "./build.sh -j 8"}, Machine: "gpu4",
				StartedAt: ago(time.Minute)},
		},
		Matrices: []api.Matrix{{ID: 93, Class: "foo", Cmd: "exp00010 --size {SIZE} --pages " +
			"{PAGES}",
			Counts: api.Counts{Running: 1, Waiting: 3, Done: 248, Failed: 4, Canceled: 12}}},
		Tags: []api.Tag{{ID: 5, Name: "nightly", Counts: api.Counts{Done: 9, Lost: 1}}},
	}
}

// TestScreens holds what people see, at several widths, with colours and without.
func TestScreens(t *testing.T) {
	machines := []api.Machine{
		{Addr: "clnode199.clemson.cloudlab.us:22", Class: "foo", State: "connected", Slots: 1,
			Running: []uint64{200}, OS: "linux", Arch: "amd64", Cores: 64, MemoryBytes: 256 << 30,
			FreeBytes: 1 << 40},
		{Addr: "gpu1", Class: "foo", State: "connected", Slots: 4, Draining: true,
			Running: []uint64{1, 2, 3}, Failures: 2, LastError: "job 20 exited with code 2",
			Until: ptr(testNow.Add(48 * time.Hour))},
		{Addr: "gpu2", Class: "foo-broken", State: "away", Since: ago(3 * time.Hour), Slots: 1,
			Orphans:   []string{"1.1.0-ab", "2.1.0-cd"},
			LastError: "dial tcp 192.0.2.2:22: connect: connection refused"},
		{Addr: "gpu3", Class: "error-unknown-host", State: "refused", Slots: 1,
			LastError: "the host key is not in known_hosts"},
		{Addr: "local:a", Class: "bar", State: "connecting", Slots: 2, Resting: true},
	}
	checks := []api.MachineCheck{
		{Machine: api.Machine{Addr: "gpu1", OS: "linux", Arch: "amd64", Cores: 64,
			MemoryBytes: 256 << 30, FreeBytes: 1 << 40, LatencySeconds: 0.0123,
			MemoryLimit: "accounted", ClockOffsetSeconds: -1.5}, OK: true, HostKey: "ssh-ed25519",
			Fingerprint: "SHA256:Zp1u0t1l5yZ5vXvDqN1U0m1VbV9j8p0s3e4t5y6u7i8", Known: "known"},
		{Machine: api.Machine{Addr: "gpu2"}, Error: "gpu2: connection refused",
			Hint: "is sshd running there?"},
	}
	matrices := []api.Matrix{
		{ID: 93, Name: "pages", Class: "foo", Cmd: "exp00010 --size {SIZE} --pages {PAGES}",
			Vars: []api.Axis{{Name: "SIZE", Values: []string{"1G", "2G", "4G"}},
				{Name: "PAGES", Values: []string{"huge", "small"}}}, Cells: 6,
			Counts: api.Counts{Running: 1, Waiting: 3, Done: 2},
			Left:   &api.TimeLeft{Seconds: 720, Error: 190}, CpPath: "/data/pages",
			SubmittedAt: *ago(time.Hour)},
		{ID: 400, Class: "bar", Cmd: "true {I}",
			Vars: []api.Axis{{Name: "I", Values: []string{"1"}}}, Cells: 1, Held: true,
			HeldWhy: "4 failures in a row on 2 machines", Counts: api.Counts{Held: 1}},
	}
	changed := []api.ChangedJob{
		{JID: 17, Status: api.StatusDone, Cmd: "true",
			Note: "it is done: there is nothing to cancel"},
		{JID: 200, Status: api.StatusRunning, Cmd: "exp00010 --mmu_overhead hacky_spec17 xalancbmk",
			Changed: true},
		{JID: 204, Status: api.StatusFailed, Cmd: "flaky", Changed: true, NewJID: 300},
	}
	s := newSession(t)
	for name, draw := range map[string]func(io.Writer, *cli.Env) error{
		"job-ls": func(w io.Writer, e *cli.Env) error {
			e.Config.Line = 150
			return show.WriteListing(w, e, sampleListing())
		},
		"job-show": func(w io.Writer, e *cli.Env) error {
			show.WriteJob(w, e, sampleJob())
			return nil
		},
		"job-why": func(w io.Writer, e *cli.Env) error {
			show.WriteWhy(w, e,
				api.WhyReply{JID: 203, Status: api.StatusWaiting,
					Summary: "all 2 machines of class bar are busy",
					Details: []string{"12 jobs of the class come first", "local:a runs job 206"},
					Hint:    "`jobserver machine ls -c bar` shows them"})
			return nil
		},
		"machine-ls": func(_ io.Writer,
			e *cli.Env) error {
			return cli.List(e, machines, show.MachineColumns(e))
		},
		"machine-check": func(_ io.Writer,
			e *cli.Env) error {
			return cli.List(e, checks, show.CheckColumns(e))
		},
		"machine-trust": func(_ io.Writer,
			e *cli.Env) error {
			return cli.List(e, checks, show.TrustColumns())
		},
		"matrix-ls": func(_ io.Writer,
			e *cli.Env) error {
			return cli.List(e, matrices, show.MatrixColumns(e))
		},
		"change": func(_ io.Writer, e *cli.Env) error {
			return job.PrintChange(e,
				&api.ChangeJobsReply{Matched: changed, Total: 30, Changed: 29},
				api.ChangeJobsArgs{Op: api.OpRestart})
		},
	} {
		t.Run(name, func(t *testing.T) {
			checkGolden(t, filepath.Join("testdata", "screens", name+".txt"), screens(t, s, draw))
		})
	}
}

// sampleJob has every field that show prints.
func sampleJob() api.Job {
	return api.Job{
		JID: 42, Status: api.StatusFailed, Class: "foo", Cmd: "run {SIZE}", CmdRun: "run 4G",
		Machine: "gpu2", Slot: api.Some(1), Matrix: 40, Cell: api.Some(1), Tag: 5,
		TagName:  "nightly",
		Priority: 3, Attempt: 2, ExitCode: api.Some(2), Error: "exited with code 2",
		Vars:   map[string]string{"SIZE": "4G", "ALPHA": "0.5"},
		Env:    map[string]string{"OMP_NUM_THREADS": "8"},
		CpPath: "/data", Results: []string{"/home/me/out.csv"}, ResultsStatus: "none",
		SubmittedAt: *ago(3 * time.Hour), TimeoutSeconds: 7200, MaxFailures: 3, Failures: 2,
		RestartOf: 12,
		Attempts: []api.Attempt{
			{Attempt: 1, Machine: "gpu1", Outcome: "lost", Error: "gpu1 was rebooted",
				DispatchedAt: *ago(2 * time.Hour), StartedAt: ago(2 * time.Hour)},
			{Attempt: 2, Machine: "gpu2", Slot: 1, Outcome: "exited", ExitCode: api.Some(2),
				DispatchedAt: *ago(time.Hour), StartedAt: ago(time.Hour), EndedAt: ago(time.Minute),
				DurationSeconds: 3540, CPUSeconds: 3000, MaxRSSBytes: 3 << 30,
				Log: "/state/logs/000000/42.2.out", ErrLog: "/state/logs/000000/42.2.err",
				LogDropped: 1 << 20},
		},
	}
}

// TestAccountedIsTold: once for each reason it is said why memory isn't limited, and where.
func TestAccountedIsTold(t *testing.T) {
	s := newSession(t)
	on(s.daemon, "CheckMachines", func(*api.CheckMachinesArgs) (any, error) {
		reply := api.CheckMachinesReply{}
		for _, m := range []struct{ addr, limit, why string }{
			{"a", "accounted", "the login isn't root's"}, {"b", "enforced", ""},
			{"c", "accounted", "the login isn't root's"}, {"d", "accounted", "no groups"},
			{"old", "accounted", ""},
		} {
			reply.Checks = append(reply.Checks, api.MachineCheck{OK: true, MemoryLimitWhy: m.why,
				Machine: api.Machine{Addr: m.addr, OS: "linux", MemoryLimit: m.limit}})
		}
		return reply, nil
	})
	if code := s.run("machine", "check", "-c", "x"); code != 0 {
		t.Fatal(code, s.stderr.String())
	}
	want := "j: memory that jobs ask for is accounted on d, and not enforced: no groups\n" +
		"j: memory that jobs ask for is accounted on a and 1 other, and not enforced: the login " +
		"isn't root's\n"
	if got := s.stderr.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if s.run("machine", "check", "-c", "x", "-o", "json"); s.stderr.Len() > 0 {
		t.Errorf("for programs: %s", s.stderr.String())
	}
}

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
		{JID: 17, Status: api.StatusDone, Class: "c", Cmd: u.lines, Machine: "m1", Attempt: 1,
			Log:       "/logs/17.1.out",
			StartedAt: ago(time.Hour), DurationSeconds: 61, ResultsStatus: "copied",
			SubmittedAt: *ago(2 * time.Hour)},
		{JID: 18, Status: api.StatusFailed, Class: "クラス", Cmd: u.wide, Machine: "機械",
			StartedAt: ago(time.Hour), DurationSeconds: 3, ExitCode: api.Some(3), Error: u.long,
			Attempt: 1, Log: "/logs/18.1.out",
			SubmittedAt: *ago(2 * time.Hour)},
		{JID: 19, Status: api.StatusRunning, Class: "c", Cmd: "run {A}", CmdExpanded: u.long,
			CmdRun: u.long, Vars: map[string]string{"A": u.long, "B": u.wide}, Matrix: 20,
			Cell: api.Some(0), Machine: "m1", Attempt: 1, Log: "/logs/19.1.out",
			StartedAt:   ago(time.Minute),
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

// answerServer has the daemon say what it, its machines and its logs are, likewise.
func (u unruly) answerServer(f *fakeDaemon) {
	on(f, "Status", func(*api.Empty) (any, error) {
		return &api.Status{PID: 4711, Version: "1.0.0", StartedAt: *ago(time.Hour),
			StateDir: "/data/状態/" + strings.Repeat("long/", 60), LogDir: "/data/logs",
			Socket: "/run/socket",
			Driver: u.wide, Jobs: api.Counts{Waiting: 3, Held: 1, Running: 12345, Copying: 2,
				Done: 1234567, Failed: 4, Canceled: 5, Lost: 6}, Matrices: 7,
			Machines: map[string]int{"connected": 499, "away": 1},
			Verdicts: []api.Verdict{
				{Machine: "機械.example.org", Class: "c", Text: "set aside: " + u.long,
					Undo: "jobserver machine resume -m 機械.example.org"},
				{Matrix: 20, Class: "c", Text: "held: " + u.wide,
					Undo: "jobserver matrix unhold 20"},
			},
			Owing: []api.Owing{{Machine: "機械.example.org", Ending: 2, Unremoved: 1, Gone: true}},
		}, nil
	})
	on(f, "Events", func(args *api.EventsArgs) (any, error) {
		if args.Since > 0 {
			return &api.EventsReply{Cursor: args.Since}, nil
		}
		return &api.EventsReply{Cursor: 9, Events: []api.Event{
			{Cursor: 1, At: *ago(time.Hour), Kind: "job.submitted", JID: 17,
				Text: "job 17 was submitted to class c: " + u.lines},
			{Cursor: 2, At: *ago(time.Hour), Kind: "job.submitted", JID: 18,
				Text: "job 18 was submitted to class クラス: " + u.wide},
			{Cursor: 12345678901, At: *ago(time.Minute), Kind: "machine.provider.failed",
				Machine: "機械", Text: "job 19 has failed: " + u.long},
		}}, nil
	})
	on(f, "CheckMachines", func(*api.CheckMachinesArgs) (any, error) {
		return &api.CheckMachinesReply{Checks: []api.MachineCheck{
			{Machine: api.Machine{Addr: "機械.example.org", OS: "linux", Arch: "amd64", Cores: 64,
				MemoryBytes: 256 << 30, FreeBytes: 1 << 40, LatencySeconds: 0.0123},
				OK: true, HostKey: "ssh-ed25519", Known: "known",
				Fingerprint: "SHA256:Zp1u0t1l5yZ5vXvDqN1U0m1VbV9j8p0s3e4t5y6u7i8"},
			{Machine: api.Machine{Addr: "m2"}, Error: "m2: " + u.long, Hint: u.wide},
		}}, nil
	})
	on(f, "JobLog", func(args *api.LogArgs) (any, error) {
		text := map[uint64]string{17: u.lines + "\n", 18: u.wide, 19: u.long + "\n"}[args.JID]
		reply := &api.LogReply{EOF: true, Status: "done", Offset: args.Offset}
		if args.Offset == 0 {
			reply.Data = []byte(text)
		}
		return reply, nil
	})
}

// shownText says what a command shows of a long text.
type shownText int

const (
	cut  shownText = iota // what there is room for
	full                  // all of it, in lines that a terminal folds
	data                  // all of it, as it is, everywhere
)

// TestEveryScreen holds the screens of the commands that show something, at all widths, for unruly
// texts.
func TestEveryScreen(t *testing.T) {
	s := newSession(t)
	newUnruly().answer(s.daemon)
	newUnruly().answerServer(s.daemon)
	for _, test := range []struct {
		name  string
		line  string // words are separated by blanks
		shows shownText
		code  int // with which it ends
	}{
		{"ls", "ls", cut, 0},
		{"ls-wide", "ls -o wide", full, 0},
		{"ls-matrix", "ls %20", cut, 0},
		{"show", "job show 17..19", full, 0},
		{"why", "job why 18", full, 0},
		{"why-many", "job why %20", full, 0},
		{"rm", "job rm 17 19 --dry-run", cut, 0},
		{"matrix-ls", "matrix ls", cut, 0},
		{"matrix-ls-one", "matrix ls 20", full, 0},
		{"matrix-why", "matrix why 20", full, 0},
		{"matrix-table", "matrix table 20", cut, 0},
		{"machine-ls", "machine ls", cut, 0},
		{"machine-ls-wide", "machine ls -o wide", full, 0},
		{"tag-ls", "tag ls", cut, 0},
		{"var-ls", "var ls", cut, 0},
		{"resource-ls", "resource ls", cut, 0},
		{"status", "status", full, 0},
		{"events", "events --no-wait", full, 0},
		{"stat", "stat 17..19 --jid --cmd --class --status --error --text", data, 0},
		{"machine-check", "machine check -c c", cut, 1},
		{"log", "log -c 17..19", data, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var all strings.Builder
			for _, width := range widths {
				s.env.Screen = view.Screen{Terminal: width > 0, Width: width}
				if code := s.run(strings.Fields(test.line)...); code != test.code {
					t.Fatalf("%s ended with %d: %s", test.line, code, s.stderr.String())
				}
				most := width
				if width == 0 {
					most = mostOffTerminal
				}
				for line := range strings.Lines(s.stdout.String()) {
					line = strings.TrimSuffix(line, "\n")
					if w := view.Width(line); w > most && test.shows != data &&
						(width == 0 || test.shows == cut) {
						t.Errorf("a line of %d columns where %d may be: %.100q…", w, most, line)
					}
					if strings.TrimRight(line, " ") != line && test.shows != data {
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
