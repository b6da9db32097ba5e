package fleet

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/tests/budget"
)

func TestLinksAsTheyAreSaid(t *testing.T) {
	t.Parallel()
	const no, maybe, yes = "no", "where it leads decides", "yes"
	for _, test := range []struct{ name, target, want string }{
		{"d/link", "x", yes},
		{"d/link", "sub/x", yes},
		{"d/sub/link", "../x", yes},
		{"d/sub/link", "..", yes},
		{"d/link", ".", yes},
		{"d/link", "..", no},
		{"d/link", "../x", no},
		{"d/link", "../d/x", yes},
		{"d/sub/link", "../../x", no},
		{"d/sub/link", "..//x", yes},
		{"d/link", "/etc/passwd", no},
		{"d/link", "", no},
		{"d/link", "a/../../x", no},
		{"d/link", "a/..", maybe}, // a may be a link itself
		{"d/link", "a/../b", maybe},
		{"link", "x", no}, // there is no directory that it could stay in
		{"d/link", "..x", yes},
		{"d/link", "../dd/x", no},
	} {
		got := no
		switch {
		case staysInside(test.name, test.target) && leadsUpFirst(test.target):
			got = yes
		case staysInside(test.name, test.target):
			got = maybe
		}
		if got != test.want {
			t.Errorf("%s -> %s stays inside: %s, want %s", test.name, test.target, got, test.want)
		}
	}
}

func FuzzLinks(f *testing.F) {
	f.Add("d/link", "../x")
	f.Add("a/b/c", "../../q/r")
	f.Fuzz(func(t *testing.T, name, target string) {
		defer budget.Hold(t, 1<<20+64*(len(name)+len(target)))()
		// Whatever it lets pass, walked from the link's own directory, never leaves the first
		// element.
		if strings.Contains(name, "..") || strings.HasPrefix(name, "/") ||
			!staysInside(name, target) || !leadsUpFirst(target) {
			return
		}
		depth := len(strings.Split(name, "/")) - 1
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

// A machine may say what it likes: what reaches beyond the destination, or takes names of ours, is
// left out.
func TestScreen(t *testing.T) {
	t.Parallel()
	file := func(names ...string) (all []agent.Entry) {
		for _, name := range names {
			e := agent.Entry{Name: name, Kind: agent.File}
			if dir, ok := strings.CutSuffix(name, "/"); ok {
				e = agent.Entry{Name: dir, Kind: agent.Dir}
			} else if name, target, ok := strings.Cut(name, " -> "); ok {
				e = agent.Entry{Name: name, Kind: agent.Symlink, Target: target}
			}
			all = append(all, e)
		}
		return all
	}
	for name, test := range map[string]struct {
		entries []agent.Entry
		shared  bool
		diff    bool
		want    string // what is kept; an error begins with "error"
	}{
		"no directory": {entries: file("d/", "d/x", "e/x", "d/x/y"), want: "d d/x"},
		"links": {
			entries: file("d/", "d/in -> x", "d/out -> ../..", "d/out/x", "top -> d"),
			want:    "d d/in",
		},
		"said to lead out": {
			entries: []agent.Entry{{Name: "d", Kind: agent.Dir},
				{Name: "d/s", Kind: agent.Symlink, Target: "x", Escapes: true}},
			want: "d",
		},
		"the record gives way": {
			entries: file("job.json", "1.job.json"), want: "job.json",
		},
		"and its difference": {
			entries: file("job.diff", "1.job.diff", "x"),
			diff:    true,
			want:    "job.diff x",
		},
		"no difference": {
			entries: file("job.diff", "1.job.diff"),
			want:    "job.diff 1.job.diff",
		},
		"records of others": {
			entries: file("2.job.json", "7.Job.JSON", "8.job.diff", "job.json", "d/",
				"d/2.job.json"),
			shared: true,
			want:   "job.json d d/2.job.json",
		},
		"not shared": {
			entries: file("2.job.json", "8.job.diff"),
			want:    "2.job.json 8.job.diff",
		},
		"parts": {
			entries: file(".jobserver-srv-1.1.part/", ".jobserver-srv-1.1.part/files", "d/",
				"d/.JobServer-x", ".jobserver"),
			want: "d .jobserver",
		},
		"twice": {entries: file("d/", "d/x", "d/x"), want: "error"},
		"a directory and a link": {
			entries: file("d/", "d/1/", "d/1/s/", "d/1/s -> .."),
			want:    "error",
		},
		"a file and a directory": {entries: file("d", "d/"), want: "error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := &statepb.Job{Id: 1}
			if test.diff {
				job.Code = &statepb.Code{Diff: "x"}
			}
			c := sched.Copy{Job: job, Machine: &statepb.Machine{Addr: "m"}, Shared: test.shared}
			tr := &transfer{c: &copying{Copy: c}}
			n := len(test.entries)
			tr.manifest.Entries = test.entries
			err := tr.screen()
			var kept []string
			for _, e := range tr.manifest.Entries {
				kept = append(kept, e.Name)
			}
			got := strings.Join(kept, " ")
			if err != nil {
				got = "error"
			} else if len(tr.problems) != n-len(kept) {
				t.Errorf("it says %q", tr.problems)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestManyProblems(t *testing.T) {
	t.Parallel()
	tr := &transfer{c: &copying{}}
	for i := range mostProblems + 5 {
		tr.problem("problem %d", i)
	}
	if all := tr.allProblems(); len(all) != mostProblems+1 || all[mostProblems] != "and 5 more" {
		t.Errorf("%d problems are kept, the last is %q", len(all), all[len(all)-1])
	}
	if got := tr.complaint(); !strings.HasSuffix(got, "problem 9; and 995 more") {
		t.Errorf("it complains %q", got)
	}
	tr = &transfer{c: &copying{}}
	if tr.problem("%s", strings.Repeat("é", 1<<20)); len(tr.problems[0]) > mostOfOne+len("…") ||
		!utf8.ValidString(tr.problems[0]) {
		t.Errorf("a problem has %d bytes", len(tr.problems[0]))
	}
}
