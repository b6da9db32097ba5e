// Package compression_test runs the example as its readers do: a daemon, three machines that are
// real sshds, a matrix of compressions of the Go source tree, and what may go wrong in the middle
// of it.
package compression_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// tree is the part of the Go source tree that the test compresses: some 8 MB of it, as xz takes
// minutes for all.
const tree = "src/go src/net src/strings"

// cells of the matrix below.
const cells = 3 * 4 * 2

// lab is a daemon with three machines.
type lab struct {
	*daemontest.Daemon
	machines []string // aliases of the ssh configuration
	results  string
	ledger   string // every run that begins adds a line
}

func newLab(t *testing.T, serve ...string) *lab {
	t.Helper()
	for _, tool := range []string{"gzip", "xz", "zstd"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool)
		}
	}
	l := &lab{results: filepath.Join(t.TempDir(), "results"),
		ledger: filepath.Join(t.TempDir(), "ledger")}
	first := sshtest.Start(t)
	l.machines = []string{first.Name}
	for range 2 {
		l.machines = append(l.machines, sshtest.Start(t, sshtest.Shared(first.Client)).Name)
	}
	t.Setenv("SSH_CONFIG", first.ConfigFile)
	l.Daemon = daemontest.New(t, append(serve, "--ssh-config", first.ConfigFile)...)
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	l.J(t, "var", "set", "GOROOT", strings.TrimSpace(string(goroot)))
	l.J(t, "var", "set", "TREE", tree)
	l.J(t, "var", "set", "LEDGER", l.ledger)
	l.setup(t, l.machines...)
	return l
}

// missing ends a test for want of a program: a run that counts has all of them.
func missing(t *testing.T, tool string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: install it", tool)
	}
	t.Skipf("%s is missing: install it", tool)
}

// setup puts the corpus and the script on machines, and waits for it.
func (l *lab) setup(t *testing.T, machines ...string) {
	t.Helper()
	prepare, compress := read(t, "prepare.sh"), read(t, "compress.sh")
	args := append([]string{"machine", "setup", "-q", "-c", "bench", "-m"}, machines...)
	args = append(args, "--verify", "sh -n ~/compress.sh", "--", prepare,
		"cat > ~/compress.sh <<'END'\n"+compress+"END")
	ids := strings.Fields(l.J(t, args...))
	if len(ids) != len(machines) {
		t.Fatalf("setup of %d machines gave the ids %q", len(machines), ids)
	}
	l.J(t, append([]string{"job", "wait"}, ids...)...)
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// submit submits the matrix and gives its id.
func (l *lab) submit(t *testing.T, cmd string) string {
	t.Helper()
	return strings.TrimSpace(l.J(t, "matrix", "add", "-q", "bench", cmd, l.results,
		"TOOL=gzip,xz,zstd", "LEVEL=1,2,3,4", "THREADS=1,2"))
}

// waitDone waits until so many cells of the matrix are done.
func (l *lab) waitDone(t *testing.T, matrix string, n int) {
	t.Helper()
	client, err := l.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for cursor := uint64(0); ; {
		var reply api.WaitReply
		args := &api.WaitArgs{Selectors: []string{"%" + matrix}, Wait: time.Minute, Cursor: cursor}
		if err := client.Call(t.Context(), "Jobserver.Wait", args, &reply); err != nil {
			t.Fatal(err)
		}
		if reply.Counts.Done >= n {
			return
		}
		if reply.Done {
			t.Fatalf("the matrix has ended with %+v:\n%s", reply.Counts, l.J(t, "job", "ls", "-a"))
		}
		cursor = reply.Cursor
	}
}

// jobs lists the jobs of a matrix with all that is known of them.
func (l *lab) jobs(t *testing.T, matrix string) []api.Job {
	t.Helper()
	client, err := l.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var reply api.ListJobsReply
	if err := client.Call(t.Context(), "Jobserver.ListJobs",
		&api.ListJobsArgs{Selectors: []string{"%" + matrix}, Full: true}, &reply); err != nil {
		t.Fatal(err)
	}
	return reply.Jobs
}

// check checks that every cell has its results, its record and its whole log, and that nothing ran
// twice.
func (l *lab) check(t *testing.T, matrix string, record string) {
	t.Helper()
	jobs := l.jobs(t, matrix)
	if len(jobs) != cells {
		t.Fatalf("the matrix has %d jobs, want %d", len(jobs), cells)
	}
	runs := map[string]int{}
	for line := range strings.Lines(read(t, l.ledger)) {
		runs[strings.TrimSpace(line)]++
	}
	for i := range jobs {
		j := &jobs[i]
		id := strconv.FormatUint(j.JID, 10)
		if j.Status != "done" || j.ResultsStatus != "copied" {
			t.Errorf("job %s is %s, its results %s: %s %s", id, j.Status, j.ResultsStatus, j.Error,
				j.ResultsError)
			continue
		}
		dir := filepath.Join(l.results, id)
		if j.ResultsDir != dir {
			t.Errorf("the results of job %s are in %s, want %s", id, j.ResultsDir, dir)
		}
		var kept map[string]any
		if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, record))), &kept); err != nil {
			t.Errorf("the record of job %s: %v", id, err)
		}
		log := read(t, j.Log)
		if want := fmt.Sprintf("%s -%s with %s threads", j.Vars["TOOL"], j.Vars["LEVEL"],
			j.Vars["THREADS"]); !strings.Contains(log, want) ||
			!strings.Contains(log, "RESULTS: ") {
			t.Errorf("the log of job %s is not whole: %q", id, log)
		}
		for _, a := range j.Attempts {
			run := fmt.Sprintf("%s.%d", id, a.Attempt)
			if runs[run] > 1 {
				t.Errorf("attempt %d of job %s ran %d times", a.Attempt, id, runs[run])
			}
			if a.Outcome == "exited" && runs[run] != 1 {
				t.Errorf("attempt %d of job %s has exited and left no mark", a.Attempt, id)
			}
		}
	}
	out, err := exec.Command("./collect.sh", l.results).Output()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(out))).ReadAll()
	if err != nil || len(rows) != cells+1 {
		t.Fatalf("the table has %d rows, %v:\n%s", len(rows), err, out)
	}
	for _, row := range rows[1:] {
		if ratio, err := strconv.ParseFloat(row[4], 64); err != nil || ratio < 2 || ratio > 20 {
			t.Errorf("nobody compresses Go's sources by %s: %v", row[4], row)
		}
	}
}

// TestMatrix runs the whole experiment. In the middle of it one machine is removed and set up
// again, and the daemon is killed and started again.
func TestMatrix(t *testing.T) {
	l := newLab(t)
	matrix := l.submit(t, "echo $JOBSERVER_JID.$JOBSERVER_ATTEMPT >> {LEDGER}; sh ~/compress.sh "+
		"{TOOL} {LEVEL} {THREADS}")
	l.waitDone(t, matrix, 3)
	gone := l.machines[1]
	l.J(t, "machine", "rm", "-m", gone)
	l.waitDone(t, matrix, 6)
	if err := l.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.setup(t, gone)
	l.J(t, "job", "wait", "%"+matrix)
	l.check(t, matrix, "job.json")
	if machines := l.J(t, "machine", "ls", "-o", "id"); !strings.Contains(machines, gone) {
		t.Errorf("%s is not back: %s", gone, machines)
	}
}

// TestDriver runs the same matrix as users of the original do: a driver on the host reaches the
// machine by itself.
func TestDriver(t *testing.T) {
	driver := filepath.Join(t.TempDir(), "driver")
	script, err := filepath.Abs("driver.sh")
	if err != nil {
		t.Fatal(err)
	}
	ledger := filepath.Join(t.TempDir(), "ledger")
	wrapper := fmt.Sprintf("#!/bin/sh\necho $JOBSERVER_JID.$JOBSERVER_ATTEMPT >> %s\nexec %s "+
		"\"$@\"\n", ledger, script)
	if err := os.WriteFile(driver, []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, "--driver", driver)
	l.ledger = ledger
	matrix := l.submit(t, "{MACHINE} {TOOL} {LEVEL} {THREADS}")
	l.waitDone(t, matrix, 4)
	if err := l.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.J(t, "job", "wait", "%"+matrix)
	l.check(t, matrix, "job.json")
}

// TestSweep applies the experiment as a file on a small corpus, extends it by a value, of which one
// tool's cells fail, mends the script, and looks at the table and the plot.
func TestSweep(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	experiment := strings.NewReplacer("test -s ~/corpus.tar ||",
		"head -c 300000 ~/corpus.tar > small && mv small ~/corpus.tar ||",
		"repeats: 5", "repeats: 3").Replace(read(t, "experiment.yaml"))
	script := read(t, "compress.sh")
	apply := func(want string) {
		t.Helper()
		write("experiment.yaml", experiment)
		_, said, code, err := l.Run(t.Context(), "matrix", "apply",
			filepath.Join(dir, "experiment.yaml"))
		if err != nil || code != 0 || !strings.Contains(said, want) {
			t.Fatalf("applied with exit code %d, %v, want %q:\n%s", code, err, want, said)
		}
		l.Run(t.Context(), "job", "wait", "%compression")
	}
	write("compress.sh", script)
	apply("27 jobs")
	before := l.jobs(t, "compression")

	experiment = strings.Replace(experiment, "LEVEL: [1, 3, 6]", "LEVEL: [1, 3, 6, 9]", 1)
	write("compress.sh", strings.Replace(script, "set -eu\n", "set -eu\ntest \"$1$2\" != xz9 || "+
		"{ echo no memory >&2; exit 5; }\n", 1))
	apply("9 jobs; 9 new, 0 again, 27 done")
	if table := l.J(t, "matrix", "table", "compression", "--rows", "LEVEL", "--cols", "TOOL",
		"--cell", "ratio"); !strings.Contains(table, "3 failed") {
		t.Errorf("the cells that failed can't be seen:\n%s", table)
	}
	if why := l.J(t, "matrix", "why", "compression"); !strings.Contains(why, "no memory") {
		t.Errorf("why they failed can't be seen:\n%s", why)
	}
	write("compress.sh", script)
	apply("3 jobs; 0 new, 3 again, 33 done")

	after := l.jobs(t, "compression")
	if len(after) != 36 {
		t.Fatalf("the sweep has %d cells", len(after))
	}
	for i := range before { // they come in the order of their cells
		if after[i].JID != before[i].JID || len(after[i].Attempts) != 1 ||
			!after[i].EndedAt.Equal(*before[i].EndedAt) {
			t.Errorf("job %d, which was done, has run again as %d", before[i].JID, after[i].JID)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(l.J(t, "matrix", "table", "compression", "--rows",
		"LEVEL,TOOL", "--cell", "mean(ratio),n(ratio)", "-o", "csv"))).ReadAll()
	if err != nil || len(rows) != 13 {
		t.Fatalf("the table has %d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		if ratio, err := strconv.ParseFloat(row[2], 64); err != nil || ratio < 2 || ratio > 20 ||
			row[3] != "3" || row[5] != "0" {
			t.Errorf("a row of the table is %q", row)
		}
	}
	plot := filepath.Join(dir, "plot.svg")
	l.J(t, "matrix", "plot", "compression", "--x", "LEVEL", "--y", "ratio", "--series", "TOOL",
		"-o", plot)
	if text := read(t, plot); !strings.HasPrefix(text, "<?xml") ||
		!strings.Contains(text, "TOOL=zstd") {
		t.Errorf("the plot is %.200q", text)
	}
	l.codes(t, after, dir)
}

// codes checks that each job's record has the code that it ran, and that the machines were given
// each code once.
func (l *lab) codes(t *testing.T, jobs []api.Job, dir string) {
	t.Helper()
	hashes := map[string]int{}
	for i := range jobs {
		var kept struct{ Code struct{ Hash string } }
		if err := json.Unmarshal([]byte(read(t,
			filepath.Join(dir, "results", strconv.FormatUint(jobs[i].JID, 10), "job.json"))),
			&kept); err != nil {
			t.Fatal(err)
		}
		hashes[kept.Code.Hash]++
	}
	// The first cells and those that were mended ran the script as it is, those between them the
	// other one.
	if len(hashes) != 2 {
		t.Errorf("the records name the code %v", hashes)
	}
	for _, n := range hashes {
		if n != 30 && n != 6 {
			t.Errorf("the records name the code %v", hashes)
		}
	}
	if sent := strings.Count(read(t, l.Console()), "sent code"); sent != 2*len(l.machines) {
		t.Errorf("two versions of the code were sent %d times to %d machines", sent,
			len(l.machines))
	}
}

// TestEndings has one job for each way in which one can end badly.
func TestEndings(t *testing.T) {
	l := newLab(t)
	marker := filepath.Join(t.TempDir(), "tree")
	add := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(l.J(t, append([]string{"job", "add", "-q"}, args...)...))
	}
	fails := add("bench", "echo before; echo sorry >&2; exit 3")
	slow := add("bench", "echo started; sleep 1000", "--timeout", "1s")
	// A tree of children that changed session, ignore SIGTERM and start each other again.
	stubborn := add("bench", fmt.Sprintf(`trap '' TERM
(setsid sh -c 'trap "" TERM; while :; do sleep 1000; done' &)
setsid setsid sh -c 'trap "" TERM; echo $$ >> %[1]s; sleep 1000; sleep 1000' &
echo $$ >> %[1]s
sleep 1000; sleep 1000; wait`, marker))
	lacking := add("bench", "echo RESULTS: /nowhere/at/all", l.results)

	if _, _, code, err := l.Run(t.Context(), "job", "wait", fails); err != nil || code != 3 {
		t.Errorf("waiting for the job that fails: exit code %d, %v", code, err)
	}
	if log := l.J(t, "job", "log", "-c", "-e", fails); log != "sorry\n" {
		t.Errorf("its stderr is %q", log)
	}
	if why := l.J(t, "job", "why", fails); !strings.Contains(why, "exited with code 3") {
		t.Errorf("its why is %q", why)
	}
	if _, _, code, err := l.Run(t.Context(), "job", "wait", slow); err != nil || code == 0 {
		t.Errorf("waiting for the job that times out: exit code %d, %v", code, err)
	}
	if why := l.J(t, "job", "why", slow); !strings.Contains(why, "timed out") {
		t.Errorf("its why is %q", why)
	}

	waitLines(t, marker, 2)
	l.J(t, "job", "rm", stubborn)
	l.Run(t.Context(), "job", "wait", stubborn)
	if got := l.status(t, stubborn); got != "canceled" {
		t.Errorf("the stubborn job is %s", got)
	}
	for _, pid := range strings.Fields(read(t, marker)) {
		if _, err := os.Stat("/proc/" + pid + "/exe"); err == nil {
			t.Errorf("process %s of its tree is alive", pid)
		}
	}

	l.Run(t.Context(), "job", "wait", lacking)
	if got := l.status(t, lacking); got != "done" {
		t.Errorf("the job without its results is %s", got)
	}
	if why := l.J(t, "job", "why", lacking); !strings.Contains(why, "/nowhere/at/all") {
		t.Errorf("its why is %q", why)
	}
}

func (l *lab) status(t *testing.T, id string) string {
	t.Helper()
	var jobs []api.Job
	if err := json.Unmarshal([]byte(l.J(t, "job", "ls", "-o", "json", id)), &jobs); err != nil ||
		len(jobs) != 1 {
		t.Fatalf("job ls -o json %s: %v, %d jobs", id, err, len(jobs))
	}
	return jobs[0].Status
}

// waitLines waits until a file has so many lines.
func waitLines(t *testing.T, path string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for look := time.NewTicker(10 * time.Millisecond); ; {
		if b, _ := os.ReadFile(path); strings.Count(string(b), "\n") >= n {
			look.Stop()
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("%s has no %d lines", path, n)
		}
	}
}
