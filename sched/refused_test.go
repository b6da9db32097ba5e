package sched

import (
	"testing"

	"jobserver/sched/statepb"
)

// TestKnownAgain: a machine that was set aside for its host key goes back to its class when it is let in, whoever
// recorded the key.
func TestKnownAgain(t *testing.T) {
	w := newWorld()
	check(t, w.do(w.s.PlanMachines([]MachineSpec{{Addr: "gpu1", Class: "bench"}}, w.now)))
	check(t, w.report(Refused{Addr: "gpu1", Reason: "the host key is unknown", HostKey: true}))
	if m, _ := w.s.Machine("gpu1"); m.Class != unknownHostClass || m.Link != LinkRefused {
		t.Fatalf("refused, it is in class %s, %s", m.Class, m.Link)
	}
	check(t, w.report(Connected{Addr: "gpu1", Facts: &statepb.Machine{BootId: "1"}}))
	if m, _ := w.s.Machine("gpu1"); m.Class != "bench" || m.LastError != "" || m.Link != LinkConnected {
		t.Errorf("let in, it is in class %s, %s: %s", m.Class, m.Link, m.LastError)
	}
	check(t, w.report(Refused{Addr: "gpu1", Reason: "the machine accepts none of our keys"}))
	if m, _ := w.s.Machine("gpu1"); m.Class != "bench" {
		t.Errorf("without keys it is in class %s", m.Class)
	}
}
