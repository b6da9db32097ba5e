package sched

import (
	"strings"
	"testing"

	"jobserver/sched/statepb"
)

// TestTooLong: what grows beyond what a machine can start is refused when it is asked for. None of
// it is built: some of these have more bytes than any memory.
func TestTooLong(t *testing.T) {
	w := newWorld()
	big := strings.Repeat("x", 100_000)
	check(t, w.do(w.s.PlanVar("BIG", big, false, false)))
	check(t, w.do(w.s.PlanVar("TOKEN", big, true, false)))
	job := func(f func(*JobSpec)) func() error {
		return func() error {
			spec := JobSpec{Class: "x", Cmd: "work"}
			f(&spec)
			_, err := w.s.PlanJobs([]JobSpec{spec}, false)
			return err
		}
	}
	matrix := func(cmd string, axes ...*statepb.Axis) func() error {
		return func() error {
			_, err := w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: cmd}, Axes: axes},
				false)
			return err
		}
	}
	setup := func(steps ...string) func() error {
		return func() error {
			_, err := w.s.PlanSetup(SetupSpec{Addrs: []string{"a"}, Class: "x", Steps: steps},
				w.now)
			return err
		}
	}
	variable := func(size int) func() error {
		return func() error {
			_, err := w.s.PlanVar("A", strings.Repeat("x", size), false, false)
			return err
		}
	}
	values := []string{"1", "2", big}
	for _, test := range []struct {
		what string
		plan func() error
		says string // "": it is done
	}{
		{"a variable", job(func(s *JobSpec) { s.Cmd = "true {BIG}" }), ""},
		{"a variable twice", job(func(s *JobSpec) {
			s.Cmd = "true {BIG}{BIG}"
		}), "the command has 200005 bytes when"},
		{"a variable as often as it goes", job(func(s *JobSpec) {
			s.Cmd = "true " + strings.Repeat("{BIG}", 26_000)
		}), "the command has 2600000005 bytes"},
		{"a secret, which is not put in", job(func(s *JobSpec) {
			s.Cmd = "true {TOKEN}{TOKEN}"
		}), ""},
		{"as long as can be", job(func(s *JobSpec) { s.Cmd = strings.Repeat("x", 131_071) }), ""},
		{"a byte longer", job(func(s *JobSpec) {
			s.Cmd = strings.Repeat("x", 131_072)
		}), "at most 131071"},
		{"a path", job(func(s *JobSpec) { s.CpPath = "/" + strings.Repeat("x", 4094) }), ""},
		{"a long path", job(func(s *JobSpec) {
			s.CpPath = "/" + strings.Repeat("x", 4095)
		}), "CP_PATH has 4096 bytes"},
		{"a path that grows", job(func(s *JobSpec) {
			s.CpPath = "/{BIG}"
		}), "CP_PATH has 100001 bytes"},
		{"an environment variable", job(func(s *JobSpec) {
			s.Env = map[string]string{"A": strings.Repeat("x", 131_069)}
		}), ""},
		{"a long one", job(func(s *JobSpec) {
			s.Env = map[string]string{"A": strings.Repeat("x", 131_070)}
		}), "A=VALUE has 131072 bytes"},
		{"many", job(func(s *JobSpec) {
			s.Env = map[string]string{}
			for _, name := range strings.Split("ABCDEFGHIJKLMNOP", "") {
				s.Env[name] = big
			}
		}), "the command and its environment have"},
		{"a matrix", matrix("work {A}", axis("A", values...)), ""},
		{"values that are long together",
			matrix("work {A}{B}", axis("A", values...), axis("B", values...)),
			"the command has 200005 bytes"},
		{"a value that is too long", matrix("work {A}", axis("A", strings.Repeat("x", 131_070))),
			"bytes"},
		{"one that only the environment has",
			matrix("work", axis("A", strings.Repeat("x", 131_070))), "JOBSERVER_A=VALUE"},
		{"a matrix's value wins over a variable's",
			matrix("work {BIG}{BIG}", axis("BIG", "1", "2")), ""},
		{"a setup", setup("{BIG}", "{BIG}"), ""},
		{"a setup that grows", setup("true", "{BIG}{BIG}"), "200000 bytes"},
		{"a variable's value", variable(131_071 - len("JOBSERVER_A=")), ""},
		{"a long value", variable(131_072 - len("JOBSERVER_A=")),
			"JOBSERVER_A=VALUE has 131072 bytes"},
	} {
		err := test.plan()
		switch {
		case test.says == "":
			check(t, err)
		case kindOfError(err) != Invalid || !strings.Contains(err.Error(), test.says):
			t.Errorf("%s: %v", test.what, err)
		}
	}
}

// TestRefusedAtDispatch: a job of an earlier version that is too long to start has failed when its
// turn comes. So have cells of a matrix, and a setup; the machine goes on with the others.
func TestRefusedAtDispatch(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	long := &statepb.Var{Name: "BIG", Value: []byte(strings.Repeat("x", 1<<20))}
	cmd := []byte(strings.Repeat("{BIG}", 200_000)) // 195 GiB
	job := func() *statepb.Job {
		return &statepb.Job{Id: w.s.nextID, Class: "x", Cmd: cmd, Status: Waiting, MaxFailures: -1,
			Vars: []*statepb.Var{long}}
	}
	plain := job()
	check(t, w.do(Plan{Changes: []*Change{{JobSubmitted: &statepb.JobSubmitted{Job: plain}}}}, nil))
	w.wants(t, plain.Id, Failed)
	want := "could not be started: the command has 209715200000 bytes when its variables are put " +
		"in; at most 131071 are possible"
	if got := w.s.Job(plain.Id); got.Error != want || len(got.Attempts) != 0 {
		t.Errorf("after %d attempts the error is %q", len(got.Attempts), got.Error)
	}
	if why, err := w.s.Why(plain.Id, w.now); err != nil || why.Summary != "it "+want ||
		!strings.Contains(why.Hint, "file") {
		t.Errorf("why: %+v, %v", why, err)
	}
	if e := w.events[len(w.events)-1]; e.Kind != "job.failed" || !e.Warn || e.Job != plain.Id {
		t.Errorf("the last event is %+v", e)
	}

	m := &statepb.Matrix{Id: w.s.nextID, FirstJob: w.s.nextID + 1, Cells: 3, Repeats: 1,
		Axes:     []*statepb.Axis{axis("A", "1", "2", "3")},
		Template: &statepb.Job{Class: "x", Cmd: cmd, Vars: []*statepb.Var{long}}}
	check(t,
		w.do(Plan{Changes: []*Change{{MatrixSubmitted: &statepb.MatrixSubmitted{Matrix: m}}}}, nil))
	for i := range uint64(3) {
		w.wants(t, m.FirstJob+i, Failed)
	}

	setup := job()
	setup.Class, setup.Setup = "y",
		&statepb.Setup{Machine: "a", Class: "y", Slots: 1, Steps: [][]byte{cmd}}
	check(t, w.do(Plan{Changes: []*Change{{JobSubmitted: &statepb.JobSubmitted{Job: setup}}}}, nil))
	w.wants(t, setup.Id, Failed)

	ids, err := w.submit(JobSpec{Class: "x", Cmd: "work"})
	check(t, err)
	w.wants(t, ids[0], Running)
}

// TestPathGrewLater: results of a job whose CP_PATH has become too long since it was dispatched go
// nowhere.
func TestPathGrewLater(t *testing.T) {
	j := &statepb.Job{Id: 7, CpPath: strings.Repeat("/{TAG}/..", 500)}
	tag := func(string) (string, bool) { return strings.Repeat("t", 20), true }
	dir, _ := Destination(j, 0, tag)
	if len(dir) != MaxPath+1 {
		t.Errorf("the results go to %s", dir)
	}
}
