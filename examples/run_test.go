package examples_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

// A stage is what a section needs that its readers have already, or what would take too long as it
// stands there.
type stage struct {
	prelude string // commands before the first
	// replaced are texts, and what stands in their place when they are run
	replaced []string
	machines bool   // red, green and blue are there, by SSH
	laptop   bool   // its daemon can be reached as the host lab, too
	sources  bool   // it is about a copy of examples/compression, in a repository of its own
	whole    bool   // one daemon for all sections of the document
	ignored  string // a pattern of printed lines that don't count: progress, which terminals show
}

// stages are by document and section, or document alone.
var stages = map[string]stage{
	"README.md/A tour": {
		machines: true, sources: true,
		prelude: `goroot=$(go env GOROOT)`,
		replaced: []string{
			"/usr/local/go", "$goroot", "src/go src/net src/strings", "src/strings",
			"sleep 5;", "sleep 0.1;",
		},
		ignored: `^\[█|^\[▒|^\[░|is being connected to`,
	},
	"README.md/Sweeps": {
		machines: true, sources: true,
		prelude: `j var set GOROOT "$(go env GOROOT)"; j var set TREE src/strings
			j machine add red bench`,
		ignored: `^\[█|^\[▒|^\[░`,
	},
	"sweeps.md": {whole: true, prelude: `printf '#!/bin/sh\necho METRIC: throughput=$RANDOM.5 MB/s\n' >bench
		chmod +x bench; cp bench ~; j machine add local:a lab --slots 4`},
	"machine-learning.md": {
		whole:   true,
		prelude: `mkdir project; cd project; echo key-of-mine >key.txt`,
	},
	"laptop.md": {laptop: true, whole: true, prelude: `j machine add local:a gpu
		printf 'echo trained >$JOBSERVER_SCRATCH/model; echo RESULTS: $JOBSERVER_SCRATCH/model' >train.sh
		chmod +x train.sh`},
	"systems.md": {whole: true, prelude: `mkdir project; cd project`},
	"jobs.md":    {prelude: `echo key-of-mine >key.txt; echo true >train.sh; chmod +x train.sh`},
	"notifications.md": {prelude: `echo https://hooks.example.org/x >url.txt
		echo true >alarm.sh; chmod +x alarm.sh`},
	"upgrading.md/Upgrading": {prelude: `mkdir jobserver-1.1.0-linux-amd64
		printf 'exit 0' >jobserver-1.1.0-linux-amd64/install.sh
		chmod +x jobserver-1.1.0-linux-amd64/install.sh
		ln -s "$(command -v jobserver)" jobserver-1.1.0-linux-amd64/`},
	"upgrading.md/Going back": {prelude: `j machine add local:a lab
		j add lab 'until [ -e ~/end ]; do sleep 0.1; done'; j wait --status running 1
		jobserver backup before-1.1; mkdir old; ln -s "$(command -v jobserver)" old/`,
		replaced: []string{"j wait 1 ", "touch end; j wait 1 "}},
	"upgrading.md/Keeping what is needed": {prelude: `j machine add local:a lab
		j matrix add lab 'echo {I}' r I=1,2 --name old-study; j wait %old-study`},
	"upgrading.md": {prelude: `j machine add local:a lab; j add lab 'echo hello'; j wait 1`},
}

// TestDocuments runs all commands of the documents in order, each section with a home and a daemon
// of its own. A command has to succeed, unless a comment behind it says with which code it ends,
// and to print what is shown, if anything is.
func TestDocuments(t *testing.T) {
	for _, doc := range documents(t) {
		sections := map[string][]*block{}
		var order []string
		for _, b := range blocksOf(t, doc) {
			if b.runs() || applied.MatchString(b.mark) {
				if stages[b.doc].whole {
					b.section = "all"
				}
				if sections[b.section] == nil {
					order = append(order, b.section)
				}
				sections[b.section] = append(sections[b.section], b)
			}
		}
		for _, section := range order {
			name := filepath.Base(doc) + "/" + section
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				runSection(t, name, sections[section])
			})
		}
	}
}

// wrapper is the program as the sections see it: `serve` starts the daemon in the background, in
// the place of the one that runs, and returns when it answers.
const wrapper = `#!/bin/bash
if [ "$1" != serve ]; then exec -a jobserver "$REAL" "$@"; fi
if [ -f ~/.pid ]; then
	kill "$(cat ~/.pid)"
	while kill -0 "$(cat ~/.pid)" 2>/dev/null; do read -rt 0.01 <> <(:) || :; done
fi
shift
"$REAL" serve $SERVE "$@" >~/.serve.log 2>&1 &
echo $! >~/.pid
for try in $(seq 500); do
	"$REAL" ping >/dev/null 2>&1 && break
	kill -0 $! 2>/dev/null || { cat ~/.serve.log; exit 1; }
done
head -n 1 ~/.serve.log
`

// script is the shell's program: each command between two marks.
func script(blocks []*block, s stage, home string) (string, []command) {
	var text strings.Builder
	text.WriteString("shopt -s expand_aliases; alias j=jobserver; cd\n" +
		"jobserver serve >~/.started || { cat ~/.started; exit 98; }\n")
	fmt.Fprintf(&text, "{ %s\n:\n} >~/.prelude 2>&1 || { cat ~/.prelude; exit 97; }\n", s.prelude)
	replacer := strings.NewReplacer(append(s.replaced, "/tmp/", home+"/tmp/")...)
	var commands []command
	for _, b := range blocks {
		if m := applied.FindStringSubmatch(b.mark); m != nil {
			for _, edit := range edits(b.body) {
				fmt.Fprintf(&text, "edit %s %s %s || exit 96\n", m[1], quote(edit[0]),
					quote(edit[1]))
			}
			continue
		}
		for _, c := range b.commands() {
			if file, ok := strings.CutPrefix(c.text, "cat "); ok && c.prints != nil {
				fmt.Fprintf(&text, "cat >%s <<'@@@'\n%s\n@@@\n", file, // it is what is shown
					strings.Join(c.prints, "\n"))
			}
			fmt.Fprintf(&text, "echo '@@@ %d'\n%s\necho \"@@@ = $?\"\n", len(commands),
				replacer.Replace(c.text))
			commands = append(commands, c)
		}
	}
	return text.String(), commands
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// edits are the pieces of a diff: what is there, and what comes in its place. Where nothing goes,
// what comes stands at the end.
func edits(body []string) (edits [][2]string) {
	var was, is []string
	flush := func() {
		if len(was)+len(is) > 0 {
			edits = append(edits, [2]string{strings.Join(was, "\n"), strings.Join(is, "\n")})
		}
		was, is = nil, nil
	}
	for _, line := range body {
		switch {
		case strings.HasPrefix(line, "-"):
			if len(is) > 0 {
				flush()
			}
			was = append(was, line[1:])
		case strings.HasPrefix(line, "+"):
			is = append(is, line[1:])
		default:
			flush()
		}
	}
	flush()
	return edits
}

// editor is the command `edit FILE WAS IS` of the scripts.
const editor = `#!/bin/bash
text=$(cat "$1"; echo x) text=${text%x}
if [ -z "$2" ]; then printf '%s%s\n' "$text" "$3" >"$1"; exit; fi
case $text in *"$2"*) ;; *) echo "$1 has no $2"; exit 1 ;; esac
printf '%s' "${text/"$2"/"$3"}" >"$1"
`

func runSection(t *testing.T, name string, blocks []*block) {
	doc, _, _ := strings.Cut(name, "/")
	s, ok := stages[name]
	if !ok {
		s = stages[doc]
	}
	program, err := daemontest.Build()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	// A short path: a socket's can have 107 bytes, and a section's title is long.
	home, err := os.MkdirTemp("", "documents-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	shell := []string{"bash", "-c"}
	if s.laptop {
		home, shell = desktop(t, home, program), onLaptop
	}
	bin := filepath.Join(home, ".bin")
	put(t, filepath.Join(bin, "jobserver"), wrapper)
	put(t, filepath.Join(bin, "edit"), editor)
	if err := os.CopyFS(filepath.Join(home, "examples"), os.DirFS("../examples")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(home, onlyFile(t, "../example.log.yml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(home, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	serve := ""
	if s.machines {
		serve = "--ssh-config " + lab(t, "red", "green", "blue")
	}
	if s.sources {
		s.prelude = `(cd examples/compression && git init -q . && git add -A &&
			git -c user.name=a -c user.email=a@a commit -qm all)
` + s.prelude
	}
	if strings.HasSuffix(name, "/Sweeps") {
		s.prelude += "\ncd examples/compression"
	}
	text, commands := script(blocks, s, home)
	cmd := exec.CommandContext(t.Context(), shell[0], append(shell[1:], text)...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "REAL="+program, "SERVE="+serve,
		"PATH="+bin+":"+os.Getenv("PATH"), "XDG_STATE_HOME=", "XDG_CONFIG_HOME=", "TERM=dumb",
		"JOBSERVER_SOCKET=", "GOFLAGS=-mod=mod", "NO_COLOR=1", "SHELL=/bin/bash",
		"GOMODCACHE="+goEnv(t, root, "GOMODCACHE"), "GOCACHE="+goEnv(t, root, "GOCACHE"))
	defer stopDaemon(home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, text)
	}
	judge(t, commands, places.ReplaceAllString(string(out), "/home/ann"), s.ignored)
}

var answered = regexp.MustCompile(`(?s)@@@ (\d+)\n(.*?)@@@ = (\d+)\n`)

// places are the homes of a test's users.
var places = regexp.MustCompile(`/tmp/(TestDocuments[^/\s]*/\d+|documents-\d+)(/home)?`)

var onlyNumber = regexp.MustCompile(`^\d+$`)

// judge compares what the commands printed, and how they ended.
func judge(t *testing.T, commands []command, out, ignored string) {
	t.Helper()
	answers := answered.FindAllStringSubmatch(out, -1)
	if len(answers) != len(commands) {
		t.Fatalf("%d of %d commands were run:\n%s", len(answers), len(commands), out)
	}
	for i, a := range answers {
		c := &commands[i]
		if a[3] != c.code {
			t.Errorf("%s: %s\nended with %s, not %s:\n%s", c.where, c.text, a[3], c.code, a[2])
			continue
		}
		if c.prints == nil {
			continue
		}
		var printed []string
		for line := range strings.Lines(a[2]) {
			line = strings.TrimSuffix(line, "\n")
			if ignored == "" || !regexp.MustCompile(ignored).MatchString(line) {
				printed = append(printed, line)
			}
		}
		if !slices.ContainsFunc(c.prints, onlyNumber.MatchString) {
			// The ids that are printed for scripts, where there is no terminal.
			printed = slices.DeleteFunc(printed, onlyNumber.MatchString)
		}
		var shown []string
		for _, line := range c.prints {
			if ignored == "" || !regexp.MustCompile(ignored).MatchString(line) {
				shown = append(shown, line)
			}
		}
		if diff := compare(shown, printed); diff != "" {
			t.Errorf("%s: %s\nprints\n%s\n\n%s", c.where, c.text, a[2], diff)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// onlyFile is a file system that has one file.
func onlyFile(t *testing.T, path string) fstest.MapFS {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{filepath.Base(path): {Data: content}}
}

func goEnv(t *testing.T, dir, name string) string {
	t.Helper()
	cmd := exec.Command("go", "env", name)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out))
}

// onLaptop is a shell for a user whose home, by the user database too, is the directory in HOME:
// ssh reads its configuration there.
var onLaptop = []string{"unshare", "--map-root-user", "--mount", "bash", "-c",
	`mount --bind "$HOME" ~root && exec bash -c "$0"`}

// desktop makes a host, lab, that is reached by SSH, with a home below dir, which it gives. The
// laptop has the same home: the daemon that is started there is lab's.
func desktop(t *testing.T, dir, program string) (home string) {
	t.Helper()
	sshtest.Require(t)
	bin := filepath.Join(dir, "home", ".bin") // as runSection makes it
	m, err := sshtest.New(dir, sshtest.Named("lab"),
		sshtest.Env("REAL="+program, "PATH="+bin+":"+os.Getenv("PATH")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	config, err := os.ReadFile(m.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(m.Home, ".ssh", "config"), string(config))
	if err := os.Chmod(filepath.Join(m.Home, ".ssh", "config"), 0o600); err != nil {
		t.Fatal(err)
	}
	return m.Home
}

// stopDaemon ends the section's daemon; it may have ended.
func stopDaemon(home string) {
	stop := exec.Command("bash", "-c", `pid=$(cat .pid) && kill $pid &&
		timeout 20 tail --pid=$pid -f /dev/null`)
	stop.Dir = home
	_ = stop.Run()
}

// lab starts machines of these names, and gives the ssh configuration that knows them.
func lab(t *testing.T, names ...string) string {
	t.Helper()
	first := sshtest.Start(t)
	machines := []*sshtest.Machine{first}
	for range names[1:] {
		machines = append(machines, sshtest.Start(t, sshtest.Shared(first.Client)))
	}
	for i, m := range machines {
		if err := first.Client.AddHost(names[i], m.User, m.Host, m.Port); err != nil {
			t.Fatal(err)
		}
	}
	return first.ConfigFile
}
