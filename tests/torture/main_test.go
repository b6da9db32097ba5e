// Package torture_test proves what docs/reliability.md promises of the whole program: real daemons,
// real sshds, real networks, and everything that goes wrong with them.
//
// There are two kinds of tests. TestTorture is chaos: many clients submit jobs and write down what
// was acknowledged, while the daemon, the network and the machines are killed, cut and stopped at
// random; in the end everything must have happened that was acknowledged, once. The others each
// take one failure and aim at it.
//
// All run a program that was built with failpoints. TORTURE=1 makes the long versions run: chaos
// for DURATION, the others as much as is in proportion to it; TORTURE_SEED is the seed that a
// failure printed. A seed gives the same choices, not the same timing.
package torture_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

// atOnce is how many tests run at the same time: most of the time they wait.
const atOnce = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// patience is used up by a test that fails, never by one that passes.
func patience() time.Duration {
	if long() {
		return 20 * time.Minute // 10 GiB take their time
	}
	return 90 * time.Second
}

// long tells whether the long versions are wanted.
func long() bool { return os.Getenv("TORTURE") == "1" }

// duration is how long a long test goes on.
func duration(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("DURATION")
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(n) * time.Second
	}
	if text == "" {
		return time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// scaled is how much of something a test tries: some in `make test`, all where there are 20 minutes
// or more for everything, and a share of it in a shorter time.
func scaled(t testing.TB, some, all int64) int64 {
	t.Helper()
	if !long() {
		return some
	}
	const enough = 20 * time.Minute
	return max(some, int64(float64(all)*min(1, duration(t).Seconds()/enough.Seconds())))
}

// count tells .ci/torture's summary of n things.
func count(t testing.TB, n int, what string) {
	t.Helper()
	t.Logf("counted: %d %s", n, what)
}

// seeded is a source of choices; its seed is printed.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("TORTURE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TORTURE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// eventually waits until something outside, that nobody announces, has come true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	pause := 5 * time.Millisecond // what takes long is looked at less often
	for end := time.Now().Add(patience()); !ok(); time.Sleep(pause) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
		pause = min(pause+pause/4, 250*time.Millisecond)
	}
}

// world is a daemon and its machines.
type world struct {
	*daemontest.Daemon
	t        testing.TB
	dir      string
	client   *sshtest.Client
	machines []*machine
	ledger   string // every run that begins adds a line
	results  string
	stopped  bool
}

// newWorld starts a daemon. Everything ends with the test, and nothing may be left of it.
func newWorld(t testing.TB, serve ...string) *world {
	t.Helper()
	sshtest.Require(t)
	binary, err := daemontest.Build("failpoints")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "torture-") // a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, ledger: filepath.Join(dir, "ledger"),
		results: filepath.Join(dir, "results")}
	if w.client, err = sshtest.NewClient(filepath.Join(dir, "client")); err != nil {
		t.Fatal(err)
	}
	w.Daemon = &daemontest.Daemon{
		Binary: binary, StateDir: filepath.Join(dir, "state"),
		Args: append([]string{"--ssh-config", w.client.ConfigFile}, serve...),
	}
	w.start()
	t.Cleanup(func() {
		if !w.stopped {
			w.stop()
		}
		if t.Failed() {
			text := w.ConsoleText()
			t.Logf("the daemon printed:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return w
}

// start starts the daemon with an environment of its own.
func (w *world) start(env ...string) {
	w.t.Helper()
	w.Env = env
	if err := w.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.stopped = false
}

func (w *world) kill() {
	w.t.Helper()
	if err := w.Kill(); err != nil {
		w.t.Fatal(err)
	}
	w.stopped = true
}

func (w *world) stop() {
	w.t.Helper()
	w.stopped = true
	if err := w.Stop(); err != nil {
		w.t.Error(err)
	}
}

// dies waits for the end that a fail point brings.
func (w *world) dies() {
	w.t.Helper()
	select {
	case <-w.Ended():
		w.stopped = true
	case <-time.After(patience()):
		w.t.Fatal("the daemon never came to its fail point")
	}
}

// restart kills the daemon and starts it again.
func (w *world) restart(env ...string) {
	w.t.Helper()
	w.kill()
	w.start(env...)
}

// call makes a call that has to succeed.
func call[Reply any](w *world, method string, args any) *Reply {
	w.t.Helper()
	reply, err := try[Reply](w, method, args)
	if err != nil {
		w.t.Fatalf("%s: %v", method, err)
	}
	return reply
}

// try makes a call.
func try[Reply any](w *world, method string, args any) (*Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	client, err := w.Client(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return api.Call[Reply](ctx, client, method, args)
}

// submit submits a job of class "x" and gives its id.
func (w *world) submit(job api.JobSpec) uint64 {
	w.t.Helper()
	if job.Class == "" {
		job.Class = "x"
	}
	return call[api.AddJobsReply](w, "AddJobs", &api.AddJobsArgs{Jobs: []api.JobSpec{job}}).JIDs[0]
}

// wait waits until a job has ended, and returns it.
func (w *world) wait(jid uint64) *api.Job {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	if err := w.waitFor(ctx, jid); err != nil {
		w.t.Fatalf("wait for job %d: %v; it is %+v", jid, err, w.job(jid))
	}
	return w.job(jid)
}

func (w *world) waitFor(ctx context.Context, jid uint64) error {
	client, err := w.Client(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return waitFor(ctx, client, number(jid))
}

// waitFor waits until all jobs of a selector have ended.
func waitFor(ctx context.Context, client *api.Client, selector string) error {
	for cursor := uint64(0); ; {
		args := &api.WaitArgs{Selectors: []string{selector}, Wait: time.Minute, Cursor: cursor}
		reply, err := api.Call[api.WaitReply](ctx, client, "Wait", args)
		if err != nil || reply.Done {
			return err
		}
		cursor = reply.Cursor
	}
}

func (w *world) job(jid uint64) *api.Job {
	w.t.Helper()
	jobs := call[api.ListJobsReply](w, "ListJobs",
		&api.ListJobsArgs{Selectors: []string{number(jid)}, Full: true}).Jobs
	if len(jobs) != 1 {
		w.t.Fatalf("there are %d jobs with the id %d", len(jobs), jid)
	}
	return &jobs[0]
}

// allJobs lists every job with all that is known of it.
func (w *world) allJobs() (jobs []api.Job) {
	w.t.Helper()
	for after := uint64(0); ; {
		page := call[api.ListJobsReply](w, "ListJobs",
			&api.ListJobsArgs{After: after, Limit: 500, Full: true})
		jobs = append(jobs, page.Jobs...)
		if after = page.Next; after == 0 {
			return jobs
		}
	}
}

func (w *world) change(op string, jid uint64) {
	w.t.Helper()
	call[api.ChangeJobsReply](w, api.ChangeJobs,
		&api.ChangeJobsArgs{Op: op, Selectors: []string{number(jid)}})
}

// running waits until a job runs, so that its machine knows of it.
func (w *world) running(jid uint64) {
	w.t.Helper()
	eventually(w.t, "job "+number(jid)+" runs", func() bool {
		a := w.job(jid).Attempts
		return len(a) > 0 && a[len(a)-1].StartedAt != nil
	})
}

// link waits until a machine's link is in a state: connected, away, refused.
func (w *world) link(m *machine, state string) {
	w.t.Helper()
	eventually(w.t, m.alias+" is "+state, func() bool { return w.machine(m).State == state })
}

func (w *world) machine(m *machine) *api.Machine {
	w.t.Helper()
	args := &api.ListMachinesArgs{MachineSelector: api.MachineSelector{Addrs: []string{m.alias}}}
	list := call[api.ListMachinesReply](w, "ListMachines", args).Machines
	if len(list) != 1 {
		w.t.Fatalf("there are %d machines %s", len(list), m.alias)
	}
	return &list[0]
}

// check has the saved state read by `state check`. The daemon doesn't run.
func (w *world) check() {
	w.t.Helper()
	stdout, stderr, code, err := w.Run(w.t.Context(), "state", "check", "--state-dir", w.StateDir)
	if err != nil || code != 0 {
		w.t.Errorf("state check: exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
}

func number(jid uint64) string { return strconv.FormatUint(jid, 10) }

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a file that was never made is empty
		t.Fatal(err)
	}
	return string(b)
}

func write(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
