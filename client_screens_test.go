package main

import (
	"io"
	"path/filepath"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
	"jobserver/cli/show"
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
