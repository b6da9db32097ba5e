package fleet

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"jobserver/agent"
	"jobserver/sched/statepb"
)

func TestUnique(t *testing.T) {
	got := unique([]string{"b", "a", "b", "", "a", "c", ""})
	if diff := cmp.Diff([]string{"b", "a", "", "c"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPlain(t *testing.T) {
	for _, s := range []string{"", "text", "\xff\xfe", strings.Repeat("ü", 5000), "a" +
		strings.Repeat("ü", 5000)} {
		if got := plain(s); !utf8.ValidString(got) || len(got) > 5000 || s == "text" && got != s {
			t.Errorf("%.20q becomes %.20q of %d bytes", s, got, len(got))
		}
	}
}

func TestHostileResult(t *testing.T) {
	r := &run{ref: &statepb.RunRef{Job: 1}}
	r.results, r.measurements = []string{"\xff"}, []string{"x\x80"}
	a := r.result(&agent.Exit{Cause: 99, BootID: "\xff", SignalName: "\xff", StartError: "\xff",
		LogError: "\xff"}, "\xff")
	for _, s := range append(append(a.Results, a.Measurements...), a.BootId, a.Signal, a.Error) {
		if !utf8.ValidString(s) {
			t.Errorf("%q would spoil the record", s)
		}
	}
	if a.Cause != statepb.Cause_EXITED {
		t.Errorf("the cause is %v", a.Cause)
	}
}
