package torture_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
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

// TestTorture is the crash harness.
func TestTorture(t *testing.T) {
	rng := seeded(t)
	w := newWorld(t)
	s := scene{clients: 64, lasting: 8 * time.Second, aim: places}
	rounds := 1
	if long() {
		s.lasting, s.longer = time.Minute, true
		rounds = max(1, int(duration(t)/(2*s.lasting)))
	} else {
		t.Parallel()
	}
	w.add(slots(4))
	w.add(slots(4), inNamespace)
	w.add(slots(4))
	l, c := &load{w: w, clients: s.clients, patience: 3 * time.Minute}, []*chaos{
		{w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 2)), deeds: onDaemon, longer: s.longer, aim: s.aim},
		{w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 3)), deeds: onMachines, longer: s.longer},
	}
	for round := range rounds {
		l.endure(s, rng, c...)
		f := l.verify()
		t.Logf("round %d: the daemon had %v; the machines had %v; %d jobs, %d acknowledged, %d attempts; %d lost, %d doubled", round+1, c[0], c[1], f.jobs, f.acknowledged, f.attempts, f.lost, f.doubled)
		for _, fault := range f.faults {
			t.Error(fault)
		}
		if t.Failed() {
			return
		}
	}
	w.cleanEnd()
}

// endure lets clients work while things break; in the end everything heals, and all jobs come to their end.
func (l *load) endure(s scene, rng *rand.Rand, all ...*chaos) {
	w := l.w
	breaking, cancel := context.WithTimeout(context.Background(), s.lasting)
	defer cancel()
	var breakers sync.WaitGroup
	for _, c := range all {
		breakers.Go(func() { c.run(breaking) })
	}
	l.run(breaking, rng)
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
			if class := w.machine(m).Class; class != "x" {
				call[api.ChangeMachinesReply](w, "ChangeMachines", &api.ChangeMachinesArgs{
					Op: api.MachineMove, Class: "x", MachineSelector: api.MachineSelector{Addrs: []string{m.alias}}})
			}
		}
	}
	for _, m := range w.machines {
		for end := time.Now().Add(l.patience / 3); len(m.runs(w.t)) > 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				l.fault("%d runs are never forgotten by %s: %q", len(m.runs(w.t)), m.alias, m.runs(w.t)[0])
				return
			}
		}
	}
}

// cleanEnd stops the daemon and checks that nothing is left, and that its state is sound.
func (w *world) cleanEnd() {
	w.t.Helper()
	for _, m := range w.machines {
		eventually(w.t, "the runs on "+m.alias+" are forgotten", func() bool { return len(m.runs(w.t)) == 0 })
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
		aim     []string // where to die: where the promise counts
		machine bool     // it is the agent's promise
		quick   bool     // it takes seconds
	}{
		"reply-before-commit": {aim: []string{"loop.decided"}},
		"request-once":        {aim: []string{"loop.committed"}},
		"start-once":          {aim: []string{"fleet.start-answered", "fleet.run-ended"}, machine: true, quick: true},
		"token-new":           {aim: []string{"fleet.run-ended"}},
		"lost-is-known":       {aim: []string{"fleet.run-ended"}, quick: true},
		"copied-is-placed":    {aim: []string{"fleet.results-gathered"}},
	} {
		if !tt.quick && !long() {
			continue
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
			c := &chaos{w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 2)), deeds: slices.Concat(onMachines, onDaemon), aim: tt.aim, env: env}
			for range 5 {
				l.endure(s, rng, c)
				if f := l.verify(); len(f.faults) > 0 {
					t.Logf("found: %s", f.faults[0])
					return
				}
			}
			t.Errorf("nobody noticed that the promise %s was broken", promise)
		})
	}
}
