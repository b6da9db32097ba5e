package slurm_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/slurm/slurmtest"
	"jobserver/ssh/sshtest"
)

// example is the experiment of the README, as it is there, but for a corpus and a number of repeats
// with which it takes seconds.
type example struct {
	p          *pool
	dir        string // all of it, which everybody may read
	experiment string
	script     string
}

// newExample copies examples/compression.
func newExample(t *testing.T, p *pool) *example {
	t.Helper()
	for _, tool := range []string{"gzip", "xz", "zstd", "bzip2"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal(err)
		}
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	x := &example{p: p, dir: t.TempDir()}
	readable(t, x.dir)
	tree := os.DirFS(filepath.Join(strings.TrimSpace(string(goroot)), "src", "strings"))
	if err := os.CopyFS(filepath.Join(x.dir, "go", "src", "strings"), tree); err != nil {
		t.Fatal(err)
	}
	p.j("var", "set", "GOROOT", filepath.Join(x.dir, "go"))
	p.j("var", "set", "TREE", "src/strings")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("../../examples/compression", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	x.script = read("compress.sh")
	x.experiment = strings.NewReplacer("repeats: 5", "repeats: 2",
		"cp_path: results", "cp_path: "+filepath.Join(p.dir, "results")).
		Replace(read("experiment.yaml"))
	return x
}

// change replaces texts, all of which have to be there.
func change(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q isn't in\n%s", pairs[i], text)
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

// apply applies the experiment as a class's, and waits for it.
func (x *example) apply(class, experiment, script string) {
	x.p.t.Helper()
	dir := filepath.Join(x.dir, class)
	for name, text := range map[string]string{
		"compress.sh": script,
		"experiment.yaml": change(x.p.t, experiment, "name: compression", "name: "+class,
			"class: bench", "class: "+class),
	} {
		if err := errors.Join(os.MkdirAll(dir, 0o755),
			os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil {
			x.p.t.Fatal(err)
		}
	}
	x.p.j("matrix", "apply", filepath.Join(dir, "experiment.yaml"))
	// Where jobs fail, so does this.
	if _, _, _, err := x.p.Daemon.Run(x.p.t.Context(), "wait", "%"+class); err != nil {
		x.p.t.Fatal(err)
	}
}

// table is what the README shows in the end.
func (x *example) table(class string) string {
	x.p.t.Helper()
	return x.p.j("matrix", "table", class, "--rows", "LEVEL", "--cols", "TOOL", "--cell",
		"ratio")
}

// TestSameSweep: the compression sweep of the README, grown and mended, has the same table in the
// end on a class of one machine, and on one of that machine and a partition behind a login, where
// we are another user.
func TestSameSweep(t *testing.T) {
	t.Parallel()
	c := slurmtest.Start(t, slurmtest.Nodes(2))
	_, client := loginNode(t, c)
	sshtest.Start(t, sshtest.Shared(client), sshtest.Named("box"))
	p := beside(t, c, "--ssh-config", client.ConfigFile)
	x := newExample(t, p)
	grown := change(t, x.experiment, "LEVEL: [1, 3, 6]", "LEVEL: [1, 3, 6, 9]",
		"order:", "include:\n  - {TOOL: bzip2, LEVEL: 9}\norder:")
	mended := change(t, x.script, "\nzstd)",
		"\nbzip2) compress() { bzip2 -\"$level\" -c \"$corpus\"; } ;;\nzstd)")

	p.j("machine", "add", "box", "alone")
	x.apply("alone", grown, mended)
	want := x.table("alone")
	if strings.Count(want, "\n") != 4 || !strings.Contains(want, "TOOL=bzip2") {
		t.Fatalf("the table of one machine is\n%s", want)
	}

	p.j("machine", "mv", "-m", "box", "both")
	p.j("machine", "add", "slurm:login/test", "both", "--time", "1h", "--max", "2", "--slots", "2",
		"--idle", "1s")
	// No cell ends before one has begun on either.
	tell := filepath.Join(x.dir, "tell")
	if err := errors.Join(os.WriteFile(tell, nil, 0o666), os.Chmod(tell, 0o666)); err != nil {
		t.Fatal(err)
	}
	gate := "set -eu\necho ${SLURM_JOB_ID:+in a partition} >>" + tell +
		"; until grep -q . " + tell + " && grep -qx '' " + tell + "; do sleep 0.1; done\n"
	x.apply("both", x.experiment, change(t, x.script, "set -eu\n", gate))
	x.apply("both", grown, change(t, x.script, "set -eu\n", gate))
	if why := p.j("matrix", "why", "both"); !strings.Contains(why, "no such tool: bzip2") {
		t.Errorf("why the new cells failed can't be seen:\n%s", why)
	}
	x.apply("both", grown, change(t, mended, "set -eu\n", gate))
	if got := x.table("both"); got != want {
		t.Errorf("the table of one machine and a partition is\n%s\nof the machine alone\n%s", got,
			want)
	}
	results, err := filepath.Glob(filepath.Join(p.dir, "results", "*", "compression.csv"))
	if err != nil || len(results) != 2*26 {
		t.Errorf("there are the results of %d cells, %v", len(results), err)
	}
	p.j("machine", "rm", "box")
	p.empty()
}
