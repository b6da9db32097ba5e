package fleet

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// What jobs print on their way to their results, the way programs print it.
func TestPrintedResults(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	const make = "cd $JOBSERVER_SCRATCH; mkdir o; echo 1 > o/x; "
	want := map[string]string{"o": "/", "o/x": "1\n"}
	for i, test := range []struct {
		name, print string
		want        map[string]string
		err         string
	}{
		{"plain", `echo "RESULTS: $PWD/o"`, want, ""},
		{"a progress bar", `printf '50%%\r100%%\r'; echo "RESULTS: $PWD/o"`, want, ""},
		{"CRLF", `printf 'RESULTS: %s/o\r\n' "$PWD"`, want, ""},
		{"colours", `printf '\033[32mRESULTS:\033[0m %s/o\033[0m  \n' "$PWD"`, want, ""},
		{"bytes", `cp -r o "$(printf 'caf\351')"; printf 'RESULTS: %s/caf\351\n' "$PWD"`,
			map[string]string{"caf\xe9": "/", "caf\xe9/x": "1\n"}, ""},
		{"in a log line", `echo "INFO RESULTS: $PWD/o"`, nil, "doesn't begin with RESULTS:"},
		{
			"beside one that is taken",
			`cp -r o p; echo "RESULTS: $PWD/o"; echo "Results: $PWD/p"`, want,
			"doesn't begin with RESULTS:",
		},
		{"an empty variable", `echo "RESULTS: $NOWHERE"`, nil, "results are missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			jid := uint64(i + 1)
			r := job("local", jid, make+test.print)
			h.Start(r)
			a := h.ends(r, h.logOf(r))
			c := results("local", jid, filepath.Join(t.TempDir(), "r"))
			a.Number = 1
			c.Attempt = a
			got := h.copied(c)
			if !strings.Contains(got.Error, test.err) || test.err == "" && got.Error != "" {
				t.Errorf("the error is %q, want %q", got.Error, test.err)
			}
			if test.want == nil {
				return
			}
			if diff := cmp.Diff(test.want, tree(t, c.Dest)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// logOf is the log of a run that has ended.
func (h *host) logOf(r sched.Run) string {
	await(h, func(o sched.Ended) bool { return o.Ref.Job == r.Ref.Job })
	return h.log(r, false)
}

// Lines that say nothing count as well.
func TestManyMarks(t *testing.T) {
	t.Parallel()
	r := &run{ref: &statepb.RunRef{Job: 1}}
	marks := make([]agent.Mark, 1<<16)
	for i := range marks {
		marks[i].Kind = agent.Results
	}
	for range 100 {
		r.take(agent.PollReply{Marks: marks})
	}
	if n := len(r.results); n > maxMarks/markOverhead || r.unmarked != 100<<16-n {
		t.Errorf("%d lines are kept, %d are not", n, r.unmarked)
	}
}
