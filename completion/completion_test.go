package completion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"jobserver/tests/budget"
)

// TestMain makes the test's own binary the program that shells complete: when a shell asks it, it
// answers for the grammar below, and when it is run as a command it writes down its arguments.
func TestMain(m *testing.M) {
	switch {
	case Asked(os.Getenv):
		err := Run(os.Stdout, os.Getenv, os.Args[1:],
			func([]string) (*kong.Application, error) { return testModel() }, testDynamic)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case len(os.Args) == 5 && os.Args[1] == "completions": // as a start-up file asks
		script, err := Script(os.Args[2], os.Args[4], os.Args[0])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Print(script)
		os.Exit(0)
	case os.Getenv(envArgsFile) != "":
		if err := os.WriteFile(os.Getenv(envArgsFile), []byte(strings.Join(os.Args[1:], "|")),
			0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const envArgsFile = "COMPLETION_TEST_ARGS" // where the program writes its arguments

type testGrammar struct {
	Socket  string `name:"socket" predictor:"file" placeholder:"PATH" help:"The socket."`
	Verbose int    `name:"verbose" short:"v" type:"counter" help:"Say more."`
	Quiet   bool   `name:"quiet" short:"q" negatable:"" help:"Say less."`
	Secret  string `name:"secret" hidden:""`

	Job struct {
		Add struct {
			Class string            `arg:"" predictor:"class" help:"The class."`
			Cmd   string            `arg:"" help:"The command."`
			Path  string            `arg:"" optional:"" predictor:"dir"`
			Tag   string            `name:"tag" predictor:"tag" help:"A tag."`
			Env   map[string]string `name:"env" help:"A variable."`
			Wait  bool              `name:"wait" xor:"w" help:"Wait for it."`
		} `cmd:"" help:"Add a job."`
		Ls struct {
			JID    []string `arg:"" optional:"" sep:"none" predictor:"job"`
			Output string   `name:"output" short:"o" enum:"table,wide,json,jsonl,csv,id" default:"table" help:"How to print."`
		} `cmd:"" aliases:"list" help:"List jobs."`
		Stat struct {
			JID      []string `arg:"" optional:"" sep:"none" predictor:"job"`
			ID       []string `name:"id" sep:"none" several:"" predictor:"job" help:"These."`
			AltPaths []string `name:"alt_paths" sep:"none" several:"" predictor:"dir" help:"Elsewhere."`
			JSON     bool     `name:"json" help:"As JSON."`
		} `cmd:"" help:"For scripts."`
		Old struct{} `cmd:"" hidden:""`
	} `cmd:"" help:"Jobs."`
	Machine struct {
		Rm struct {
			Machine []string `name:"machine" short:"m" sep:"none" predictor:"machine" help:"A machine."`
			Words   []string `arg:"" optional:"" sep:"none" predictor:"machine" then:"class,machine"`
		} `cmd:"" help:"Remove machines."`
		Setup struct {
			Addr string   `arg:"" predictor:"machine"`
			Cmd  []string `arg:"" passthrough:""`
		} `cmd:"" help:"Set machines up."`
	} `cmd:"" aliases:"m" help:"Machines."`
	Shell struct {
		Name string `arg:"" enum:"bash,zsh,fish" help:"The shell."`
		More string `arg:"" optional:"" suggest:"install,uninstall"`
	} `cmd:"" help:"Print a script."`
}

func testModel() (*kong.Application, error) {
	parser, err := kong.New(&testGrammar{}, kong.Name("j"), kong.NoDefaultHelp())
	if err != nil {
		return nil, err
	}
	return parser.Model, nil
}

// testDynamic is the daemon. One kind of it hangs.
func testDynamic(ctx context.Context, kind, prefix string) []Candidate {
	switch kind {
	case "job":
		return []Candidate{{Value: "120", Description: "sleep 10\x1b[31m && echo\tdone"},
			{Value: "17", Description: "true"}, {Value: "@nightly", Description: "a tag"}}
	case "class":
		return []Candidate{{Value: "small"}, {Value: "small fast", Description: "with a blank"},
			{Value: "gpu$x"}}
	case "machine":
		return []Candidate{{Value: "box:22", Description: "connected"}, {Value: "box:2222"},
			{Value: "user@gpu"}, {Value: "local:a"}}
	case "tag":
		<-ctx.Done()
	}
	return nil
}

func values(candidates []Candidate) []string {
	var all []string
	for _, c := range candidates {
		all = append(all, c.Value)
	}
	return all
}

func TestAnswer(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"results/deep", "runs", ".hidden"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("read.me", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", filepath.Join(mustGetwd(t), "results"))
	globals := []string{"--socket", "--verbose", "--quiet", "--no-quiet"}
	rm := append([]string{"--machine"}, globals...)
	tests := []struct {
		line string
		want []string
	}{
		{"j ", []string{"job", "machine", "shell"}},
		{"", []string{"job", "machine", "shell"}},
		{"j jo", []string{"job"}},
		{"j m", []string{"machine"}},
		{"j x", nil},
		{"j job ", []string{"add", "ls", "stat"}},
		{"j job li", []string{"list"}},
		{"j job old ", globals},
		{"j m rm b", []string{"box:22", "box:2222"}},
		{"j machine rm ", []string{"box:22", "box:2222", "user@gpu", "local:a"}},
		{"j machine rm box:22 ",
			[]string{"small", "small fast", "gpu$x", "box:22", "box:2222", "user@gpu", "local:a"}},
		{"j machine rm box:22 -q box:2222 s", []string{"small", "small fast"}},

		// Flags, the global ones too, before and after the commands.
		{"j --", globals},
		{"j -", globals},
		{"j --qu", []string{"--quiet"}},
		{"j --quiet --", []string{"--socket", "--verbose"}},
		{"j --no-quiet --", []string{"--socket", "--verbose"}},
		{"j -vq --", []string{"--socket", "--verbose"}},
		{"j -q", []string{"-q"}},
		{"j --sec", nil},
		{"j --socket x job l", []string{"ls"}},
		{"j --socket=x job l", []string{"ls"}},
		{"j -v --quiet job l", []string{"ls"}},
		{"j job --socket x ls 1", []string{"120", "17"}},
		{"j machine rm --", rm},
		{"j machine rm --machine box:22 --mach", []string{"--machine"}},
		{"j machine rm -m lo", []string{"local:a"}},
		{"j machine rm --machine=box:2", []string{"--machine=box:22", "--machine=box:2222"}},
		{"j machine rm --what=b", nil},
		{"j job ls --output ", []string{"table", "wide", "json", "jsonl", "csv", "id"}},
		{"j job ls -o js", []string{"json", "jsonl"}},
		{"j job ls -o json 1", []string{"120", "17"}},
		{"j job ls -ojson 1", []string{"120", "17"}},
		{"j job ls --output=js", []string{"--output=json", "--output=jsonl"}},
		{"j --quiet=t", []string{"--quiet=true"}},
		{"j job add --env A=", nil},

		// Positional arguments, in their order and between flags.
		{"j job add s", []string{"small", "small fast"}},
		{`j job add "small f`, []string{"small fast"}},
		{`j job add small\ f`, []string{"small fast"}},
		{"j job add small ", nil},
		{"j job add small 'sleep 1' r", []string{"results/", "runs/"}},
		{"j job add --wait small 'sleep 1' results/", []string{"results/deep/"}},
		{"j job add small true there ",
			[]string{"--tag", "--env", "--wait", "--socket", "--verbose", "--quiet", "--no-quiet"}},
		{"j job ls 17 1", []string{"120", "17"}},
		{"j shell ", []string{"bash", "zsh", "fish"}},
		{"j shell bash i", []string{"install"}},

		// Flags that take several values.
		{"j job stat --id 1", []string{"120", "17"}},
		{"j job stat --id 17 12", []string{"120"}},
		{"j job stat --id 17 120 --j", []string{"--json"}},
		{"j job stat --id 17 --json 1", []string{"120", "17"}},
		{"j job stat --alt-paths r", []string{"results/", "runs/"}},
		{"j job stat --alt_paths runs r", []string{"results/", "runs/"}},
		{"j job stat --alt", []string{"--alt_paths"}},

		// What is passed through isn't ours, and after "--" nothing is a flag or a command.
		{"j machine setup box:22 echo --", nil},
		{"j job ls -- 1", []string{"120", "17"}},
		{"j job ls -- --", nil},
		{"j -- jo", nil},

		// Paths.
		{"j --socket r", []string{"read.me", "results/", "runs/"}},
		{"j --socket ", []string{"read.me", "results/", "runs/"}},
		{"j --socket .h", []string{".hidden/"}},
		{"j --socket ./re", []string{"./read.me", "./results/"}},
		{"j --socket runs/../re", []string{"runs/../read.me", "runs/../results/"}},
		{"j --socket ../" + filepath.Base(mustGetwd(t)) + "/ru",
			[]string{"../" + filepath.Base(mustGetwd(t)) + "/runs/"}},
		{"j --socket ~/d", []string{"~/deep/"}},
		{"j --socket nothing", nil},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			model, err := testModel()
			if err != nil {
				t.Fatal(err)
			}
			got := values(Answer(t.Context(), model, test.line, testDynamic))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func mustGetwd(t *testing.T) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDescriptions(t *testing.T) {
	model, err := testModel()
	if err != nil {
		t.Fatal(err)
	}
	want := []Candidate{{Value: "120", Description: "sleep 10 [31m && echo done"}}
	if diff := cmp.Diff(want, Answer(t.Context(), model, "j job ls 12", testDynamic)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = []Candidate{{Value: "job", Description: "Jobs."}}
	if diff := cmp.Diff(want, Answer(t.Context(), model, "j j", nil)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := oneLine(strings.Repeat("ä", 100)); got != strings.Repeat("ä", 59)+"…" {
		t.Errorf("a long description: %q", got)
	}
}

func TestHangingDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		released := make(chan struct{})
		stubborn := func(context.Context, string, string) []Candidate {
			<-released
			return []Candidate{{Value: "late"}}
		}
		var out bytes.Buffer
		env := map[string]string{envLine: "j job ls --output=table "}
		begin := time.Now()
		err := Run(&out, func(name string) string {
			return env[name]
		}, nil, func([]string) (*kong.Application, error) { return testModel() }, stubborn)
		if err != nil || out.Len() > 0 || time.Since(begin) != Patience {
			t.Errorf("after %v: %q, %v", time.Since(begin), out.String(), err)
		}
		close(released)
	})
}

func TestRun(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"bare", map[string]string{envLine: "j machine rm box:2"}, nil, "box:22\nbox:2222\n"},
		{"point in the middle", map[string]string{envLine: "j mach rm", envPoint: "4"}, nil,
			"machine\n"},
		{"point counts characters", map[string]string{envLine: "j 'ü' mach rm", envPoint: "8"}, nil,
			"machine\n"},
		{"point beyond", map[string]string{envLine: "j mach", envPoint: "99"}, nil, "machine\n"},
		{"bash, a word broken at the colon",
			map[string]string{envLine: "j machine rm box:2", envShell: "bash"},
			[]string{"j", "2", ":"}, "22 \n2222 \n"},
		{"bash, nothing behind the colon",
			map[string]string{envLine: "j machine rm box:", envShell: "bash"},
			[]string{"j", "", ":"}, "22 \n2222 \n"},
		{"bash, broken at =", map[string]string{envLine: "j job ls --output=w", envShell: "bash"},
			[]string{"j", "w", "="}, "wide \n"},
		{"bash, to be quoted", map[string]string{envLine: "j job add ", envShell: "bash"},
			[]string{"j", "", "add"}, "small \nsmall\\ fast \ngpu\\$x \n"},
		{"zsh", map[string]string{envLine: "j machine rm b", envShell: "zsh"}, nil,
			"+box\\:22:connected\n+box\\:2222\n"},
		{"fish", map[string]string{envLine: "j machine rm b", envShell: "fish"}, nil,
			"box:22\tconnected\nbox:2222\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := Run(&out, func(name string) string { return test.env[name] }, test.args,
				func([]string) (*kong.Application, error) { return testModel() }, testDynamic)
			if diff := cmp.Diff(test.want, out.String()); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	broken := errors.New("broken grammar")
	err := Run(&bytes.Buffer{}, func(string) string {
		return "j "
	}, nil, func([]string) (*kong.Application, error) { return nil, broken }, nil)
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestSplit(t *testing.T) {
	tests := []struct {
		line    string
		words   []string
		current string
	}{
		{"", nil, ""},
		{"j", nil, "j"},
		{"j ", []string{"j"}, ""},
		{"j  a\tb", []string{"j", "a"}, "b"},
		{`j "a b" 'c "d' e\ f g`, []string{"j", "a b", `c "d`, "e f"}, "g"},
		{`j "open quo`, []string{"j"}, "open quo"},
		{`j '' ""`, []string{"j", ""}, ""},
		{`j "\$x \n" \`, []string{"j", `$x \n`}, ""},
		{`j a'b c'd`, []string{"j"}, "ab cd"},
	}
	for _, test := range tests {
		words, current := split(test.line)
		if diff := cmp.Diff(test.words, words); diff != "" || current != test.current {
			t.Errorf("split(%q) = %q, %q", test.line, words, current)
		}
	}
}

// What is quoted reads as the same word.
func FuzzQuoted(f *testing.F) {
	for _, seed := range []string{"plain", "a b", `a"b'c\d`, "$x`y`", "#a", "é日", "a=b:c@d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		defer budget.Hold(t, 1<<20+64*len(word))()
		if strings.ContainsAny(word, "\n") {
			return // candidates have no control characters
		}
		words, current := split("j " + quoted(word))
		if len(words) != 1 || current != word {
			t.Errorf("%q, quoted, is %q, which reads %q, %q", word, quoted(word), words, current)
		}
	})
}

// Any line must be answered with words that go on where it ends.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{"j ", "j --socket", "j job ls -o js", "j 'machine rm box:",
		"j -vqx \\", "j job stat --id 1 --", "j -- - --=", "\xff \x00"} {
		f.Add(seed)
	}
	model, err := testModel()
	if err != nil {
		f.Fatal(err)
	}
	quick := func(ctx context.Context, kind, prefix string) []Candidate {
		if kind == "tag" {
			return nil
		}
		return testDynamic(ctx, kind, prefix)
	}
	f.Fuzz(func(t *testing.T, line string) {
		defer budget.Hold(t, 1<<20+64*len(line))()
		_, current := split(line)
		for _, c := range Answer(t.Context(), model, line, quick) {
			if !strings.HasPrefix(c.Value, current) ||
				strings.ContainsAny(c.Value+c.Description, "\n\t\x1b") {
				t.Errorf("%q: %+v", line, c)
			}
		}
	})
}

func TestScript(t *testing.T) {
	for _, shell := range Shells() {
		for _, bad := range []struct{ name, binary string }{
			{"", "/bin/j"}, {"a b", "/bin/j"}, {"-j", "/bin/j"}, {"j;ls", "/bin/j"}, {"j", "bin/j"},
			{"j", "/bin/\nj"},
		} {
			if script, err := Script(shell, bad.name, bad.binary); err == nil {
				t.Errorf("%s, %q, %q: %s", shell, bad.name, bad.binary, script)
			}
		}
		script, err := Script(shell, "my-j", "/opt/it's here/j")
		if err != nil {
			t.Fatal(err)
		}
		if path := lookShell(t, shell); path != "" {
			check := exec.Command(path, "-n")
			check.Stdin = strings.NewReader(script)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s doesn't like its script: %v\n%s\n%s", shell, err, out, script)
			}
		}
	}
	if _, err := Script("tcsh", "j", "/bin/j"); err == nil ||
		!strings.Contains(err.Error(), "bash, zsh, fish") {
		t.Errorf("an unknown shell: %v", err)
	}
}

// lookShell finds a shell. Where it is missing CI fails, and other machines go without.
func lookShell(t *testing.T, shell string) string {
	t.Helper()
	path, err := exec.LookPath(shell)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	return path
}

func TestInstall(t *testing.T) {
	tests := []struct {
		shell string
		env   map[string]string
		path  string
		note  string
	}{
		{"bash", nil, ".local/share/bash-completion/completions/j", "bash-completion"},
		{"bash", map[string]string{"XDG_DATA_HOME": "HOME/data"},
			"data/bash-completion/completions/j", "bash-completion"},
		{"zsh", nil, ".local/share/zsh/site-functions/_j", "fpath=("},
		{"zsh", map[string]string{"FPATH": "/usr/share/zsh:HOME/.local/share/zsh/site-functions"},
			".local/share/zsh/site-functions/_j", "new shells complete j"},
		{"fish", nil, ".config/fish/completions/j.fish", "new shells complete j"},
		{"", map[string]string{"SHELL": "/usr/bin/fish", "XDG_CONFIG_HOME": "HOME/conf"},
			"conf/fish/completions/j.fish", "new shells complete j"},
		{"", map[string]string{"SHELL": "/bin/bash", "XDG_DATA_HOME": "not/absolute"},
			".local/share/bash-completion/completions/j", "bash-completion"},
	}
	for _, test := range tests {
		t.Run(test.shell+" "+fmt.Sprint(test.env), func(t *testing.T) {
			home := t.TempDir()
			in := Installation{Name: "j", Binary: "/opt/jobserver", Shell: test.shell,
				Getenv: func(name string) string {
					if name == "HOME" {
						return home
					}
					return strings.ReplaceAll(test.env[name], "HOME", home)
				}}
			path := filepath.Join(home, test.path)
			for range 2 { // again is an update
				notes, err := in.Install()
				if err != nil || len(notes) != 2 || notes[0] != "wrote "+path ||
					!strings.Contains(notes[1], test.note) {
					t.Fatalf("got %q, %v", notes, err)
				}
			}
			content, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(content), "/opt/jobserver") {
				t.Errorf("%v: %s", err, content)
			}
			for _, want := range []string{"removed " + path, "there was none: no file " + path} {
				notes, err := in.Uninstall()
				if diff := cmp.Diff([]string{want}, notes); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
			}
			if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Install(); err == nil {
				t.Error("installed over someone else's file")
			}
			if _, err := in.Uninstall(); err == nil {
				t.Error("removed someone else's file")
			}
		})
	}
}

func TestInstallElsewhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	in := Installation{Name: "j", Binary: "/opt/jobserver", Shell: "zsh", Dir: dir,
		Getenv: func(string) string {
			return "/home/x"
		}}
	notes, err := in.Install()
	want := []string{"wrote " + dir + "/_j", "load it with: source '" + dir + "/_j'"}
	if diff := cmp.Diff(want, notes); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []Installation{
		{Name: "../j", Binary: "/j", Shell: "bash", Getenv: in.Getenv},
		{Name: "j", Binary: "/j", Shell: "tcsh", Getenv: in.Getenv},
		{Name: "j", Binary: "/j", Shell: "bash", Getenv: func(string) string { return "" }},
		{Name: "j", Binary: "j", Shell: "bash", Getenv: in.Getenv, Dir: dir},
	} {
		if notes, err := bad.Install(); err == nil {
			t.Errorf("%+v: %q", bad, notes)
		}
	}
}
