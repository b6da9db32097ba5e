package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"jobserver/agent/agenttest"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh"
	"jobserver/ssh/sshtest"
)

// program is the static binary that the fleets of the tests put on machines.
var program string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "relay" { // relay PROGRAM MODE-FILE agent …
		if err := agenttest.Relay(os.Args[2], os.Args[4:], os.Args[3], 1); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "jobserver")
	build := exec.Command("go", "build", "-o", program, "jobserver/slim/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the agent: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// patienceOfTests is only ever used up by a test that fails.
const patienceOfTests = 2 * time.Minute

// host is the side of the daemon: a fleet with its directories, and what it reports.
type host struct {
	*Fleet
	t   testing.TB
	opt Options

	stop  context.CancelFunc
	ended chan struct{} // closed when Run has returned

	mu      sync.Mutex
	news    chan struct{}   // closed and replaced when something is reported
	reports []sched.Outcome // all of them
	said    string          // all that was logged
}

// newHost starts a fleet that ends with the test. machine may be nil.
func newHost(t testing.TB, machine *sshtest.Machine, change ...func(*Options)) *host {
	t.Helper()
	dir := t.TempDir()
	opt := Options{
		ServerID: "srv", Version: "test", StateDir: dir, LogDir: filepath.Join(dir, "logs"),
		Binary:   program,
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond,
		SyncEvery: 10 * time.Millisecond,
		DiskRetry: 10 * time.Millisecond,
	}
	if machine != nil {
		opt.SSH = ssh.Options{ConfigFile: machine.ConfigFile}
	}
	for _, fn := range change {
		fn(&opt)
	}
	h := &host{t: t, opt: opt, news: make(chan struct{})}
	h.opt.Log = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), h), nil))
	h.run()
	t.Cleanup(func() { h.halt() })
	return h
}

// run starts a fleet on the host's directories; after halt, it is the daemon's restart.
func (h *host) run() {
	h.t.Helper()
	h.tell(func() { h.reports = nil })
	opt := h.opt
	if opt.Report == nil {
		opt.Report = func(o sched.Outcome) { h.tell(func() { h.reports = append(h.reports, o) }) }
	}
	f, err := New(opt)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.Fleet, h.stop, h.ended = f, stop, make(chan struct{})
	go func() {
		defer close(h.ended)
		f.Run(ctx)
	}()
}

// tell changes what is known and wakes who waits for it.
func (h *host) tell(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	close(h.news)
	h.news = make(chan struct{})
}

// Write takes the fleet's log.
func (h *host) Write(p []byte) (int, error) {
	h.tell(func() { h.said += string(p) })
	return len(p), nil
}

// heard waits until something was logged.
func (h *host) heard(text string) {
	h.t.Helper()
	timeout := time.After(patienceOfTests)
	for {
		h.mu.Lock()
		said, news := h.said, h.news
		h.mu.Unlock()
		if strings.Contains(said, text) {
			return
		}
		select {
		case <-news:
		case <-timeout:
			h.t.Fatalf("%q was not logged, but\n%s", text, said)
		}
	}
}

// halt ends the fleet, as the daemon's stop does.
func (h *host) halt() {
	h.stop()
	<-h.ended
}

// await returns the first report, of those so far and those to come, for which ok holds.
func await[O sched.Outcome](h *host, ok func(O) bool) O {
	h.t.Helper()
	timeout := time.After(patienceOfTests)
	for seen := 0; ; {
		h.mu.Lock()
		reports, news := h.reports, h.news
		h.mu.Unlock()
		for ; seen < len(reports); seen++ {
			if o, is := reports[seen].(O); is && (ok == nil || ok(o)) {
				return o
			}
		}
		select {
		case <-news:
		case <-timeout:
			var o O
			h.t.Fatalf("no %T came, but %s", o, h.told())
		}
	}
}

// told is everything that was reported.
func (h *host) told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, o := range h.reports {
		fmt.Fprintf(&b, "\n\t%T %+v", o, o)
	}
	return b.String()
}

// count says how many reports hold.
func count[O sched.Outcome](h *host, ok func(O) bool) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.reports {
		if o, is := o.(O); is && (ok == nil || ok(o)) {
			n++
		}
	}
	return n
}

// connected connects a machine and waits for it.
func (h *host) connected(addr string) sched.Connected {
	h.t.Helper()
	h.Connect(sched.Pool{Addr: addr})
	return await(h, func(o sched.Connected) bool { return o.Addr == addr })
}

func job(addr string, jid uint64, command string) sched.Run {
	return sched.Run{
		Ref: &statepb.RunRef{Machine: addr, Job: jid, Attempt: 1,
			Token: fmt.Sprintf("t%d", jid)},
		Command: []byte(command),
	}
}

// ends waits for the end of a run, and compares the log that is kept of it.
func (h *host) ends(r sched.Run, out string) *statepb.Attempt {
	h.t.Helper()
	o := await(h, func(o sched.Ended) bool { return o.Ref.Job == r.Ref.Job })
	if got := h.log(r, false); got != out {
		h.t.Errorf("the log of job %d is %.80q, want %.80q", r.Ref.Job, got, out)
	}
	return o.Result
}

func (h *host) log(r sched.Run, stderr bool) string {
	h.t.Helper()
	data, err := os.ReadFile(sched.LogPath(h.opt.LogDir, r.Ref, stderr))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty one isn't made
		h.t.Error(err)
	}
	return string(data)
}

// runDir is where a run of this host has its files.
func (h *host) runDir(r sched.Run) string {
	id := h.runID(r.Ref)
	return filepath.Join(h.opt.StateDir, "local", "runs", id.Server, id.Machine, id.Name())
}

// settled settles a run and waits until it is gone from its machine.
func (h *host) settled(o *statepb.Obligation) {
	h.t.Helper()
	h.Settle(o)
	await(h, func(s sched.Settled) bool { return s.Ref.Job == o.Run.Job })
}

// gate is a place where a job waits until the test lets it go on.
type gate struct{ in, out string }

func newGate(t *testing.T) gate {
	t.Helper()
	dir := t.TempDir()
	g := gate{filepath.Join(dir, "in"), filepath.Join(dir, "out")}
	for _, name := range []string{g.in, g.out} {
		if err := exec.Command("mkfifo", name).Run(); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// command has the job wait at the gate.
func (g gate) command() string { return "echo > " + g.in + "; read x < " + g.out }

// reached waits until the job is at the gate.
func (g gate) reached() { os.ReadFile(g.in) }

// open lets it go on.
func (g gate) open(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(g.out, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
}
