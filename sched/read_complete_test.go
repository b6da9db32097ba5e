package sched

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched/statepb"
)

// TestCompleteMatrices: what a shell offers for selectors of matrices, and for variables.
func TestCompleteMatrices(t *testing.T) {
	s := NewState()
	s.order = []*matrix{
		{Matrix: &statepb.Matrix{Id: 3, Name: "old", Template: &statepb.Job{Cmd: []byte("a")},
			Axes: []*statepb.Axis{{Name: "LR", Values: []string{"1"}}}}},
		{Matrix: &statepb.Matrix{Id: 12, Name: "study", Template: &statepb.Job{Cmd: []byte("b")},
			Axes: []*statepb.Axis{
				{Name: "LR", Values: []string{"0.1", "0.01"}},
				{Name: "MODE", Values: []string{"fast", "slow"}}}}},
		{Matrix: &statepb.Matrix{Id: 7, Name: "old.train", Template: &statepb.Job{}}},
		{Matrix: &statepb.Matrix{Id: 8, Name: "new.train", Template: &statepb.Job{}}},
		{Matrix: &statepb.Matrix{Id: 9, Name: "new.evaluate", Template: &statepb.Job{}}},
		{Matrix: &statepb.Matrix{Id: 17, Template: &statepb.Job{Cmd: []byte("c")}}},
	}
	at := time.Unix(1_700_000_000, 0)
	for _, spec := range []MachineSpec{
		{Addr: "a", Class: "lab", Resources: map[string]string{"gpu": "0,1", "mem": "8G"}},
		{Addr: "b", Class: "fast"},
	} {
		p, err := s.PlanMachines([]MachineSpec{spec}, at)
		check(t, err)
		s.run1(t, at, p.Changes...)
	}
	p, err := s.PlanResource("license", "3", false)
	check(t, err)
	s.run1(t, at, p.Changes...)
	for _, test := range []struct {
		kind, prefix string
		want         []string
	}{
		{"job", "%", []string{"%17", "%new.evaluate", "%9", "%new.train",
			"%8", "%old.train", "%7", "%study", "%12", "%old", "%3"}},
		{"job", "%s", []string{"%study"}},
		{"job", "%1", []string{"%17", "%12"}},
		{"job", "%study,",
			[]string{"%study,LR=0.1", "%study,LR=0.01", "%study,MODE=fast", "%study,MODE=slow"}},
		{"job", "%12,M", []string{"%12,MODE=fast", "%12,MODE=slow"}},
		{"job", "%study,LR=0.1,", []string{"%study,LR=0.1,MODE=fast", "%study,LR=0.1,MODE=slow"}},
		{"job", "%none,", nil},
		{"axis", "", []string{"LR", "MODE", "machine", "REPEAT"}},
		{"axis", "M", []string{"MODE"}},
		{"axis", "LR,", []string{"LR,MODE", "LR,machine", "LR,REPEAT"}},
		{"axis", "LR,m", []string{"LR,machine"}},
		{"stage", "", []string{"evaluate", "train"}},
		{"stage", "t", []string{"train"}},
		{"need", "", []string{"license=1", "gpu=1", "mem=1G", "cores=1"}},
		{"need", "g", []string{"gpu=1"}},
		{"need", "gpu=2,", []string{"gpu=2,license=1", "gpu=2,mem=1G", "gpu=2,cores=1"}},
		{"need", "gpu=2,mem=4G,c", []string{"gpu=2,mem=4G,cores=1"}},
		{"equipment", "", []string{"cores=", "gpu=", "mem="}},
		{"equipment", "gpu=", []string{"gpu=auto", "gpu=0,1"}},
		{"equipment", "mem=8", []string{"mem=8G"}},
		{"with", "S", nil},
		{"with", "S=", []string{"S=fast", "S=lab"}},
		{"with", "S=l", []string{"S=lab"}},
	} {
		var got []string
		for _, c := range s.Complete(test.kind, test.prefix, 100) {
			got = append(got, c.Value)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", test.kind, test.prefix, diff)
		}
	}
}
