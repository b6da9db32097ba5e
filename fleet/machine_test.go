package fleet

import "testing"

// TestConnectedAgain has a machine leave the pool and come back while a run that it owes keeps its link.
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
