package fleet

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

func TestInside(t *testing.T) {
	tests := []struct {
		name, target string
		want         bool
	}{
		{"d/link", "x", true},
		{"d/link", "sub/x", true},
		{"d/sub/link", "../x", true},
		{"d/sub/link", "..", true},
		{"d/link", ".", true},
		{"d/link", "..", false},
		{"d/link", "../x", false},
		{"d/link", "../d/x", true},
		{"d/sub/link", "../../x", false},
		{"d/link", "/etc/passwd", false},
		{"d/link", "", false},
		{"d/link", "a/../../x", false},
		{"d/link", "a/..", false}, // a may be a link itself
		{"d/link", "a/../b", false},
		{"link", "x", false}, // there is no directory that it could stay in
		{"d/link", "..x", true},
		{"d/link", "../dd/x", false},
	}
	for _, test := range tests {
		if got := inside(test.name, test.target); got != test.want {
			t.Errorf("%s -> %s stays inside: %v", test.name, test.target, got)
		}
	}
}

// A machine may say what it likes: what reaches beyond the destination is left out.
func TestScreen(t *testing.T) {
	tr := &transfer{c: &copying{Copy: sched.Copy{Job: &statepb.Job{Id: 1}}}}
	tr.manifest.Entries = []agent.Entry{
		{Name: "d", Kind: agent.Dir},
		{Name: "d/x", Kind: agent.File},
		{Name: "job.json", Kind: agent.File},
		{Name: "1.job.json", Kind: agent.File},
		{Name: "d/out", Kind: agent.Symlink, Target: "../.."},
		{Name: "d/out/x", Kind: agent.File},
		{Name: "e/x", Kind: agent.File},
		{Name: "d/in", Kind: agent.Symlink, Target: "x"},
		{Name: "d/said", Kind: agent.Symlink, Target: "x", Escapes: true},
	}
	tr.screen()
	var kept []string
	for _, e := range tr.manifest.Entries {
		kept = append(kept, e.Name)
	}
	if got := strings.Join(kept, " "); got != "d d/x job.json d/in" || len(tr.problems) != 5 {
		t.Errorf("it keeps %s, and says %q", got, tr.problems)
	}
}

func TestUnique(t *testing.T) {
	got := unique([]string{"b", "a", "b", "", "a", "c", ""})
	if diff := cmp.Diff([]string{"b", "a", "", "c"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPlain(t *testing.T) {
	for _, s := range []string{"", "text", "\xff\xfe", strings.Repeat("ü", 5000), "a" + strings.Repeat("ü", 5000)} {
		if got := plain(s); !utf8.ValidString(got) || len(got) > 5000 || s == "text" && got != s {
			t.Errorf("%.20q becomes %.20q of %d bytes", s, got, len(got))
		}
	}
}

func TestHostileResult(t *testing.T) {
	r := &run{ref: &statepb.RunRef{Job: 1}}
	r.results, r.metrics = []string{"\xff"}, []string{"x\x80"}
	a := r.result(&agent.Exit{Cause: 99, BootID: "\xff", SignalName: "\xff", StartError: "\xff", LogError: "\xff"}, "\xff")
	for _, s := range append(append(a.Results, a.Metrics...), a.BootId, a.Signal, a.Error) {
		if !utf8.ValidString(s) {
			t.Errorf("%q would spoil the record", s)
		}
	}
	if a.Cause != statepb.Cause_EXITED {
		t.Errorf("the cause is %v", a.Cause)
	}
}

func FuzzInside(f *testing.F) {
	f.Add("d/link", "../x")
	f.Add("a/b/c", "../../q/r")
	f.Fuzz(func(t *testing.T, name, target string) {
		// Whatever it lets pass, walked from the link's own directory, never leaves the first element.
		if strings.Contains(name, "..") || strings.HasPrefix(name, "/") || !inside(name, target) {
			return
		}
		elements := strings.Split(name, "/")
		depth := len(elements) - 1
		for e := range strings.SplitSeq(target, "/") {
			switch e {
			case "", ".":
			case "..":
				depth--
			default:
				depth++
			}
			if depth < 0 {
				t.Errorf("%s -> %s leaves the results", name, target)
			}
		}
	})
}
