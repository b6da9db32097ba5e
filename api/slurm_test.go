package api

import "testing"

// TestProviderSummary: a reason that is a sentence doesn't make the column of states one.
func TestProviderSummary(t *testing.T) {
	for reason, want := range map[string]string{
		"":                                     "1 pending",
		"Priority":                             "1 pending: Priority",
		"QOSMaxWallDurationPerJobLimit":        "1 pending: QOSMaxWallDurationPerJobLimit",
		"AssocGrpCPURunMinutesLimitOfSomebody": "1 pending: AssocGrpCPURunMinutesLimitOfSomebody",
		"ReqNodeNotAvail, UnavailableNodes:n1,n2,n3": "1 pending: ReqNodeNotAvail…",
		"Nodes required for job are DOWN, DRAINED or reserved": "1 pending: Nodes required for " +
			"job are…",
	} {
		p := Provider{Pending: 1}
		if reason != "" {
			p.Reasons = []string{reason}
		}
		if got := p.Summary(); got != want {
			t.Errorf("%q is summed up as %q, not %q", reason, got, want)
		}
	}
	m := Machine{State: "connected", Pilot: &Pilot{State: "SUSPENDED"}}
	if got := m.Remarks(); len(got) != 1 || got[0] != "suspended" {
		t.Errorf("a pilot that stands still has the remarks %q", got)
	}
	m.Pilot.State = "RUNNING"
	if got := m.Remarks(); len(got) > 0 {
		t.Errorf("one that runs has the remarks %q", got)
	}
}
