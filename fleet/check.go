package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh"
)

// CheckResult has what a look at a machine tells.
type CheckResult struct {
	Facts          *statepb.Machine
	Vitals         sched.Vitals
	HostKeys       []ssh.HostKey // none of this host itself
	Info           ssh.Info      // likewise
	Hostname, User string
	Warnings       []string // what isn't as it should be there
	MemoryWhy      string   // why what runs may use of memory is counted only
}

// warnings tell what isn't as it should be on a machine that works, and what to do about it.
func warnings(f agent.Facts) (said []string) {
	if f.KillsUserProcesses {
		said = append(said, "the machine ends what a login leaves behind (KillUserProcesses): "+
			"enable lingering there, loginctl enable-linger, or runs die when the connection does")
	}
	if f.NoSubreaper {
		said = append(said, "the machine's kernel has no subreapers (prctl(2)), as when it is "+
			"emulated: the processor time of background processes that outlive their parents is "+
			"not counted")
	}
	return said
}

// Check connects to a machine now, whether or not it is in the pool, with a connection of its own.
// If it can be reached, and the pool's connection was refused, that one is tried again too.
func (f *Fleet) Check(ctx context.Context, addr string) (CheckResult, error) {
	l, err := f.open(ctx, ctx, addr, f.rootOf(ctx, addr))
	if err != nil {
		return CheckResult{}, err
	}
	defer l.close()
	asking, cancel := f.limited(ctx)
	defer cancel()
	latency := time.Hour
	for range 3 {
		sent := time.Now()
		if err := l.client.Ping(asking); err != nil {
			return CheckResult{}, fmt.Errorf("check %s: %w", addr, err)
		}
		latency = min(latency, time.Since(sent))
	}
	facts, err := l.client.Facts(asking)
	if err != nil {
		return CheckResult{}, fmt.Errorf("check %s: %w", addr, err)
	}
	r := CheckResult{
		Facts:     machineFacts(addr, facts),
		Vitals:    vitals(facts, f.opt.Now(), latency),
		Info:      l.info,
		Hostname:  facts.Hostname,
		User:      facts.User,
		Warnings:  warnings(facts),
		MemoryWhy: facts.MemoryWhy,
	}
	if !sched.IsLocal(addr) {
		// The system's ssh may reach what we can't ask for its key: the machine is well all the
		// same.
		r.HostKeys, _ = f.dialer.HostKeys(ctx, addr)
	}
	f.inform(addr, func(m *machine) {
		if m.pool {
			m.report(sched.Measured{Addr: addr, Vitals: r.Vitals})
		}
		if m.refused {
			m.retry()
		}
	})
	return r, nil
}

// HostKeys returns the keys that a machine presents now. Nothing is recorded.
func (f *Fleet) HostKeys(ctx context.Context, addr string) ([]ssh.HostKey, error) {
	return f.dialer.HostKeys(ctx, addr)
}

// Trust records keys as those of a machine, and tries it again.
func (f *Fleet) Trust(ctx context.Context, addr string, keys ...ssh.HostKey) error {
	if err := f.dialer.Trust(ctx, addr, keys...); err != nil {
		return err
	}
	f.Retry(addr)
	return nil
}

// Clean ends runs on a machine and removes their directories, logs included: those that nothing
// knows any more, and those that could not be removed before. sched says which these are: the fleet
// can't tell them from those whose results are kept there. A Connected with the runs that stay
// follows. The error joins one for each run that stays.
func (f *Fleet) Clean(ctx context.Context, addr string, runs []*statepb.RunRef) error {
	var here, there []agent.RunID
	for _, r := range runs {
		if r.Driver {
			here = append(here, f.runID(r))
		} else {
			there = append(there, f.runID(r))
		}
	}
	err := errors.Join(f.clean(ctx, addr, there), f.clean(ctx, driversHere, here))
	f.inform(addr, func(m *machine) {
		for _, r := range m.runs {
			m.rouse(r)
			m.advance(r)
		}
		if l := m.link; l != nil {
			l.spawn(func() { m.lookAgain(l) })
		}
	})
	return err
}

func (f *Fleet) clean(ctx context.Context, addr string, runs []agent.RunID) error {
	if len(runs) == 0 {
		return nil
	}
	l, err := f.open(ctx, ctx, addr, f.rootOf(ctx, addr))
	if err != nil {
		return err
	}
	defer l.close()
	var failed []error
	for _, id := range runs {
		err := l.client.Kill(ctx, id)
		if err == nil || errors.Is(err, agent.ErrNoRun) {
			err = l.client.Forget(ctx, []agent.RunID{id}, true)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("clean %s on %s: %w", id.Name(), addr, err))
		}
	}
	return errors.Join(failed...)
}

// inform has the actor of an address, if there is one, call fn.
func (f *Fleet) inform(addr string, fn func(*machine)) {
	f.mu.Lock()
	m := f.machines[addr]
	f.mu.Unlock()
	if m != nil {
		m.do(func() { fn(m) })
	}
}

// rootOf is the root that was chosen on a machine before, as its actor knows it.
func (f *Fleet) rootOf(ctx context.Context, addr string) string {
	root := make(chan string, 1)
	f.mu.Lock()
	m := f.machines[addr]
	running := f.ctx != nil && f.ctx.Err() == nil
	f.mu.Unlock()
	if m == nil || !running {
		return ""
	}
	m.do(func() { root <- m.root })
	select {
	case r := <-root:
		return r
	case <-m.f.ctx.Done():
	case <-ctx.Done():
	}
	return ""
}

// lookAgain reports a machine that is connected once more, with the runs that are there now.
func (m *machine) lookAgain(l *link) {
	found, err := m.survey(l)
	if err != nil {
		l.giveUp(err) // the next one looks
		return
	}
	m.do(func() {
		defer m.f.surveys.end()
		if m.link == l {
			m.reportConnected(found)
		}
	})
}

// driverRuns lists the runs that the driver made on this host
// for a machine. Where it never made any, no agent is asked.
func (m *machine) driverRuns(ctx context.Context) ([]agent.RunInfo, error) {
	dir := filepath.Join(m.f.opt.LocalRoot, "runs", m.f.opt.ServerID, m.id)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		return nil, nil
	}
	ctx, cancel := m.f.limited(ctx)
	defer cancel()
	l, err := m.f.open(ctx, ctx, driversHere, "")
	if err != nil {
		return nil, err
	}
	defer l.close()
	listed, err := l.client.List(ctx, m.f.opt.ServerID, m.id)
	if err != nil {
		return nil, fmt.Errorf("list the driver's runs: %w", err)
	}
	return listed, nil
}
