package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/api"
)

// TestResultsAsAttacks has jobs whose RESULTS name, and contain, what could lead elsewhere. Nothing
// outside their destinations is written, and nothing in the host's files is changed.
func TestResultsAsAttacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	must(t, os.Mkdir(w.results, 0o700))
	outside := filepath.Join(w.dir, "outside")
	must(t, os.Mkdir(outside, 0o700))
	write(t, filepath.Join(outside, "victim"), "as it was", 0o600)
	for name, tt := range map[string]struct {
		cmd    string
		want   []string // in the job's directory, beside its record
		broken bool     // something isn't copied
	}{
		"dot dot": {"echo x > ../dot$JOBSERVER_JID; echo RESULTS: " +
			"../../dot$JOBSERVER_JID/../x", nil, true},
		"absolute": {"echo x > $PWD/abs; echo RESULTS: $PWD/abs", []string{"- abs"},
			false},
		"quotes and blanks": {`f="it's a \"file\" "; echo x > "$f"; echo "RESULTS: $PWD/$f"`,
			[]string{`- it's a "file" `}, false},
		"empty": {": > empty; echo RESULTS: empty", []string{"- empty"}, false},
		"a glob": {"touch a1 a2 b1; echo 'RESULTS: a?'", []string{"- a1", "- a2"},
			false},
		"names of lines": {`mkdir d; touch "d/a
RESULTS: b" "d/$(printf '\033[31mred')" "d/$(printf '\377')"; echo RESULTS: d`,
			[]string{"d d", "- d/\x1b[31mred", "- d/a\nRESULTS: b", "- d/\xff"}, false},
		"links out": {"mkdir d; ln -s " + outside +
			" d/out; ln -s ../../../../victim d/up; ln -s /etc/passwd d/abs; touch d/f; ln -s f " +
			"d/in; echo RESULTS: d",
			[]string{"d d", "- d/f", "L d/in"}, true},
		"a link and what is below": {"mkdir d; ln -s " + outside +
			" d/x; echo RESULTS: d; echo RESULTS: d/x/victim", []string{"d d", "- victim"}, true},
		"the record's name": {"echo '{}' > job.json; echo RESULTS: job.json",
			[]string{"- job.json"}, false},
		"missing": {"echo RESULTS: /no/such/thing", nil, true},
		"no file": {"mkfifo pipe; echo RESULTS: pipe; echo RESULTS: /dev/zero",
			nil, true},
		"one name twice": {
			"mkdir p q; touch p/f q/f; echo RESULTS: p/f; echo RESULTS: q/f", []string{"- f"}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := "cd $JOBSERVER_SCRATCH && mkdir in && cd in && " + tt.cmd
			// Relative paths are the login directory's, so the lines get the directory put in
			// front.
			cmd = fmt.Sprintf(`{ %s
} | sed "s|^RESULTS: \([^/]\)|RESULTS: $JOBSERVER_SCRATCH/in/\1|"`, cmd)
			j := w.wait(w.submit(api.JobSpec{Cmd: cmd, CpPath: w.results}))
			if j.Status != "done" || (j.ResultsStatus == "copied") == tt.broken || tt.broken &&
				j.ResultsError == "" {
				t.Errorf("it is %s, its results %s: %s %s", j.Status, j.ResultsStatus, j.Error,
					j.ResultsError)
			}
			got := tree(t, filepath.Join(w.results, number(j.JID)))
			record := "- job.json"
			if slices.Contains(tt.want, record) {
				record = "- " + number(j.JID) + ".job.json"
			}
			if i := slices.Index(got, record); i >= 0 {
				got = slices.Delete(got, i, i+1)
			} else if !tt.broken {
				t.Errorf("there is no record: %q", got)
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the results: %s", diff)
			}
			if why := w.J(t, "job", "why", number(j.JID)); strings.ContainsRune(why, '\x1b') {
				t.Errorf("an escape sequence reaches the terminal: %q", why)
			}
		})
	}
	if diff := cmp.Diff([]string{"- victim"}, tree(t, outside)); diff != "" ||
		read(t, filepath.Join(outside, "victim")) != "as it was" {
		t.Errorf("something outside was changed: %s", diff)
	}
	if m := w.machine(w.machines[0]); m.Failures > 0 || m.Class != "x" {
		t.Errorf("copies that failed count against the machine: %d, %s", m.Failures, m.Class)
	}
}

// TestNameTaken: where jobs share a directory, a name that is taken is not replaced. When it is
// free, the copy can be had again, and nothing runs again for that.
func TestNameTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	cmd := "cd $JOBSERVER_SCRATCH; echo $JOBSERVER_JID > table; echo RESULTS: " +
		"$JOBSERVER_SCRATCH/table"
	first := w.submit(api.JobSpec{Cmd: w.marked(cmd), CpPath: w.results, Flat: true})
	w.ended(first, "done", "exited")
	second := w.submit(api.JobSpec{Cmd: w.marked(cmd), CpPath: w.results, Flat: true})
	j := w.ended(second, "done", "exited")
	table := filepath.Join(w.results, "table")
	if j.ResultsStatus != "failed" || !strings.Contains(j.ResultsError, table) ||
		read(t, table) != number(first)+"\n" {
		t.Errorf("results are %s: %q; the first job's are %q", j.ResultsStatus, j.ResultsError,
			read(t, table))
	}
	must(t, os.Rename(table, table+".first"))
	w.change(api.OpRecopy, second)
	if j := w.ended(second, "done", "exited"); j.ResultsStatus != "copied" ||
		read(t, table) != number(second)+"\n" {
		t.Errorf("after recopy, results are %s: %s", j.ResultsStatus, j.ResultsError)
	}
	w.cleanEnd()
}

// TestManyResults has a hundred thousand small files, and fewer in a hurry, copied by a daemon that
// is killed meanwhile.
func TestManyResults(t *testing.T) {
	t.Parallel()
	n := int(scaled(t, 2_000, 100_000))
	w := newWorld(t)
	m := w.add()
	id := w.submit(api.JobSpec{CpPath: w.results, Cmd: w.marked(fmt.Sprintf(
		`d=$JOBSERVER_SCRATCH/many; mkdir $d; cd $d; head -c %d /dev/zero | tr '\0' x | split -b 4 -a 5 -d - f; head -c 30000000 /dev/zero > zeros; echo RESULTS: $d`, 4*n))})
	eventually(t, "the copy has begun", func() bool {
		parts, err := filepath.Glob(filepath.Join(w.results, ".jobserver-*.part/many/f00100"))
		return err != nil || len(parts) > 0 || w.job(id).Status == "done"
	})
	w.restart()
	m.network.Reset()
	j := w.ended(id, "done", "exited")
	if files := len(tree(t, j.ResultsDir)); j.ResultsStatus != "copied" || files != n+3 {
		t.Errorf("results are %s, %d files: %s", j.ResultsStatus, files, j.ResultsError)
	}
	count(t, n, "files of one result")
	if got := repeated(t, filepath.Join(j.ResultsDir, "many", "zeros"), "\x00"); got != 30000000 {
		t.Errorf("a large file has %d bytes", got)
	}
	w.cleanEnd()
}
