package fleet

import (
	"errors"

	"jobserver/agent"
	"jobserver/failpoint"
	"jobserver/sched"
)

// A run that starts together with others, on other machines, is made ready first: its code and its
// inputs are put on the machine, and its directory is made. Then it waits until sched says that all
// are ready.

// beginning is a task that starts runs, or makes all ready for them.
type beginning func(l *link, batch []*run, specs []agent.Spec)

// begin is the task that begins runs which are only to be made ready, or those that start.
func (m *machine) begin(prepare bool) beginning {
	if prepare {
		return m.prepareBatch
	}
	return m.startBatch
}

// prepareBatch is the task of making all ready for runs.
func (m *machine) prepareBatch(l *link, batch []*run, specs []agent.Spec) {
	failpoint.Hit("fleet.prepare-due")
	results, err := l.client.Prepare(l.ctx, specs)
	if errors.Is(err, agent.ErrBadRequest) { // an agent of an older version: its starts will tell
		results, err = make([]agent.StartResult, len(specs)), nil
	}
	failpoint.Hit("fleet.prepared")
	for i, result := range results {
		m.madeReady(batch[i], result)
	}
	batch, specs = batch[len(results):], specs[len(results):]
	switch {
	case err == nil:
	case unanswered(l, err):
		m.releaseAll(batch)
	case errors.Is(err, agent.ErrBusy):
		_ = m.f.disk.pause(l.ctx) // the end of the link is seen by release
		m.releaseAll(batch)
	case len(batch) == 1:
		m.finish(batch[0], verdict{notStarted: err.Error()})
	default: // one of them is to blame
		for i := range batch {
			m.prepareBatch(l, batch[i:i+1], specs[i:i+1])
		}
	}
}

// madeReady takes the agent's answer for one run.
func (m *machine) madeReady(r *run, result agent.StartResult) {
	switch result.Status {
	case agent.StartOK:
	case agent.StartOtherBoot:
		m.finish(r, verdict{notStarted: "the machine has rebooted since it was dispatched"})
		return
	default:
		m.finish(r, verdict{
			notStarted: result.Reason, impossible: result.Status == agent.StartImpossible,
		})
		return
	}
	m.do(func() {
		r.ready = true
		m.release(r) // a cancel that came meanwhile
	})
	if !r.silent.Load() {
		m.f.report(sched.Prepared{Ref: r.ref})
	}
}
