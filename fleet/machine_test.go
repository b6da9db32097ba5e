package fleet

import (
	"testing"

	"jobserver/sched"
	"jobserver/sched/statepb"
)

// TestConnectedAgain has a machine leave the pool and come back while a run that it owes keeps its
// link.
func TestConnectedAgain(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	g := newGate(t)
	r := job("local", 1, g.command())
	h.Start(r)
	g.reached()
	h.tell(func() { h.reports = nil })
	h.connected("local")
	g.open(t)
	h.ends(r, "")
}

// TestSettledMeanwhile removes a run between the list of the runs that are there and its report:
// reported after Settled, nothing would know it.
func TestSettledMeanwhile(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	r := job("local", 1, "true")
	h.Start(r)
	h.ends(r, "")

	m := h.Fleet.machine("local")
	at := make(chan *link, 1)
	m.do(func() { at <- m.link })
	found, err := m.survey(<-at)
	if err != nil || len(found.runs) != 1 {
		t.Fatalf("the survey found %v, %v", found, err)
	}
	h.settled(&statepb.Obligation{Run: r.Ref})
	h.tell(func() { h.reports = nil })
	m.do(func() { m.reportConnected(found) })
	if o := await[sched.Connected](h, nil); len(o.Runs) != 0 {
		t.Errorf("%v is reported, though it was settled", o.Runs)
	}
	m.f.surveys.end()
}
