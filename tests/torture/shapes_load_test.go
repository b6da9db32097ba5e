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

// A member is a job of the load of TestShapes, with what has to become of it.
type member struct {
	name   string // its own; of the cells of a matrix, what comes before a dot and their number
	jid    uint64
	status string
	exit   int      // its exit code; -1: none
	exited int      // how many of its attempts exit by themselves; -1: it isn't said
	ranks  int      // on how many machines its command runs
	after  []string // the members, by name, that have to have ended before it begins
	result string   // what each of its runs leaves in its result; "" : there is none
	paused bool     // it was seen to be paused
}

// done is a member that succeeds at once.
func done(name string) *member {
	return &member{name: name, status: "done", exited: 1, ranks: 1}
}

// shapes are many clients that submit jobs which need each other, or several things at once.
type shapes struct {
	*load
	members []*member // protected by load.mu
	locks   string    // where runs lock what they were given
	inputs  string
	serial  int // likewise
}

// shapeKinds lists what a client may do; each gives whether it may go on.
var shapeKinds = []struct {
	share int
	run   func(*shapes, context.Context, *api.Client, *rand.Rand, string) bool
}{
	{4, (*shapes).gang}, {2, (*shapes).gangFails}, {2, (*shapes).gangRetried},
	{2, (*shapes).gangCanceled}, {3, (*shapes).driver}, {4, (*shapes).chain},
	{2, (*shapes).afterFailure}, {4, (*shapes).pausing}, {4, (*shapes).needing},
	{4, (*shapes).reading}, {2, (*shapes).stages},
}

// run lets the clients work until ctx ends; then each finishes what it has begun.
func (l *shapes) run(ctx context.Context, rng *rand.Rand) {
	total := 0
	for _, k := range shapeKinds {
		total += k.share
	}
	var clients sync.WaitGroup
	for range l.clients {
		own := rand.New(rand.NewPCG(rng.Uint64(), 1))
		clients.Go(func() {
			c, err := l.dial()
			if err != nil {
				l.fault("a client can't connect: %v", err)
				return
			}
			defer c.Close()
			for ctx.Err() == nil {
				l.mu.Lock()
				l.serial++
				name := fmt.Sprintf("unit%d", l.serial)
				l.mu.Unlock()
				n, kind := own.IntN(total), 0
				for n -= shapeKinds[0].share; n >= 0; n -= shapeKinds[kind].share {
					kind++
				}
				if !shapeKinds[kind].run(l, ctx, c, own, name) {
					return
				}
			}
		})
	}
	clients.Wait()
}

// spec is a job whose runs write down when they begin and when they end, and that lock what they
// were given: nobody else can have it while they live.
func (l *shapes) spec(name, body string) api.JobSpec {
	return api.JobSpec{Class: "x", Cmd: fmt.Sprintf(
		`say() { echo "$JOBSERVER_JID.$JOBSERVER_ATTEMPT.${JOBSERVER_RANK-0} %s $*" >>%s; }
say begins
have() { eval "exec $1>>%s/$3"; flock -n "$2" "$1" || say "clash: $3"; }
%s
say ends`, name, l.w.ledger, l.locks, body)}
}

// slot locks the slot that a run was given, whole the machines that an attempt has for itself.
const (
	slot  = "have 9 -s $JOBSERVER_MACHINE\nhave 8 -x $JOBSERVER_MACHINE.$JOBSERVER_SLOT\n"
	whole = `n=3; for m in $(echo "$JOBSERVER_MACHINES" | tr , " "); do have $n -x $m; n=$((n+1)); done
`
)

// moment is a pause of a job.
func moment(rng *rand.Rand, upTo time.Duration) string {
	return fmt.Sprintf("sleep %.3f\n", time.Duration(rng.Int64N(int64(upTo))).Seconds())
}

// lines gives what each run of a member prints.
func lines(name string) string {
	return fmt.Sprintf("i=0; while [ $i -lt 20 ]; do echo \"%s ${JOBSERVER_RANK-0} $i\"; "+
		"i=$((i+1)); done\n", name)
}

// leaves has a run leave a text in its result.
func leaves(name, text string) string {
	return fmt.Sprintf(`d=$JOBSERVER_SCRATCH/%s; mkdir $d; echo "%s" >$d/result; echo "RESULTS: $d"
`, name, text)
}

// submit has members submitted together and noted.
func (l *shapes) submit(c *api.Client, specs []api.JobSpec, members ...*member) bool {
	args := &api.AddJobsArgs{Jobs: specs}
	args.RequestID = members[0].name
	var reply *api.AddJobsReply
	ok := l.insist("submit "+members[0].name, func(ctx context.Context) (err error) {
		reply, err = api.Call[api.AddJobsReply](ctx, c, "AddJobs", args)
		return err
	})
	if ok {
		for i, m := range members {
			m.jid = reply.JIDs[i]
		}
		l.note(members...)
	}
	return ok
}

func (l *shapes) note(members ...*member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members = append(l.members, members...)
}

// one submits a member and mostly waits for it.
func (l *shapes) one(
	ctx context.Context, c *api.Client, rng *rand.Rand, s api.JobSpec, m *member,
) bool {
	if !l.submit(c, []api.JobSpec{s}, m) {
		return false
	}
	if rng.IntN(4) > 0 {
		_ = waitFor(ctx, c, number(m.jid)) // whether it came to an end is seen later
	}
	return true
}

// change has an operation done to a member.
func (l *shapes) change(c *api.Client, op string, m *member) bool {
	args := &api.ChangeJobsArgs{Op: op, Selectors: []string{number(m.jid)}}
	args.RequestID = m.name + "-" + op
	return l.insist(op+" "+m.name, func(ctx context.Context) error {
		_, err := api.Call[api.ChangeJobsReply](ctx, c, api.ChangeJobs, args)
		return err
	})
}

// gang runs on each of two or three machines, which it has for itself now and then, and has
// results.
func (l *shapes) gang(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	m := done(name)
	m.ranks, m.result = 2+rng.IntN(2), name+" ranks"
	given := slot
	exclusive := rng.IntN(3) == 0
	if exclusive {
		given = "have 9 -x $JOBSERVER_MACHINE\n"
	}
	s := l.spec(name, given+lines(name)+moment(rng, 800*time.Millisecond)+leaves(name, m.result))
	s.Machines, s.Each, s.Exclusive, s.CpPath = m.ranks, true, exclusive, l.w.results
	return l.one(ctx, c, rng, s, m)
}

// fallen is a job of three ranks one of which fails, if that is to be, and the others wait for it.
func (l *shapes) fallen(name, fails, waits string) api.JobSpec {
	s := l.spec(name, slot+"if [ $JOBSERVER_RANK = 1 ]; then "+fails+"; else "+waits+"; fi\n")
	s.Machines, s.Each = 3, true
	return s
}

func (l *shapes) gangFails(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	return l.one(ctx, c, rng, l.fallen(name, "exit 7", "sleep 100000"),
		&member{name: name, status: "failed", exit: 7, exited: 1, ranks: 3})
}

func (l *shapes) gangRetried(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	m := done(name)
	m.exited, m.ranks = 2, 3
	// An attempt counts when one of its machines isn't ready, too, and nothing has begun.
	failed := filepath.Join(l.locks, name+".failed")
	s := l.fallen(name, "! mkdir "+failed+" 2>/dev/null || exit 7",
		"[ -e "+failed+" ] || sleep 100000")
	s.MaxFailures = 1
	return l.one(ctx, c, rng, s, m)
}

func (l *shapes) gangCanceled(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	m := &member{name: name, status: "canceled", exit: -1, ranks: 3}
	s := l.spec(name, slot+"sleep 100000")
	s.Machines, s.Each = 3, true
	if !l.submit(c, []api.JobSpec{s}, m) {
		return false
	}
	sleep(ctx, time.Duration(rng.IntN(1500))*time.Millisecond)
	return l.change(c, api.OpCancel, m)
}

// driver has two machines of its class and one of another, and runs on the first; now and then it
// has them for itself.
func (l *shapes) driver(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	given := slot
	exclusive := rng.IntN(2) == 0
	if exclusive {
		given = whole
	}
	s := l.spec(name, given+`[ "$(echo $JOBSERVER_MACHINES | tr , "\n" | sort -u | wc -l)" = 2 ] &&
[ -n "$JOBSERVER_OTHER" ] || say "clash: it has $JOBSERVER_MACHINES and $JOBSERVER_OTHER"
`+lines(name)+moment(rng, 800*time.Millisecond))
	s.Machines, s.With, s.Exclusive = 2, []string{"OTHER=y"}, exclusive
	return l.one(ctx, c, rng, s, done(name))
}

// chain is a job with a result, one that reads it, one that runs however the first ended, and one
// that runs if it fails, which it doesn't.
func (l *shapes) chain(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	a := done(name)
	a.result = "made by " + name
	s := l.spec(name, slot+moment(rng, 500*time.Millisecond)+leaves(name, a.result))
	s.CpPath = l.w.results
	if !l.submit(c, []api.JobSpec{s}, a) {
		return false
	}
	b, any, never := done(name+"b"), done(name+"c"),
		&member{name: name + "d", status: "canceled", exit: -1}
	b.after, any.after = []string{name}, []string{name}
	reads := l.spec(b.name, slot+fmt.Sprintf(
		`[ "$(cat $JOBSERVER_INPUTS/%s/result)" = "%s" ] || say "clash: another input"
`, name, a.result)+moment(rng, 300*time.Millisecond))
	reads.After.Done = []string{number(a.jid)}
	reads.Inputs = []api.Input{{Path: "{AFTER_RESULTS}/" + name}}
	ended, failed := l.spec(any.name, slot), l.spec(never.name, slot)
	ended.After.Ended, failed.After.Failed = []string{number(a.jid)}, []string{number(a.jid)}
	if !l.submit(c, []api.JobSpec{reads, ended, failed}, b, any, never) {
		return false
	}
	_ = waitFor(ctx, c, number(b.jid))
	return true
}

// afterFailure is a job that fails, and one that runs because of it.
func (l *shapes) afterFailure(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	a := &member{name: name, status: "failed", exit: 7, exited: 1, ranks: 1}
	s := l.spec(name, slot+moment(rng, 300*time.Millisecond)+"exit 7")
	if !l.submit(c, []api.JobSpec{s}, a) {
		return false
	}
	b := done(name + "b")
	b.after = []string{name}
	s = l.spec(b.name, slot)
	s.After.Failed = []string{number(a.jid)}
	return l.one(ctx, c, rng, s, b)
}

// needing is a job with one of its machine's GPUs and one of the pool's two licenses.
func (l *shapes) needing(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	s := l.spec(name, slot+`have 7 -x $JOBSERVER_MACHINE.gpu$JOBSERVER_GPU
exec 5>>`+l.locks+`/license1 6>>`+l.locks+`/license2
flock -n 5 || flock -n 6 || say "clash: license"
`+moment(rng, 600*time.Millisecond))
	s.Needs = "gpu=1,license=1"
	return l.one(ctx, c, rng, s, done(name))
}

// reading is a job that reads a file of the host, some of which are long enough to be cut.
func (l *shapes) reading(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	size := rng.IntN(64 << 10)
	if rng.IntN(10) == 0 {
		size = 4 << 20
	}
	path := filepath.Join(l.inputs, name)
	line := name + "\n"
	text := strings.Repeat(line, size/len(line)+1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.fault("an input: %v", err)
		return false
	}
	s := l.spec(name, slot+fmt.Sprintf(`[ "$(wc -c <$JOBSERVER_INPUTS/in)" = %d ] &&
[ "$(sort -u $JOBSERVER_INPUTS/in)" = %s ] || say "clash: another input"
`, len(text), name)+moment(rng, 300*time.Millisecond))
	s.Inputs = []api.Input{{Name: "in", Path: path}}
	return l.one(ctx, c, rng, s, done(name))
}

// ticks is how often a job that is paused shows that it lives.
const ticks = 60

// pausing is a job that is paused where it is and goes on.
func (l *shapes) pausing(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	m := done(name)
	file := filepath.Join(l.inputs, name+".ticks")
	s := l.spec(name, slot+fmt.Sprintf(
		"i=0; while [ $i -lt %d ]; do echo tick >>%s; sleep 0.02; i=$((i+1)); done\n", ticks, file))
	if !l.submit(c, []api.JobSpec{s}, m) {
		return false
	}
	running := func(j *api.Job) bool { return j.Status == "running" && j.StartedAt != nil }
	if !l.comesTo(ctx, c, m, running) {
		return true
	}
	if !l.change(c, api.OpPause, m) {
		return false
	}
	if l.comesTo(ctx, c, m, func(j *api.Job) bool { return j.Pause == "paused" }) {
		before := ticked(file)
		sleep(ctx, 100*time.Millisecond)
		if after := ticked(file); after != before {
			l.fault("%s, job %d, is paused and has gone on: %d and then %d ticks", name, m.jid,
				before, after)
		}
		m.paused = true
	}
	return l.change(c, api.OpGoOn, m)
}

// ticked counts the ticks of a job.
func ticked(file string) int {
	b, _ := os.ReadFile(file) // there may be none yet
	return strings.Count(string(b), "tick\n")
}

// comesTo waits until a member is as wanted, and says whether it came to that before it ended and
// before ctx did.
func (l *shapes) comesTo(
	ctx context.Context, c *api.Client, m *member, as func(*api.Job) bool,
) bool {
	args := &api.ListJobsArgs{Selectors: []string{number(m.jid)}, Full: true}
	for ctx.Err() == nil {
		reply, err := api.Call[api.ListJobsReply](ctx, c, "ListJobs", args)
		if err == nil && len(reply.Jobs) == 1 {
			switch j := &reply.Jobs[0]; {
			case as(j):
				return true
			case j.EndedAt != nil && j.Status != "waiting":
				return false
			}
		}
		sleep(ctx, 10*time.Millisecond)
	}
	return false
}

// stages are three matrices: the second has the cells of the first times two, each with the result
// of its cell as input, and the last waits for all of the second.
func (l *shapes) stages(
	ctx context.Context, c *api.Client, rng *rand.Rand, name string,
) bool {
	axes := []api.Axis{{Name: "A", Values: []string{"1", "2", "3"}}}
	first := l.spec(name+".{A}", slot+moment(rng, 300*time.Millisecond)+
		leaves("model", name+" {A}"))
	first.CpPath = l.w.results
	train := l.matrix(c, name, first, axes)
	if train == nil {
		return false
	}
	second := l.spec(name+"e.{A}{B}", slot+
		`[ "$(cat $JOBSERVER_INPUTS/model/result)" = "`+name+` {A}" ] || say "clash: another input"
echo "METRIC: loss={A}"
`)
	second.After.Cells = fmt.Sprint(train.ID)
	second.Inputs = []api.Input{{Path: "{AFTER_RESULTS}/model"}}
	evaluate := l.matrix(c, name+"e", second,
		append(axes, api.Axis{Name: "B", Values: []string{"x", "y"}}))
	if evaluate == nil {
		return false
	}
	report := done(name + "r")
	s := l.spec(report.name, slot+
		`[ "$(wc -l <$JOBSERVER_INPUTS/after.jsonl)" = 6 ] &&
[ "$(grep -c '"loss":' $JOBSERVER_INPUTS/after.jsonl)" = 6 ] || say "clash: another list"
`)
	for i := range 3 {
		m := done(fmt.Sprintf("%s.%d", name, i+1))
		m.jid, m.result = train.FirstJID+uint64(i), fmt.Sprintf("%s %d", name, i+1)
		l.note(m)
		for k, b := range []string{"x", "y"} {
			of := done(fmt.Sprintf("%se.%d%s", name, i+1, b))
			of.jid, of.after = evaluate.FirstJID+uint64(2*i+k), []string{m.name}
			l.note(of)
			report.after = append(report.after, of.name)
		}
	}
	s.After.Done = []string{fmt.Sprintf("%%%d", evaluate.ID)}
	return l.one(ctx, c, rng, s, report)
}

// matrix submits a matrix, or gives nil.
func (l *shapes) matrix(
	c *api.Client, name string, job api.JobSpec, axes []api.Axis,
) (reply *api.AddMatrixReply) {
	args := &api.AddMatrixArgs{Matrix: api.MatrixSpec{Job: job, Name: name, Vars: axes}}
	args.RequestID = name
	l.insist("submit the matrix "+name, func(ctx context.Context) (err error) {
		reply, err = api.Call[api.AddMatrixReply](ctx, c, "AddMatrix", args)
		return err
	})
	return reply
}
