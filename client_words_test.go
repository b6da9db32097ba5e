package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/job"
	"jobserver/tests/budget"
)

// TestReadLine shows each freedom that the order of words has.
func TestReadLine(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"job add foo true", "-- foo true"},
		{"matrix add foo cmd . I=1 -x 2 K=a", "--times=2 -- foo cmd . I=1 K=a"},
		{"job rm 1 -f 2", "--forget -- 1 2"},
		{"rm -fy 1", "--forget --yes -- 1"},
		{"job ls -n5", "--last=5"},
		{"job ls -n=5 3", "--last=5 -- 3"},
		{"job add foo x --max-failures -1", "--max-failures=-1 -- foo x"},
		{"job add foo x --max_failures=-1", "--max-failures=-1 -- foo x"},
		{"job stat --id 1 2 3 --jid", "--id=1 --id=2 --id=3 --jid"},
		{"job stat --id - --text", "--id=- --text"},
		{"job stat --alt_paths a b --id 1", "--alt_paths=a --alt_paths=b --id=1"},
		{"job stat --alt-paths a --only-done --results-path .mmu",
			"--alt_paths=a --only_done --results_path=.mmu"},
		{"job stat --results_path= --id 4", "--results_path= --id=4"},
		{"serve d l --allow_snap_fail", "--allow-snap-fail -- d l"},
		{"serve d --driver-arg=--print_results_path", "--driver-arg=--print_results_path -- d"},
		{"job add foo -- -x", "-- foo -x"},
		{"job log - -l", "--less -- -"},
		{"--socket s job -q ls", "--socket=s --quiet"},
		{"machine setup -m a -c foo cmd1 cmd2", "--machine=a --class=foo -- cmd1 cmd2"},
		{"machine setup -m a b -c foo -- cmd1 -x",
			"--machine=a --class=foo --machine=b -- cmd1 -x"},
		{"machine mv -m a b new", "--machine=a -- b new"},
		{"job ls --no-such 3", "--no-such -- 3"},
		{"job ls -Z3", "-Z3"},
		{"var set OFFSET -0.5", "-- OFFSET -0.5"},
	} {
		t.Run(test.line, func(t *testing.T) {
			args := strings.Fields(test.line)
			found, err := cli.FindCommand(reflect.TypeFor[grammar](), args)
			if err != nil {
				t.Fatal(err)
			}
			s := newSession(t)
			_, node, err := cli.BuildCommand(s.env, found.Path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want,
				strings.Join(cli.ReadLine(node, found.Rest).Words(), " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWholeGrammar builds all of it, which finds duplicate flags and misspelt tags, and holds every
// part that is built for a call to the whole.
func TestWholeGrammar(t *testing.T) {
	s := newSession(t)
	parser, err := cli.BuildAll(s.env)
	if err != nil {
		t.Fatal(err)
	}
	leaves := 0
	var walk func(node *kong.Node, path []string)
	walk = func(node *kong.Node, path []string) {
		for _, child := range node.Children {
			walk(child, append(path[:len(path):len(path)], child.Name))
		}
		if len(node.Children) > 0 {
			return
		}
		leaves++
		_, part, err := cli.BuildCommand(s.env, path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		if diff := cmp.Diff(flagNames(node), flagNames(part)); diff != "" {
			t.Errorf("%s has other flags when it is built alone: %s", path, diff)
		}
		if _, ok := part.Target.Addr().Interface().(cli.Command); !ok {
			t.Errorf("%s has no Run", path)
		}
		if node.Help == "" {
			t.Errorf("%s has no help", path)
		}
	}
	walk(parser.Model.Node, nil)
	if leaves < 60 {
		t.Errorf("only %d commands", leaves)
	}
}

func flagNames(node *kong.Node) []string {
	var names []string
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			names = append(names, flag.Name)
		}
	}
	return names
}

// TestUsageErrors holds what a mistake is answered with. TestForPeople: a format of programs that
// the config file names refuses no command that is for people; one that was asked for does.
func TestForPeople(t *testing.T) {
	for _, test := range []struct {
		words   []string
		refuses bool
	}{{nil, false}, {[]string{"--watch"}, false}, {[]string{"--quiet"}, true},
		{[]string{"--output", "jsonl"}, true}, {[]string{"--output=jsonl"}, true}} {
		_, node, err := cli.BuildCommand(newSession(t).env, []string{"job", "ls"})
		if err != nil {
			t.Fatal(err)
		}
		e := &cli.Env{Line: cli.ReadLine(node, test.words),
			Globals: cli.Globals{Quiet: true, Output: "jsonl"}}
		err = e.ForPeople("job ls --watch", "hint")
		if (err != nil) != test.refuses || err == nil && e.ForScripts() {
			t.Errorf("%q: %v, and then the format is %s", test.words, err, e.Format())
		}
	}
}

// TestBytes gives a command bytes that are no characters.
func TestBytes(t *testing.T) {
	const word = "echo \xff\xfe"
	parser, node, err := cli.BuildCommand(newSession(t).env, []string{"add"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"add"},
		cli.ReadLine(node, []string{"x", word, "--env", "A=\xff"}).Words()...)); err != nil {
		t.Fatal(err)
	}
	if c := node.Target.Addr().Interface().(*job.Add); c.Cmd != word || c.Env["A"] != "\xff" {
		t.Errorf("%q, %q", c.Cmd, c.Env)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"lss", `there is no command "lss" | did you mean "ls"?`},
		{"restart 5", `there is no command "restart" | did you mean "job restart"?`},
		{"job lsit", `there is no command "job lsit" | did you mean "job list"?`},
		{"machin ls", `there is no command "machin" | did you mean "machine"?`},
		{"xyzzy",
			`there is no command "xyzzy" | the commands are: job, matrix, tag, machine, var, resource, add, ls, log, prune, rm, wait, why, show, pull, stat, serve, demo, ping, stop, status, doctor, events, top, web, service, state, backup, restore, completions, version, help`},
		{"job edit 5",
			"there is no command \"job edit\" | `jobserver job set JID…` changes jobs that wait"},
		{"kill 5",
			"there is no command \"kill\" | `jobserver job rm JID…` cancels jobs; -f forgets them"},
		{"tail 5", "there is no command \"tail\" | `jobserver log -t JID` follows a log until " +
			"its job ends"},
		{"job download 5", "there is no command \"job download\" | `jobserver pull JID… [DIR]` " +
			"fetches results and logs"},
		{"log -f 5", "unknown flag -f | -t follows the log"},
		{"job ls --status failed",
			"unknown flag --status | a selector picks jobs by status: :failed, or status=failed"},
		{"ls --failed", "unknown flag --failed | a selector picks jobs by status: :failed, or " +
			"status=failed"},
		{"ls -s failed", "unknown flag -s | a selector picks jobs by status: :failed, or " +
			"status=failed"},
		{"add foo x --gpus 1", "unknown flag --gpus | --needs NAME=AMOUNT asks for what machines " +
			"have, see `jobserver add --help`"},
		{"add foo python train.py --lr 0.1", "unknown flag --lr | a command with blanks or flags " +
			"of its own is one word, in quotes; see \"j add --help\""},
		{"add foo ls -la", "unknown flag -l | a command with blanks or flags of its own is one " +
			"word, in quotes; see \"j add --help\""},
		{"matrix add foo wc --zzz out N=1", `unknown flag --zzz | did you mean "--zip"? (a ` +
			"command with blanks or flags of its own is one word, in quotes)"},
		{"add foo x --priorty 3", `unknown flag --priorty | did you mean "--priority"? (a ` +
			"command with blanks or flags of its own is one word, in quotes)"},
		{"job ls --runing", `unknown flag --runing | did you mean "--running"?`},
		{"job wait", `job wait: missing JID… | see "j job wait --help"`},
		{"job add foo", `job add: missing CMD | see "j job add --help"`},
		{"job add foo x -x 0", `-x 0: a job is submitted once or more | `},
		{"job ls -o xml",
			`-o xml: it must be one of table, wide, json, jsonl, csv, id | see "j job ls --help"`},
		{"job log", `which job's log? | j job log JID, or -r for all that run`},
		{"job stat --text --jid",
			`which jobs? | name them with --id JID…, --after JID or --running`},
		{"machine rm", `which machines? | name them with -m ADDR, -c CLASS or -f FILE`},
		{"machine add gpu1", `machine add gpu1: a class is missing | j machine add gpu1 CLASS`},
		{"machine setup -e -- true", `machine setup -e: of which class? | name it with -c CLASS`},
		{"machine setup -m a",
			`machine setup: no command was given | each argument is one command: j machine setup -m ADDR -c CLASS -- 'sudo apt-get update' './build.sh'`},
		{"matrix add foo cmd . N",
			`"N" is not of the form KEY=V1,V2,… | a command or path with blanks must be quoted`},
		{"matrix add foo cmd . N=1 N=2",
			`the variable N is given twice | write its values in one list: N=…,…`},
		{"tag set 5", `tag set 5: the tag is missing | j tag set JID… TAG`},
		{"job add foo x --timeout soon",
			`--timeout: duration "soon": it must look like 30s, 5m, 2h30m or 1d12h | see "j job add --help"`},
	} {
		t.Run(test.line, func(t *testing.T) {
			s := newSession(t)
			err := cli.Run(t.Context(), s.env, strings.Fields(test.line))
			if got := exitCode(api.KindOf(err)); err == nil || got != cli.ExitUsage {
				t.Fatalf("error %v with exit code %d, want %d", err, got, cli.ExitUsage)
			}
			if got := err.Error() + " | " + api.HintOf(err); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestErrorForms holds the two forms of an error.
func TestErrorForms(t *testing.T) {
	s := newSession(t)
	if code := s.run("lss"); code != cli.ExitUsage ||
		s.stderr.String() != "j: error: there is no command \"lss\"\nj: hint: did you mean "+
			"\"ls\"?\n" {
		t.Errorf("exit code %d, stderr %q", code, s.stderr.String())
	}
	for _, line := range []string{"lss -o json", "-ojson lss", "--output=jsonl lss"} {
		want := `{"kind":"usage","error":"there is no command \"lss\"","hint":"did you mean \"ls\"?"}` + "\n"
		if s.run(strings.Fields(line)...); s.stderr.String() != want {
			t.Errorf("%s: stderr %q, want %q", line, s.stderr.String(), want)
		}
	}
}

// TestExitCodes holds the code of each kind of error.
func TestExitCodes(t *testing.T) {
	for kind, want := range map[api.Kind]int{
		api.Usage: 2, api.Invalid: 2, api.NotFound: 3, api.NoMatch: 3, api.Unavailable: 4,
		api.Incompatible: 5,
		api.Timeout:      124, api.Canceled: 130, api.Conflict: 1, api.Internal: 1, api.Full: 1,
		"of a later version": 1,
	} {
		s := newSession(t)
		on(s.daemon, "Ping", func(*api.Empty) (any, error) { return nil, api.Errorf(kind, "no") })
		if got := s.run("ping"); got != want {
			t.Errorf("%s: exit code %d, want %d", kind, got, want)
		}
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add("job\x00stat\x00--id\x001\x00-")
	f.Add("matrix\x00add\x00-x\x00\x00--=\x00-")
	f.Add("machine\x00setup\x00-m\x00é\x00--\x00--")
	f.Fuzz(func(t *testing.T, line string) {
		defer budget.Hold(t, 1<<20+64*len(line))()
		args := strings.Split(line, "\x00")
		found, err := cli.FindCommand(reflect.TypeFor[grammar](), args)
		if err != nil || !found.Leaf || found.Path[0] == "serve" || found.Path[0] == "demo" {
			return
		}
		parser, node, err := cli.BuildCommand(newSession(t).env, found.Path)
		if err != nil {
			t.Fatal(err)
		}
		// Whatever stands in the line, it is parsed or refused, and a flag's value never becomes a
		// flag.
		_, _ = parser.Parse(append(found.Path, cli.ReadLine(node, found.Rest).Words()...))
	})
}
