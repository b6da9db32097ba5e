package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/api"
	"jobserver/cli"
)

// TestRequests holds what the flags ask the daemon for.
func TestRequests(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		line string // words are separated by |
		want any    // the arguments of the method
	}
	job := func(change func(*api.JobSpec)) *api.AddJobsArgs {
		spec := api.JobSpec{Class: "foo", Cmd: "run it", Dir: dir, Repeat: 1}
		change(&spec)
		return &api.AddJobsArgs{Jobs: []api.JobSpec{spec}}
	}
	matrix := func(change func(*api.AddMatrixArgs)) *api.AddMatrixArgs {
		args := &api.AddMatrixArgs{Matrix: api.MatrixSpec{
			Vars: []api.Axis{{Name: "I", Values: []string{"1", "2"}},
				{Name: "K", Values: []string{"a,b", "", "c\\d"}}},
			Job: api.JobSpec{Class: "foo", Cmd: "run it", CpPath: "out", Dir: dir, Repeat: 1,
				MaxFailures: 3},
		}}
		change(args)
		return args
	}
	gpu := api.MachineSelector{Addrs: []string{"gpu1", "gpu2"}}
	for method, requests := range map[string][]request{
		"AddJobs": {
			{"job|add|foo|run it", job(func(*api.JobSpec) {})},
			{"add|foo|run it|out|-x|3|--retry", job(func(j *api.JobSpec) {
				j.CpPath, j.Repeat, j.MaxFailures = "out", 3, -1
			})},
			{"add|foo|run it|--retry|--max_failures|5", job(func(j *api.JobSpec) {
				j.MaxFailures = 5
			})},
			{"add|foo|run it|--max-failures|-1", job(func(j *api.JobSpec) { j.MaxFailures = -1 })},
			{"add|foo|run it|--timeout|90", job(func(j *api.JobSpec) {
				j.Timeout = 90 * time.Minute
			})},
			{"add|foo|run it|--timeout|1d12h", job(func(j *api.JobSpec) {
				j.Timeout = 36 * time.Hour
			})},
			{"add|foo|run it|--tag|5|--notify|--hold|--priority|-2|--flat|--max-log|10M",
				job(func(j *api.JobSpec) {
					j.Tag, j.Notify, j.Hold, j.Priority, j.Flat, j.MaxLog = "5", true, true, -2,
						true,
						10<<20
				})},
			{"add|foo|run it|--input|data|--input|/d/{JID}.csv=set|--input|{AFTER_RESULTS}/a=b/m",
				job(func(j *api.JobSpec) {
					j.Inputs = []api.Input{{Name: "data", Path: "data"}, {Name: "set",
						Path: "/d/{JID}.csv"}, {Name: "m", Path: "{AFTER_RESULTS}/a=b/m"}}
				})},
			{"add|foo|--env|A=1;2,3|--env|B==|run it", job(func(j *api.JobSpec) {
				j.Env = map[string]string{"A": "1;2,3", "B": "="}
			})},
		},
		"AddMatrix": {
			{`matrix|add|foo|run it|out|I=1,2|K=a\,b,,c\\d`, matrix(func(*api.AddMatrixArgs) {})},
			{`job|matrix|add|foo|run it|out|I=1,2|-x|2|K=a\,b,,c\\d|--max-failures|0|--name|n|--dry-run`, matrix(func(m *api.AddMatrixArgs) {
				m.DryRun, m.Again, m.Matrix.Name = true, true, "n"
				m.Matrix.Job.Repeat, m.Matrix.Job.MaxFailures = 2, 0
			})},
		},
		"SetupMachines": {
			{"machine|setup|-m|gpu1|-m|gpu2|-c|foo|make|make test",
				&api.SetupArgs{MachineSelector: gpu, Class: "foo",
					Steps: []string{"make", "make test"}}},
			{"machine|setup|-m|gpu1|gpu2|--slots|4|--timeout|5|--stagger|30|--verify|true|" +
				"--until|2d|--notify|--|-x", &api.SetupArgs{
				MachineSelector: gpu, Slots: 4, Steps: []string{"-x"}, Timeout: 5 * time.Minute,
				Stagger: 30 * time.Second, Verify: "true",
				Until: testNow.Add(48 * time.Hour), Notify: true,
			}},
			{"machine|setup|-e|-c|foo|--stagger|2m|make", &api.SetupArgs{
				MachineSelector: api.MachineSelector{Classes: []string{"foo"}}, Existing: true,
				Steps: []string{"make"}, Stagger: 2 * time.Minute,
			}},
		},
		"AddMachines": {
			{"machine|add|me@gpu1:2222|foo",
				&api.AddMachinesArgs{Addrs: []string{"me@gpu1:2222"}, Class: "foo"}},
			{"machine|add|gpu1|--slots|2|gpu2|foo|--until|1h",
				&api.AddMachinesArgs{Addrs: []string{"gpu1", "gpu2"}, Class: "foo", Slots: 2,
					Until: testNow.Add(time.Hour)}},
		},
		"ChangeMachines": {
			{"machine|mv|-m|gpu1|gpu2|bar",
				&api.ChangeMachinesArgs{MachineSelector: gpu, Op: api.MachineMove, Class: "bar"}},
			{"machine|drain|gpu1|gpu2",
				&api.ChangeMachinesArgs{MachineSelector: gpu, Op: api.MachineDrain}},
			{"machine|rm|-m|gpu1|-m|gpu2|--force",
				&api.ChangeMachinesArgs{MachineSelector: gpu, Op: api.MachineRemove, Force: true}},
		},
		"ListJobs": {
			{"", &api.ListJobsArgs{Last: 40, Collapse: true}},
			{"-o|json", &api.ListJobsArgs{Full: true}},
			{"ls|-n|5|--expand", &api.ListJobsArgs{Last: 5, Full: true}},
			{"ls|-r", &api.ListJobsArgs{Running: true}},
			{"ls|%93:failed|last",
				&api.ListJobsArgs{Selectors: []string{"%93:failed", "last"}, Collapse: true,
					Full: true}},
			{"ls|-a", &api.ListJobsArgs{Collapse: true}},
		},
		api.ChangeJobs: {
			{"job|rm|1|-f|2",
				&api.ChangeJobsArgs{Op: api.OpForget, Selectors: []string{"1", "2"}, Max: 20}},
			{"job|cancel|:failed|-y",
				&api.ChangeJobsArgs{Op: api.OpCancel, Selectors: []string{":failed"}}},
			{"job|clone|4|-x|3",
				&api.ChangeJobsArgs{Op: api.OpClone, Selectors: []string{"4"}, Max: 20, Repeat: 3}},
			{"job|settimeout|90|4|5",
				&api.ChangeJobsArgs{Op: api.OpSetTimeout, Selectors: []string{"4", "5"}, Max: 20,
					Timeout: 90 * time.Minute}},
			{"job|lost|--retry|4|--dry-run",
				&api.ChangeJobsArgs{Op: api.OpLost, Selectors: []string{"4"}, Retry: true,
					DryRun: true}},
			{"tag|set|4|%5|nightly",
				&api.ChangeJobsArgs{Op: api.OpTag, Selectors: []string{"4", "%5"}, Tag: "nightly",
					Max: 20}},
			{"job|tag|unset|4",
				&api.ChangeJobsArgs{Op: api.OpUntag, Selectors: []string{"4"}, Max: 20}},
			{"job|recopy|:uncopied",
				&api.ChangeJobsArgs{Op: api.OpRecopy, Selectors: []string{":uncopied"}, Max: 20}},
		},
		"SetVar": {
			{"var|set|X|-5", &api.SetVarArgs{Name: "X", Value: "-5"}},
			{"var|set|X||--secret", &api.SetVarArgs{Name: "X", Secret: true}},
			{"var|unset|X", &api.SetVarArgs{Name: "X", Unset: true}},
		},
	} {
		for _, r := range requests {
			t.Run(r.line, func(t *testing.T) {
				s := newSession(t)
				for name, reply := range map[string]any{
					"AddJobs":        &api.AddJobsReply{JIDs: []uint64{7}},
					"AddMatrix":      &api.AddMatrixReply{ID: 6, FirstJID: 7, Cells: 4},
					"SetupMachines":  &api.SetupReply{},
					"AddMachines":    &api.ChangeMachinesReply{},
					"ChangeMachines": &api.ChangeMachinesReply{}, "ListJobs": &api.ListJobsReply{},
					api.ChangeJobs: &api.ChangeJobsReply{}, "SetVar": &api.Empty{},
					"Complete": &api.CompleteReply{},
				} {
					s.daemon.answers[name] = func(any) (any, error) { return reply, nil }
				}
				var words []string
				if r.line != "" {
					words = strings.Split(r.line, "|")
				}
				if code := s.run(words...); code != 0 {
					t.Fatalf("exit code %d: %s", code, s.stderr.String())
				}
				for _, call := range slices.Backward(s.daemon.calls) {
					// before a change there may be a dry run
					if call.Method == method {
						if diff := cmp.Diff(r.want, call.Args); diff != "" {
							t.Error(diff)
						}
						return
					}
				}
				t.Errorf("%s was not called", method)
			})
		}
	}
}

// TestManyMachines has the machines counted as well as the jobs that a removal cancels, whatever
// names them.
func TestManyMachines(t *testing.T) {
	pool := func(machines, jobs int) []api.Machine {
		var pool []api.Machine
		for i := range machines {
			m := api.Machine{Addr: fmt.Sprint("m", i)}
			for range jobs {
				m.Running = append(m.Running, uint64(100*i+len(m.Running)+1))
			}
			pool = append(pool, m)
		}
		return pool
	}
	words := make([]string, 21)
	for i := range words {
		words[i] = fmt.Sprint("m", i)
	}
	many := strings.Join(words, " ")
	for _, test := range []struct {
		line  string
		pool  []api.Machine
		asked string // "": it isn't
	}{
		{"rm m0", pool(1, 20), ""},
		{"rm m0", pool(1, 21), "remove 1 machine, with 21 jobs running there"},
		{"rm -c foo", pool(3, 7), "remove 3 machines, with 21 jobs running there"},
		{"rm -c foo --yes", pool(30, 7), ""},
		{"rm " + many, pool(21, 0), "remove 21 machines"},
		{"drain m0", pool(1, 30), ""},
		{"drain " + many, pool(21, 1), "drain 21 machines"},
		{"drain --yes " + many, pool(21, 1), ""},
		{"resume -c foo", pool(20, 0), ""},
		{"resume -c foo", pool(21, 0), "resume 21 machines"},
		{"mv -c foo bar", pool(21, 1), "move 21 machines"},
		{"clean -c foo", pool(21, 0), "clean 21 machines"},
	} {
		s := newSession(t)
		changed := false
		on(s.daemon, "ChangeMachines", func(args *api.ChangeMachinesArgs) (any, error) {
			changed = changed || !args.DryRun
			return &api.ChangeMachinesReply{Machines: test.pool}, nil
		})
		code := s.run(append([]string{"machine"}, strings.Fields(test.line)...)...)
		switch want := fmt.Sprintf("error: %s: that is more than 20,", test.asked); {
		case test.asked == "" && (code != cli.ExitDone || !changed):
			t.Errorf("%s: exit code %d: %s", test.line, code, s.stderr.String())
		case test.asked != "" &&
			(code != cli.ExitFailed || changed || !strings.Contains(s.stderr.String(), want)):
			t.Errorf("%s: exit code %d, changed: %v: %s", test.line, code, changed,
				s.stderr.String())
		}
	}
}

// TestManySelectors reads a hundred thousand ids from stdin, and changes them in one call.
func TestManySelectors(t *testing.T) {
	const n = 100_000
	s := newSession(t)
	on(s.daemon, api.ChangeJobs, func(args *api.ChangeJobsArgs) (any, error) {
		return &api.ChangeJobsReply{Total: len(args.Selectors), Changed: len(args.Selectors)}, nil
	})
	s.env.Stdin = strings.NewReader(strings.Repeat("17\n", n))
	if code := s.run("job", "rm", "-", "--yes"); code != 0 {
		t.Fatal(s.stderr.String())
	}
	if got := len(asked[api.ChangeJobsArgs](t, s, api.ChangeJobs).Selectors); got != n {
		t.Errorf("%d selectors were sent", got)
	}
}

// TestPages asks for page after page, and shows all of them.
func TestPages(t *testing.T) {
	s := newSession(t)
	on(s.daemon, "ListJobs", func(args *api.ListJobsArgs) (any, error) {
		reply := &api.ListJobsReply{Jobs: []api.Job{{JID: args.After + 1},
			{JID: args.After + 2, ExitCode: api.Some(0)}}}
		if args.After < 4 {
			reply.Next = args.After + 2
		}
		return reply, nil
	})
	s.run("ls", "-o", "id")
	if diff := cmp.Diff("1\n2\n3\n4\n5\n6\n", s.stdout.String()); diff != "" {
		t.Error(diff)
	}
	s.run("stat", "--id", "%9", "--json", "--jid", "--exit_code")
	if want := `{"jid":6,"exit_code":0}]`; !strings.Contains(s.stdout.String(), want) {
		t.Errorf("%q is missing in %s", want, s.stdout.String())
	}
}

// TestWatch shows the listing anew after each change, asks with what the answer before said, and
// ends with the daemon.
func TestWatch(t *testing.T) {
	s := newSession(t)
	looks := 0
	on(s.daemon, "ListJobs", func(*api.ListJobsArgs) (any, error) {
		looks++
		return &api.ListJobsReply{Cursor: uint64(10 * looks),
			Jobs: []api.Job{{JID: uint64(looks), Status: api.StatusDone, Cmd: "true"}}}, nil
	})
	var asked []api.ChangesArgs
	on(s.daemon, "Changes", func(args *api.ChangesArgs) (any, error) {
		asked = append(asked, *args)
		if args.Since == 20 {
			return nil, api.Errorf(api.Unavailable, "the daemon stopped")
		}
		return &api.ChangesReply{Cursor: args.Since + 1, Pulse: 7, Events: 1}, nil
	})
	if code := s.run("ls", "--watch"); code != cli.ExitUnavailable {
		t.Errorf("exit code %d", code)
	}
	want := []api.ChangesArgs{
		{Since: 10, Wait: cli.WaitPoll, Pause: 200 * time.Millisecond},
		{Since: 20, Pulse: 7, Wait: cli.WaitPoll, Pause: 200 * time.Millisecond},
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	if got := strings.Count(s.stdout.String(), "Command"); got != 2 {
		t.Errorf("%d screens: %s", got, s.stdout.String())
	}
}

// TestEventsAhead: a cursor that no event has yet is told once, and what follows the newest one is
// printed.
func TestEventsAhead(t *testing.T) {
	s := newSession(t)
	var since []uint64
	on(s.daemon, "Events", func(args *api.EventsArgs) (any, error) {
		since = append(since, args.Since)
		if args.Since > 20 {
			return &api.EventsReply{Cursor: 20, Gap: true}, nil
		}
		return &api.EventsReply{Cursor: 21,
			Events: []api.Event{{Cursor: 21, Kind: "job.done"}}}, nil
	})
	if code := s.run("events", "--since", "99", "-n", "1", "-q"); code != 0 ||
		s.stdout.String() != "21\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, s.stdout.String(), s.stderr.String())
	}
	if diff := cmp.Diff([]uint64{99, 20}, since); diff != "" {
		t.Error(diff)
	}
}

// TestInterrupted ends with 130 wherever the command waits, and says what became of a change.
func TestInterrupted(t *testing.T) {
	for _, line := range []string{"wait 1", "events", "ls -w", "job rm 1"} {
		s := newSession(t)
		ctx, cancel := context.WithCancel(t.Context())
		hang := func(any) (any, error) {
			cancel()
			return nil, context.Canceled
		}
		s.daemon.answers = map[string]func(any) (any, error){
			"Wait": hang, "Events": hang, "Changes": hang, api.ChangeJobs: hang,
			"Status":   func(any) (any, error) { return &api.Status{}, nil },
			"ListJobs": func(any) (any, error) { return &api.ListJobsReply{}, nil },
		}
		if code := run(ctx, s.env, strings.Fields(line)); code != cli.ExitInterrupted {
			t.Errorf("%s: exit code %d, stderr %s", line, code, s.stderr.String())
		}
		if line == "job rm 1" &&
			!strings.Contains(s.stderr.String(), "all of it was done or none") {
			t.Errorf("stderr %q", s.stderr.String())
		}
	}
}

// TestNoPager says what is missing, and what to do without it.
func TestNoPager(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := newSession(t)
	on(s.daemon, "ListJobs", func(*api.ListJobsArgs) (any, error) {
		return &api.ListJobsReply{Jobs: []api.Job{{JID: 1, Status: api.StatusDone,
			Log: "/logs/1.1.out"}}}, nil
	})
	if code := s.run("log", "-l", "1"); code != cli.ExitFailed ||
		!strings.Contains(s.stderr.String(), "install less, or print the log with j job log -c") {
		t.Errorf("exit code %d, stderr %s", code, s.stderr.String())
	}
}

// TestZeros has zeros that mean something arrive, though gob leaves out zeros.
func TestZeros(t *testing.T) {
	s := newSession(t)
	on(s.daemon, "ListJobs", func(*api.ListJobsArgs) (any, error) {
		return &api.ListJobsReply{Jobs: []api.Job{
			{JID: 1, Status: api.StatusDone, Machine: "m", Slot: api.Some(0), Matrix: 9,
				Cell: api.Some(0), ExitCode: api.Some(0),
				Attempts: []api.Attempt{{Outcome: "exited", ExitCode: api.Some(0)}}},
			{JID: 2, Status: api.StatusWaiting},
		}}, nil
	})
	s.run("ls", "-o", "jsonl")
	first, second, _ := strings.Cut(s.stdout.String(), "\n")
	for _, want := range []string{`"slot":0`, `"cell":0`,
		`"attempts":[{"attempt":0,"machine":"","slot":0,"outcome":"exited","exit_code":0`,
		`],"exit_code":0`} {
		if !strings.Contains(first, want) {
			t.Errorf("%s is missing in %s", want, first)
		}
	}
	if strings.Contains(second, "slot") || strings.Contains(second, "exit_code") {
		t.Errorf("a waiting job has neither: %s", second)
	}
}

// TestRepeatedAnswers: a change that was done before its first answer got lost isn't told as one
// that changed nothing.
func TestRepeatedAnswers(t *testing.T) {
	for _, test := range []struct {
		line, method string
		reply        any
		stdout, says string
	}{
		{"job rm 1 2 3", api.ChangeJobs, &api.ChangeJobsReply{Repeated: true}, "",
			"done before the connection was lost: all that could be was canceled; `j job ls 1 2 " +
				"3` shows the jobs"},
		{"job restart 1 2", api.ChangeJobs,
			&api.ChangeJobsReply{Repeated: true, JIDs: []uint64{7, 8}}, "7\n8\n",
			"done before the connection was lost: all that could be was restarted"},
		{"machine drain -m a", "ChangeMachines",
			&api.ChangeMachinesReply{Repeated: true, Machines: []api.Machine{{Addr: "a"}}}, "a\n",
			"done before the connection was lost: the machines were drained"},
		{"matrix add x cmd{A} /r A=1,2", "AddMatrix",
			&api.AddMatrixReply{Repeated: true, ID: 6, Cells: 2}, "6\n",
			"done before the connection was lost: matrix 6 has 2 jobs to run"},
	} {
		t.Run(test.line, func(t *testing.T) {
			s := newSession(t)
			s.daemon.answers[test.method] = func(any) (any, error) { return test.reply, nil }
			s.daemon.answers["ListMachines"] = func(any) (any, error) {
				return &api.ListMachinesReply{}, nil
			}
			if code := s.run(strings.Fields(test.line)...); code != 0 ||
				!strings.Contains(s.stderr.String(), test.says) ||
				s.stdout.String() != test.stdout {
				t.Errorf("exit code %d\n%s%s", code, s.stdout.String(), s.stderr.String())
			}
		})
	}
	s := newSession(t)
	on(s.daemon, "ChangeMatrix", func(args *api.ChangeMatrixArgs) (any, error) {
		reply := &api.ChangeMatrixReply{Matrix: api.Matrix{ID: 6}, Changed: 4}
		if !args.DryRun {
			reply = &api.ChangeMatrixReply{Repeated: true}
		}
		return reply, nil
	})
	if code := s.run("matrix", "rm", "6"); code != 0 ||
		!strings.Contains(s.stderr.String(), "lost: 4 jobs of matrix 6 forgotten") {
		t.Errorf("exit code %d, %s", code, s.stderr.String())
	}
}
