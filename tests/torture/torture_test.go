package torture_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"jobserver/api"
)

// scene is one round of chaos: what breaks, and for how long.
type scene struct {
	clients int
	lasting time.Duration
	longer  bool
	aim     []string
}

// TestTorture is the crash harness. A page with viewers is open all the while.
func TestTorture(t *testing.T) {
	rng := seeded(t)
	w := newWorld(t)
	s := scene{clients: 64, lasting: 8 * time.Second, aim: places}
	end := time.Now()
	if long() {
		s.lasting, s.longer = min(time.Minute, duration(t)/3), true
		end = end.Add(duration(t))
	} else {
		t.Parallel()
	}
	// An agent hears of the daemon each minute; one that the chaos has cut off for good ends a
	// little later.
	alone := withSSH(envOption("JOBSERVER_INSTEAD=silence=70s"))
	w.add(slots(4), alone)
	w.add(slots(4), alone, inNamespace)
	w.add(slots(4), alone)
	l, c := &load{w: w, clients: s.clients, patience: 3 * time.Minute}, []*chaos{
		{w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 2)), choice: onDaemon, longer: s.longer,
			aim: s.aim},
		{w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 3)), choice: onMachines, longer: s.longer},
	}
	var f *findings
	v := l.watchers(t)
	for round := 1; ; round++ {
		began := time.Now()
		watching, cancel := context.WithTimeout(t.Context(), s.lasting)
		var viewing sync.WaitGroup
		viewing.Go(func() { v.run(watching, rand.New(rand.NewPCG(uint64(round), 4))) })
		l.endure(s, rng, l.run, c...)
		cancel()
		viewing.Wait()
		f = l.verify()
		t.Logf("round %d: the daemon had %v; the machines had %v; %d jobs, %d acknowledged, %d "+
			"attempts; %d lost, %d doubled", round, c[0], c[1], f.jobs, f.acknowledged, f.attempts,
			f.lost, f.doubled)
		for _, fault := range f.faults {
			t.Error(fault)
		}
		if t.Failed() || time.Until(end) < time.Since(began)/2 {
			// the next would end later than it should by more than half of itself
			count(t, round, "rounds of chaos")
			break
		}
	}
	summarize(t, f, c...)
	v.verify(t)
	if !t.Failed() {
		w.cleanEnd()
	}
}

// summarize counts what was done, and what came of it.
func summarize(t testing.TB, f *findings, all ...*chaos) {
	t.Helper()
	var sum chaos
	for _, c := range all {
		sum.kills += c.kills
		sum.deaths += c.deaths
		sum.cuts += c.cuts
		sum.partitions += c.partitions
		sum.sessions += c.sessions
		sum.pauses += c.pauses
		sum.agents += c.agents
	}
	for _, d := range sum.deeds() {
		count(t, d.n, d.what)
	}
	for _, d := range []deed{{f.jobs, "jobs"}, {f.acknowledged, "acknowledged"},
		{f.attempts, "attempts"}, {f.lost, "lost"}, {f.doubled, "doubled"}} {
		count(t, d.n, d.what)
	}
}

// endure lets clients work while things break; in the end everything heals, and all jobs come to
// their end.
func (l *load) endure(
	s scene, rng *rand.Rand, work func(context.Context, *rand.Rand), all ...*chaos,
) {
	w := l.w
	breaking, cancel := context.WithTimeout(context.Background(), s.lasting)
	defer cancel()
	var breakers sync.WaitGroup
	for _, c := range all {
		breakers.Go(func() { c.run(breaking) })
	}
	work(breaking, rng)
	breakers.Wait()
	for _, c := range all {
		for _, fault := range c.faults {
			l.fault("chaos: %s", fault)
		}
	}
	if len(l.faults) > 0 {
		return
	}
	for _, m := range w.machines {
		m.network.Heal()
	}
	w.kill() // a new daemon doesn't wait for machines that were away
	w.start()
	l.ends()
}

// ends waits until all jobs have ended and the machines owe nothing.
func (l *load) ends() {
	w := l.w
	for end := time.Now().Add(l.patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		client, err := w.Client(ctx)
		if err == nil {
			err = waitFor(ctx, client, "class=x")
			client.Close()
		}
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			l.fault("not all jobs end: %v\n%s", err, w.J(w.t, "job", "ls", "-n", "20"))
			return
		}
		for _, m := range w.machines { // one that failed four jobs in a row may have been set aside
			if class := w.machine(m).Class; class != m.class {
				call[api.ChangeMachinesReply](w, "ChangeMachines", &api.ChangeMachinesArgs{
					Op: api.MachineMove, Class: m.class,
					MachineSelector: api.MachineSelector{Addrs: []string{m.alias}}})
			}
		}
	}
	for _, m := range w.machines {
		for end := time.Now().Add(
			l.patience / 3,
		); len(m.runs(w.t)) > 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				l.fault("%d runs are never forgotten by %s: %q", len(m.runs(w.t)), m.alias,
					m.runs(w.t)[0])
				return
			}
		}
	}
}

// cleanEnd stops the daemon and checks that nothing is left, and that its state is sound.
func (w *world) cleanEnd() {
	w.t.Helper()
	for _, m := range w.machines {
		eventually(w.t, "the runs on "+m.alias+" are forgotten", func() bool {
			return len(m.runs(w.t)) == 0
		})
	}
	w.stop()
	for _, m := range w.machines {
		m.clean(w.t)
	}
	parts, err := filepath.Glob(filepath.Join(w.results, ".jobserver-*"))
	if err != nil || len(parts) > 0 {
		w.t.Errorf("parts of copies are left: %q, %v", parts, err)
	}
	w.check()
}

// TestMutants proves the harness: with each of these promises broken, it must find something.
func TestMutants(t *testing.T) {
	for promise, tt := range map[string]struct {
		aim []string // where to die: where the promise counts
		// what has to be said: a regular expression. An id that is given twice shows in its job's
		// log, too
		found   string
		machine bool // it is the agent's promise
		quick   bool // it takes seconds
	}{
		"reply-before-commit": {aim: []string{"loop.decided"},
			found: "which isn't there|is two jobs|is (canceled|waiting|done), want|its log has"},
		"request-once": {aim: []string{"loop.committed"},
			found: "was submitted once, and is two jobs"},
		"start-once": {aim: []string{"fleet.start-answered", "fleet.run-ended"},
			found: "ran more than once", machine: true, quick: true},
		"token-new": {aim: []string{"fleet.run-ended"},
			found: "ran more than once|attempts that exited|never forgotten"},
		"lost-is-known": {aim: []string{"fleet.run-ended"},
			found: "is said to be lost|is lost, want", quick: true},
		"copied-is-placed": {aim: []string{"fleet.results-gathered"},
			found: "the results of job|the record of job"},
	} {
		if !tt.quick && !(long() && duration(t) >= 10*time.Minute) {
			continue // all of them take minutes
		}
		t.Run(promise, func(t *testing.T) {
			if !long() {
				t.Parallel()
			}
			w := newWorld(t)
			var opts []machineOption
			env := []string{"JOBSERVER_MUTANT=" + promise}
			if tt.machine {
				opts, env = append(opts, withSSH(envOption(env...))), nil
			}
			w.restart(env...)
			w.add(append(opts, slots(8))...)
			s := scene{clients: 16, lasting: 8 * time.Second}
			l, rng := &load{w: w, clients: s.clients, patience: 45 * time.Second}, seeded(t)
			c := &chaos{w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 2)),
				choice: slices.Concat(onMachines, onDaemon), aim: tt.aim, env: env}
			for range 5 {
				l.endure(s, rng, l.run, c)
				f := l.verify()
				if len(f.faults) == 0 {
					continue
				}
				i := slices.IndexFunc(f.faults, regexp.MustCompile(tt.found).MatchString)
				if i < 0 {
					t.Errorf("something else was found: %q", f.faults)
					return
				}
				t.Logf("found: %s", f.faults[i])
				count(t, 1, "mutants noticed")
				return
			}
			t.Errorf("nobody noticed that the promise %s was broken", promise)
		})
	}
}
