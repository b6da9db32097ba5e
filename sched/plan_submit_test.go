package sched

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

func axis(name string, values ...string) *statepb.Axis {
	return &statepb.Axis{Name: name, Values: values}
}

// commands gives the commands of a matrix's cells, in order.
func commands(t *testing.T, spec MatrixSpec) []string {
	t.Helper()
	_, cmds, _, err := NewState().SampleMatrix(spec, false, 1000)
	check(t, err)
	return cmds
}

// TestMatrixOrder: the last axis varies fastest but for the repeats; chosen cells come as they were
// chosen.
func TestMatrixOrder(t *testing.T) {
	job := func(repeat int) JobSpec {
		return JobSpec{Class: "x", Cmd: "{A}{B}{REPEAT}", Repeat: repeat}
	}
	tests := []struct {
		name string
		spec MatrixSpec
		want string
	}{
		{"product",
			MatrixSpec{Job: job(0),
				Axes: []*statepb.Axis{axis("A", "1", "2"), axis("B", "x", "y", "z")}},
			"1x 1y 1z 2x 2y 2z"},
		{"repeats",
			MatrixSpec{Job: job(2),
				Axes: []*statepb.Axis{axis("A", "1", "2"), axis("B", "x", "y")}},
			"1x0 1x1 1y0 1y1 2x0 2x1 2y0 2y1"},
		{"chosen",
			MatrixSpec{Job: job(0), Axes: []*statepb.Axis{axis("A", "1", "2"), axis("B", "x", "y")},
				Cells: [][]uint32{{1, 1, 0}, {0, 0, 0}, {1, 1, 0}}}, "2y 1x 2y"},
		{"chosen repeats",
			MatrixSpec{Job: job(3), Axes: []*statepb.Axis{axis("A", "1"), axis("B", "x", "y")},
				Cells: [][]uint32{{0, 1, 2}, {0, 0, 1}}}, "1y2 1x1"},
		{"a value isn't expanded again",
			MatrixSpec{Job: job(0), Axes: []*statepb.Axis{axis("A", "{B}"), axis("B", "{A}")}},
			"{B}{A}"},
	}
	for _, test := range tests {
		got := strings.ReplaceAll(strings.Join(commands(t, test.spec), " "), "{REPEAT}", "")
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestPackedIndex: values beyond a byte keep their place.
func TestPackedIndex(t *testing.T) {
	var values []string
	for i := range 70_000 {
		values = append(values, fmt.Sprint(i))
	}
	for _, n := range []uint32{0, 255, 256, 65_535, 65_536, 69_999} {
		got := commands(t,
			MatrixSpec{Job: JobSpec{Class: "x", Cmd: "{A}{B}"},
				Axes:  []*statepb.Axis{axis("A", values...), axis("B", "x", "y")},
				Cells: [][]uint32{{n, 1, 0}, {1, 0, 0}}})
		if want := []string{fmt.Sprint(n, "y"), "1x"}; !cmp.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// TestRefused: what can't be submitted is refused with its reason, and a hint where there is one.
func TestRefused(t *testing.T) {
	w := newWorld()
	check(t, w.do(w.s.PlanVar("DATA", "/data", false, false)))
	check(t, w.do(w.s.PlanVar("KEY", "secret", true, false)))
	check(t, w.do(w.s.PlanTag("t")))
	check(t,
		w.do(w.s.PlanMatrix(MatrixSpec{Name: "m", Job: JobSpec{Class: "x", Cmd: "{A}"},
			Axes: []*statepb.Axis{axis("A", "1")}}, false)))
	jobs := func(f func(*JobSpec)) func() error {
		return func() error {
			spec := JobSpec{Class: "x", Cmd: "work"}
			f(&spec)
			_, err := w.s.PlanJobs([]JobSpec{spec}, false)
			return err
		}
	}
	matrix := func(f func(*MatrixSpec)) func() error {
		return func() error {
			spec := MatrixSpec{Job: JobSpec{Class: "x", Cmd: "work {A}"},
				Axes: []*statepb.Axis{axis("A", "1", "2")}}
			f(&spec)
			_, err := w.s.PlanMatrix(spec, false)
			return err
		}
	}
	setup := func(f func(*SetupSpec)) func() error {
		return func() error {
			spec := SetupSpec{Addrs: []string{"a"}, Class: "x", Steps: []string{"one"}}
			f(&spec)
			_, err := w.s.PlanSetup(spec, w.now)
			return err
		}
	}
	machine := func(spec MachineSpec) func() error {
		return func() error { _, err := w.s.PlanMachines([]MachineSpec{spec}, w.now); return err }
	}
	tests := []struct {
		what string
		plan func() error
		kind Kind
		says string
	}{
		{"a job", jobs(func(*JobSpec) {}), "", ""},
		{"no class", jobs(func(s *JobSpec) { s.Class = "" }), Invalid, "class is empty"},
		{"a class with a blank", jobs(func(s *JobSpec) {
			s.Class = "a b"
		}), Invalid, "can't be a class"},
		{"no command", jobs(func(s *JobSpec) { s.Cmd = " " }), Invalid, "command is empty"},
		{"a zero byte", jobs(func(s *JobSpec) { s.Cmd = "a\x00" }), Invalid, "zero byte"},
		{"a long command", jobs(func(s *JobSpec) {
			s.Cmd = strings.Repeat("x", MaxCommand+1)
		}), Invalid, "file"},
		{"a relative path", jobs(func(s *JobSpec) {
			s.CpPath = "results"
		}), Invalid, "not absolute"},
		{"a secret in a path", jobs(func(s *JobSpec) {
			s.CpPath = "/{KEY}"
		}), Invalid, "is a secret"},
		{"a secret in a path and in the command", jobs(func(s *JobSpec) {
			s.Cmd, s.CpPath = "{KEY}", "/{KEY}"
		}), Invalid, "is a secret"},
		{"bytes in a path", jobs(func(s *JobSpec) { s.CpPath = "/\xff" }), Invalid, "UTF-8"},
		{"bytes in a directory", jobs(func(s *JobSpec) { s.Dir = "/\xff" }), Invalid, "UTF-8"},
		{"bytes in a variable's name", jobs(func(s *JobSpec) {
			s.Env = map[string]string{"A\xff": ""}
		}), Invalid, "environment"},
		{"a variable's name with a blank", jobs(func(s *JobSpec) {
			s.Env = map[string]string{"A B": "1"}
		}), Invalid, "\"A B\" can't be an environment variable's name"},
		{"a variable's name that begins with a digit", jobs(func(s *JobSpec) {
			s.Env = map[string]string{"1A": "1"}
		}), Invalid, "can't be an environment variable's name"},
		{"a variable's name with a dash", jobs(func(s *JobSpec) {
			s.SecretEnv = map[string]string{"A-B": "1"}
		}), Invalid, "can't be an environment variable's name"},
		{"a variable without a name", jobs(func(s *JobSpec) {
			s.Env = map[string]string{"": "1"}
		}), Invalid, "can't be an environment variable's name"},
		{"the job's identity as a variable", jobs(func(s *JobSpec) {
			s.Env = map[string]string{"JOBSERVER_JID": "9"}
		}), Invalid, "by the daemon itself"},
		{"an unknown variable in the environment", jobs(func(s *JobSpec) {
			s.Env = map[string]string{"A": "{NOTHING}"}
		}), Invalid, "in the environment"},
		{"a secret from nowhere", jobs(func(s *JobSpec) {
			s.SecretEnv = map[string]string{"NOWHERE": ""}
		}), Invalid, "nothing gives NOWHERE"},
		{"a secret that is no name", jobs(func(s *JobSpec) {
			s.SecretEnv = map[string]string{"A=B": "x"}
		}), Invalid, "environment"},
		{"a secret and no secret", jobs(func(s *JobSpec) {
			s.Env, s.SecretEnv = map[string]string{"A": "x"}, map[string]string{"A": "y"}
		}), Invalid, "set twice"},
		{"too many", jobs(func(s *JobSpec) { s.Repeat = MaxSubmit + 1 }), Invalid, "1000000"},
		{"far too many", jobs(func(s *JobSpec) { s.Repeat = math.MaxInt }), Invalid, "1000000"},
		{"less than none", jobs(func(s *JobSpec) { s.Repeat = -1 }), Invalid, "-1 times"},
		{"retries", jobs(func(s *JobSpec) { s.MaxFailures = -2 }), Invalid, "without limit"},
		{"a timeout", jobs(func(s *JobSpec) { s.Timeout = -1 }), Invalid, "negative"},
		{"a log", jobs(func(s *JobSpec) { s.MaxLog = -1 }), Invalid, "-1 bytes"},
		{"an unknown variable", jobs(func(s *JobSpec) {
			s.Cmd = "{DATE}"
		}), Invalid, "did you mean {DATA}?"},
		{"an unknown variable of a path", jobs(func(s *JobSpec) {
			s.CpPath = "/{NOTHING}"
		}), Invalid, "CP_PATH"},
		{"a secret in a path", jobs(func(s *JobSpec) {
			s.CpPath = "/{KEY}"
		}), Invalid, "$JOBSERVER_KEY"},
		{"a tag that is a number", jobs(func(s *JobSpec) { s.Tag = "77" }), NotFound, "no tag 77"},
		{"a matrix", matrix(func(*MatrixSpec) {}), "", ""},
		{"no axes", matrix(func(s *MatrixSpec) { s.Axes = nil }), Invalid, "needs variables"},
		{"no values", matrix(func(s *MatrixSpec) {
			s.Axes = []*statepb.Axis{axis("A")}
		}), Invalid, "has no values"},
		{"an axis twice", matrix(func(s *MatrixSpec) {
			s.Axes = append(s.Axes, axis("A", "3"))
		}), Invalid, "twice"},
		{"a builtin axis", matrix(func(s *MatrixSpec) {
			s.Axes = []*statepb.Axis{axis("JID", "1")}
		}), Invalid, "by the daemon itself"},
		{"bytes as a value", matrix(func(s *MatrixSpec) {
			s.Axes = []*statepb.Axis{axis("A", "\xff")}
		}), Invalid, "UTF-8"},
		{"a zero byte as a value", matrix(func(s *MatrixSpec) {
			s.Axes = []*statepb.Axis{axis("A", "\x00")}
		}), Invalid, "zero byte"},
		{"a million and one cells", matrix(func(s *MatrixSpec) {
			s.Job.Repeat = MaxCells/2 + 1
		}), Invalid, "1000000"},
		{"far too many cells", matrix(func(s *MatrixSpec) {
			s.Job.Repeat = math.MaxInt
		}), Invalid, "times"},
		{"a cell of another length", matrix(func(s *MatrixSpec) {
			s.Cells = [][]uint32{{1}}
		}), Invalid, "1 numbers"},
		{"a cell without numbers", matrix(func(s *MatrixSpec) {
			s.Cells = [][]uint32{{}}
		}), Invalid, "0 numbers"},
		{"a cell out of range", matrix(func(s *MatrixSpec) {
			s.Cells = [][]uint32{{2, 0}}
		}), Invalid, "value 2 of A"},
		{"a repeat out of range", matrix(func(s *MatrixSpec) {
			s.Cells = [][]uint32{{1, 1}}
		}), Invalid, "repeat 1 of 1"},
		{"no cells", matrix(func(s *MatrixSpec) { s.Cells = [][]uint32{} }), Invalid, "0 cells"},
		{"a name that is a number", matrix(func(s *MatrixSpec) {
			s.Name = "12"
		}), Invalid, "matrix's name"},
		{"a name that is taken", matrix(func(s *MatrixSpec) { s.Name = "m" }), Conflict, "already"},
		{"a setup", setup(func(*SetupSpec) {}), "", ""},
		{"a setup without commands", setup(func(s *SetupSpec) {
			s.Steps = nil
		}), Invalid, "needs commands"},
		{"only a reboot", setup(func(s *SetupSpec) { s.Steps, s.Reboot = nil, true }), "", ""},
		{"a reboot of this host", setup(func(s *SetupSpec) {
			s.Addrs, s.Reboot = []string{"local:1"}, true
		}), Invalid, "this host"},
		{"a machine twice", setup(func(s *SetupSpec) {
			s.Addrs = []string{"a", "a"}
		}), Invalid, "twice"},
		{"a machine", machine(MachineSpec{Addr: "u@h:22", Class: "x"}), "", ""},
		{"an address of nothing", machine(MachineSpec{Class: "x"}), Invalid, "empty"},
		{"an option as an address", machine(MachineSpec{Addr: "-oProxyCommand=x", Class: "x"}),
			Invalid, "dash"},
		{"a command as an address", machine(MachineSpec{Addr: "h;reboot", Class: "x"}), Invalid,
			"character"},
		{"a path as an address", machine(MachineSpec{Addr: "../x", Class: "x"}), Invalid,
			"character"},
		{"a port as a word", machine(MachineSpec{Addr: "h:ssh", Class: "x"}), Invalid, "port"},
		{"a port too high", machine(MachineSpec{Addr: "h:65536", Class: "x"}), Invalid, "port"},
		{"a user of no host", machine(MachineSpec{Addr: "u@", Class: "x"}), Invalid, "no host"},
		{"slots", machine(MachineSpec{Addr: "h", Class: "x", Slots: MaxSlots + 1}), Invalid,
			"slots"},
		{"an end in the past", machine(MachineSpec{Addr: "h", Class: "x", Until: w.now}), Invalid,
			"expire"},
	}
	for _, test := range tests {
		err := test.plan()
		text := ""
		if e, ok := err.(*Error); ok {
			text = e.Msg + " " + e.Next
		}
		if kindOfError(err) != test.kind || !strings.Contains(text, test.says) {
			t.Errorf("%s: %s (%s), want %q (%s)", test.what, text, kindOfError(err), test.says,
				test.kind)
		}
	}
	for _, op := range []Op{OpCancel, OpClone, OpForget, OpRestart, OpTag} {
		if _, err := w.s.PlanAtOnce(Operation{Op: op, Jobs: []uint64{12345},
			Tag: "t"}); kindOfError(err) != NotFound {
			t.Errorf("%s of a job that isn't there: %v", op, err)
		}
	}
	if _, err := w.s.PlanAtOnce(Operation{Op: OpClone, Jobs: []uint64{4},
		Repeat: math.MaxInt}); kindOfError(err) != Invalid {
		t.Error(err)
	}
}

// TestWhatRuns: a run has its command with all variables put in but secrets, which are beside it.
func TestWhatRuns(t *testing.T) {
	w := newWorld()
	w.s.Configure(Config{Driver: []string{"driver", "--print"}, MaxLog: 1 << 20})
	check(t, w.do(w.s.PlanVar("DATA", "/da ta", false, false)))
	check(t, w.do(w.s.PlanVar("KEY", "hunter2", true, false)))
	check(t, w.pool("x", 1, "u@h:2222"))
	_, err := w.submit(JobSpec{Class: "x", Cmd: "run {DATA} {KEY} {JID} {MACHINE} {HOST} {USER} " +
		"{PORT} {SLOT} {CLASS} {ATTEMPT} [{TAG}] [{MATRIX}]",
		Env: map[string]string{"B": "2", "A": "1"}, Timeout: time.Minute})
	check(t, err)
	check(t, w.do(w.s.PlanVar("DATA", "other", false, false))) // too late for the job
	r := w.running()[0]
	if got, want := string(r.Command),
		"run /da ta ${JOBSERVER_KEY} 1 u@h:2222 h u 2222 0 x 1 [] []"; got != want {
		t.Errorf("it runs %s, want %s", got, want)
	}
	if string(r.Secrets["KEY"]) != "hunter2" ||
		strings.Contains(fmt.Sprint(r.Env, w.s.Job(1)), "hunter2") {
		t.Errorf("secrets: %q, environment: %q", r.Secrets, r.Env)
	}
	tail := r.Env[len(r.Env)-3:]
	if diff := cmp.Diff([]string{"JOBSERVER_DATA=/da ta", "A=1", "B=2"}, tail); diff != "" {
		t.Error(diff)
	}
	if r.Timeout != time.Minute || r.MaxLog != 1<<20 {
		t.Error(r.Timeout, r.MaxLog)
	}
	w.ends(t, 1, exit(0))
	p, err := w.s.PlanJobs([]JobSpec{{Class: "x", Cmd: `go '{DATA} x' {JID}`}}, true)
	check(t, w.do(p, err))
	if diff := cmp.Diff([]string{"driver", "--print", "go", "other x", "2"},
		w.running()[0].Argv); diff != "" {
		t.Error(diff)
	}
}

func TestDestination(t *testing.T) {
	tests := []struct {
		path   string
		flat   bool
		dir    string
		shared bool
	}{
		{"/r", false, "/r/7", false},
		{"/r/", false, "/r/7", false},
		{"/r/{JID}", false, "/r/7", false},
		{"/r/{JID}.d/x", false, "/r/7.d/x", false},
		{"/r/{CLASS}", false, "/r/x/7", false},
		{"/r/{MACHINE}/a{ATTEMPT}", false, "/r/m/a1/7", false},
		{"/r/{{JID}}", false, "/r/{JID}/7", false},
		{"/r", true, "/r", true},
		{"/r/{JID}", true, "/r/7", true},
		{"/r/../s", false, "/s/7", false},
	}
	s := NewState()
	for _, test := range tests {
		j := &statepb.Job{Id: 7, Class: "x", CpPath: test.path, Flat: test.flat}
		dir, shared := Destination(j, 0, s.lookup(j, &statepb.Attempt{Number: 1, Machine: "m"}))
		if dir != test.dir || shared != test.shared {
			t.Errorf("%s (flat: %v): %s, %v; want %s, %v", test.path, test.flat, dir, shared,
				test.dir, test.shared)
		}
	}
}

func TestHostParts(t *testing.T) {
	for addr, want := range map[string]string{
		"h": " h ", "u@h": "u h ", "u@h:22": "u h 22", "h:22": " h 22", "[::1]:22": " ::1 22",
		"u@[fe80::1]": "u fe80::1 ", "::1": " ::1 ", "local": " localhost ",
		"local:2": " localhost ",
	} {
		user, host, port := hostParts(addr)
		if got := user + " " + host + " " + port; got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

// TestQueueOrder: higher priority first, then lower ids, matrices among single jobs.
func TestQueueOrder(t *testing.T) {
	w := newWorld()
	_, err := w.submit(JobSpec{Class: "x", Cmd: "1"}, JobSpec{Class: "x", Cmd: "2", Priority: -1})
	check(t, err)
	// 4, 5
	check(t,
		w.do(w.s.PlanMatrix(MatrixSpec{Job: JobSpec{Class: "x", Cmd: "c {A}"},
			Axes: []*statepb.Axis{axis("A", "1", "2")}}, false)))
	_, err = w.submit(JobSpec{Class: "x", Cmd: "6"}, JobSpec{Class: "x", Cmd: "7", Priority: 5})
	check(t, err)
	check(t, w.pool("x", 1, "a"))
	var order []uint64
	for len(w.running()) > 0 {
		id := w.running()[0].Ref.Job
		order = append(order, id)
		w.ends(t, id, exit(0))
	}
	if diff := cmp.Diff([]uint64{7, 1, 4, 5, 6, 2}, order); diff != "" {
		t.Error(diff)
	}
}

// TestPaths: a run's logs have names of their own, in a folder per thousand jobs.
func TestPaths(t *testing.T) {
	r := &statepb.RunRef{Job: 12345, Attempt: 2, Step: 1}
	if got := LogPath("/logs", r, true); got != "/logs/000012/12345.2.1.err" {
		t.Error(got)
	}
	if got := LogPath("/logs", &statepb.RunRef{Job: 7, Attempt: 1},
		false); got != "/logs/000000/7.1.out" {
		t.Error(got)
	}
}
