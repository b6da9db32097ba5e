package sched

import (
	"testing"

	"jobserver/sched/statepb"
)

// TestKnownAgain: a machine that was set aside for its host key goes back to its class when it is
// let in, whoever recorded the key.
func TestKnownAgain(t *testing.T) {
	w := newWorld()
	check(t, w.do(w.s.PlanMachines([]MachineSpec{{Addr: "gpu1", Class: "bench"}}, w.now)))
	check(t, w.report(Refused{Addr: "gpu1", Reason: "the host key is unknown", HostKey: true}))
	if m, _ := w.s.Machine("gpu1"); m.Class != unknownHostClass || m.Link != LinkRefused {
		t.Fatalf("refused, it is in class %s, %s", m.Class, m.Link)
	}
	check(t, w.report(Connected{Addr: "gpu1", Facts: &statepb.Machine{BootId: "1"}}))
	if m, _ := w.s.Machine("gpu1"); m.Class != "bench" || m.LastError != "" ||
		m.Link != LinkConnected {
		t.Errorf("let in, it is in class %s, %s: %s", m.Class, m.Link, m.LastError)
	}
	check(t, w.report(Refused{Addr: "gpu1", Reason: "the machine accepts none of our keys"}))
	if m, _ := w.s.Machine("gpu1"); m.Class != "bench" {
		t.Errorf("without keys it is in class %s", m.Class)
	}
}

// TestWhyRefused: why a job waits says of a machine that refuses us what helps, and when it is
// tried again.
func TestWhyRefused(t *testing.T) {
	w := newWorld()
	check(t, w.do(w.s.PlanMachines([]MachineSpec{{Addr: "gpu1", Class: "bench"}}, w.now)))
	const hint = "it is tried again at 12:00:00; jobserver machine check gpu1 tries it now"
	check(t,
		w.report(Refused{Addr: "gpu1", Reason: "the machine accepts none of our keys", Hint: hint}))
	ids, err := w.submit(JobSpec{Class: "bench", Cmd: "true"})
	check(t, err)
	if r, err := w.s.Why(ids[0], w.now); err != nil || r.Hint != "gpu1: "+hint {
		t.Errorf("got %+v, %v", r, err)
	}
}
