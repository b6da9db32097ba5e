package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"jobserver/api"
)

// kind says what a task's job does.
type kind int

const (
	prints   kind = iota // 100 lines, and a word on stderr
	prints2M             // 2 MB of lines
	fails                // exits with 7
	retries              // fails once, then succeeds
	yields               // has results, some of them large
	endless              // is canceled
	overruns             // runs into its timeout
	kinds
)

// shares of the kinds, of 100. Failures are few, as four in a row would set a machine aside.
var shares = [kinds]int{prints: 50, prints2M: 3, fails: 4, retries: 6, yields: 25, endless: 10,
	overruns: 2}

// bigResult is how large a few results are: large enough for a cut copy to be continued.
const bigResult = 12 << 20

// task is a job of the load, with what its client knows of it.
type task struct {
	name     string
	kind     kind
	pause    time.Duration
	size     int    // of its result
	jid      uint64 // once acknowledged
	canceled bool   // that was acknowledged
}

func newTask(name string, rng *rand.Rand) *task {
	t := &task{name: name, pause: time.Duration(rng.IntN(300)) * time.Millisecond,
		size: rng.IntN(64 << 10)}
	n := rng.IntN(100)
	for n -= shares[0]; n >= 0; n -= shares[t.kind] {
		t.kind++
	}
	if rng.IntN(40) == 0 {
		t.size = bigResult
	}
	if rng.IntN(10) == 0 {
		t.pause += time.Duration(rng.IntN(3000)) * time.Millisecond
	}
	return t
}

// spec is the task as it is submitted. Its first deed is to add a line to the ledger.
func (t *task) spec(w *world) api.JobSpec {
	body := ""
	lines := fmt.Sprintf(`i=0; while [ $i -lt 100 ]; do echo "%s $i"; i=$((i+1)); [ $i = 50 ] && sleep %.3f; done; echo "%[1]s ends" >&2`,
		t.name, t.pause.Seconds())
	job := api.JobSpec{Class: "x"}
	switch t.kind {
	case prints:
		body = lines
	case prints2M:
		body = fmt.Sprintf("yes %s | head -c 2000000; sleep %.3f; yes %[1]s | head -c 1000", t.name,
			t.pause.Seconds())
	case fails:
		body = lines + "; exit 7"
	case retries:
		body = lines + "; [ $JOBSERVER_ATTEMPT != 1 ] || exit 9"
		job.MaxFailures = 1
	case yields:
		body = lines + fmt.Sprintf(
			`; d=$JOBSERVER_SCRATCH/%s; mkdir "$d"; yes %[1]s | head -c %d > "$d/it's a result"; ln -s "it's a result" "$d/link"; echo "RESULTS: $d"`, t.name, t.size,
		)
		job.CpPath = w.results
	case endless, overruns:
		body = lines + "; sleep 100000"
	}
	if t.kind == overruns {
		job.Timeout = 2 * time.Second
	}
	job.Cmd = fmt.Sprintf(`echo "$JOBSERVER_JID.$JOBSERVER_ATTEMPT %s" >> %s; `, t.name,
		w.ledger) + body
	return job
}

// stdout gives what a whole attempt prints, up to its RESULTS line.
func (t *task) stdout() string {
	if t.kind == prints2M {
		line := t.name + "\n"
		return strings.Repeat(line, 2000000/len(line)+1)[:2000000] + strings.Repeat(line,
			1000/len(line)+1)[:1000]
	}
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "%s %d\n", t.name, i)
	}
	return b.String()
}

// load is many clients that submit tasks, and the ledger of what they were told.
type load struct {
	w        *world
	clients  int
	patience time.Duration // for what is under way to come to its end, when all is well again

	mu     sync.Mutex // protects what follows
	tasks  []*task
	faults []string
	serial int
}

// fault notes something that must never happen.
func (l *load) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

// run lets the clients work until ctx ends; then each finishes what it has begun.
func (l *load) run(ctx context.Context, rng *rand.Rand) {
	var clients sync.WaitGroup
	for range l.clients {
		own := rand.New(rand.NewPCG(rng.Uint64(), 1))
		clients.Go(func() { l.client(ctx, own) })
	}
	clients.Wait()
}

// client is one client's life. It mostly waits for a job before it submits the next.
func (l *load) client(ctx context.Context, rng *rand.Rand) {
	c, err := l.dial()
	if err != nil {
		l.fault("a client can't connect: %v", err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		l.mu.Lock()
		l.serial++
		t := newTask(fmt.Sprintf("task%d", l.serial), rng)
		l.mu.Unlock()
		if !l.submit(c, t) {
			return
		}
		switch {
		case t.kind == endless:
			if rng.IntN(2) == 0 {
				sleep(ctx, time.Duration(rng.IntN(1500))*time.Millisecond)
			}
			if !l.cancel(c, t) {
				return
			}
		case rng.IntN(4) > 0:
			_ = waitFor(ctx, c, number(t.jid)) // whether it came to an end in time is seen later
		}
	}
}

func (l *load) dial() (*api.Client, error) {
	for end := time.Now().Add(patience()); ; {
		c, err := l.w.Client(context.Background())
		if err == nil || time.Now().After(end) {
			return c, err
		}
		time.Sleep(20 * time.Millisecond) // it is being restarted
	}
}

// submit asks until it gets an acknowledgement, always with the same request id, and writes that
// down.
func (l *load) submit(c *api.Client, t *task) bool {
	args := &api.AddJobsArgs{Jobs: []api.JobSpec{t.spec(l.w)}}
	args.RequestID = t.name
	var reply *api.AddJobsReply
	ok := l.insist("submit "+t.name, func(ctx context.Context) (err error) {
		reply, err = api.Call[api.AddJobsReply](ctx, c, "AddJobs", args)
		return err
	})
	if ok {
		l.mu.Lock()
		t.jid = reply.JIDs[0]
		l.tasks = append(l.tasks, t)
		l.mu.Unlock()
	}
	return ok
}

func (l *load) cancel(c *api.Client, t *task) bool {
	args := &api.ChangeJobsArgs{Op: api.OpCancel, Selectors: []string{number(t.jid)}}
	args.RequestID = t.name + "-cancel"
	t.canceled = l.insist("cancel "+t.name, func(ctx context.Context) error {
		_, err := api.Call[api.ChangeJobsReply](ctx, c, api.ChangeJobs, args)
		return err
	})
	return t.canceled
}

// insist repeats a call while its outcome is not known. Any other error is a fault.
func (l *load) insist(what string, f func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	for {
		err := f(ctx)
		switch api.KindOf(err) {
		case "":
			return true
		case api.Unavailable, api.OutcomeUnknown:
			if ctx.Err() == nil {
				sleep(ctx, 10*time.Millisecond)
				continue
			}
		}
		l.fault("%s: %v", what, err)
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// resultFile is where a task's result is on the host.
func (t *task) resultFile(job *api.Job) string {
	return filepath.Join(job.ResultsDir, t.name, "it's a result")
}

// resultIs compares the result with what the task wrote.
func (t *task) resultIs(job *api.Job) bool {
	line := t.name + "\n"
	b, err := os.ReadFile(t.resultFile(job))
	if err != nil || len(b) != t.size {
		return false
	}
	for ; len(b) > 0; b = b[min(len(b), len(line)):] {
		if string(b[:min(len(b), len(line))]) != line[:min(len(b), len(line))] {
			return false
		}
	}
	return true
}
