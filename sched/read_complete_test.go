package sched

import (
	"testing"

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
		{Matrix: &statepb.Matrix{Id: 17, Template: &statepb.Job{Cmd: []byte("c")}}},
	}
	for _, test := range []struct {
		kind, prefix string
		want         []string
	}{
		{"job", "%", []string{"%17", "%study", "%12", "%old", "%3"}},
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
