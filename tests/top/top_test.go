// Package top_test looks at `jobserver top` as its users do: the whole program in a real terminal,
// whose screen an emulator keeps.
package top_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

var update = flag.Bool("update", false, "write the golden screens anew")

func TestMain(m *testing.M) {
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// patience is only ever used up by a test that fails.
const patience = 30 * time.Second

// terminal runs a program in a terminal.
type terminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	file  *os.File // the terminal's other end
	ended chan struct{}

	mu      sync.Mutex
	screen  *vt.Emulator
	raw     strings.Builder
	changed chan struct{} // has room for one
}

func start(t *testing.T, width, height int, env []string, name string, args ...string) *terminal {
	t.Helper()
	term := &terminal{
		t:       t,
		cmd:     exec.Command(name, args...),
		screen:  vt.NewEmulator(width, height),
		changed: make(chan struct{}, 1),
		ended:   make(chan struct{}),
	}
	term.cmd.Env = append(
		os.Environ(),
		append(
			[]string{"TERM=xterm-256color", "COLORTERM=", "NO_COLOR=", "LC_ALL=C.UTF-8"},
			env...)...)
	var err error
	term.file, err = pty.StartWithSize(
		term.cmd,
		&pty.Winsize{Rows: uint16(height), Cols: uint16(width)},
	)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _, _ = io.Copy(term.file, term.screen) }) // what the terminal answers
	running.Go(func() {
		buffer := make([]byte, 32<<10)
		for {
			n, err := term.file.Read(buffer)
			term.mu.Lock()
			term.raw.Write(buffer[:n])
			_, _ = term.screen.Write(buffer[:n]) // it takes everything
			term.mu.Unlock()
			select {
			case term.changed <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	})
	running.Go(func() {
		_ = term.cmd.Wait()
		close(term.ended)
		select {
		case term.changed <- struct{}{}:
		default:
		}
	})
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		<-term.ended
		term.file.Close()
		// Closing the screen itself would race with what reads from it.
		_ = term.screen.InputPipe().(io.Closer).Close()
		running.Wait()
	})
	return term
}

// text gives what the screen shows.
func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	lines := strings.Split(term.screen.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \r")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// output is all that was written to the terminal.
func (term *terminal) output() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.raw.String()
}

// until waits until the screen is as wanted.
func (term *terminal) until(what string, wanted func(text string) bool) string {
	term.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		text := term.text()
		if wanted(text) {
			return text
		}
		select {
		case <-term.changed:
		case <-late.C:
			term.t.Fatalf("%s: the screen is\n%s", what, text)
		}
	}
}

// sees waits until the screen has all of these texts.
func (term *terminal) sees(texts ...string) string {
	term.t.Helper()
	return term.until(strings.Join(texts, ", "), func(text string) bool {
		for _, wanted := range texts {
			if !strings.Contains(text, wanted) {
				return false
			}
		}
		return true
	})
}

func (term *terminal) types(keys string) {
	term.t.Helper()
	if _, err := term.file.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// enters types a line, and Enter when it is there.
func (term *terminal) enters(line string) {
	term.t.Helper()
	term.types(line)
	term.sees(": " + line[1:] + "▏")
	term.types("\r")
}

// ends waits until the program has ended, and gives its exit code.
func (term *terminal) ends() int {
	term.t.Helper()
	select {
	case <-term.ended:
	case <-time.After(patience):
		term.t.Fatalf("it goes on:\n%s", term.text())
	}
	return term.cmd.ProcessState.ExitCode()
}

// measured are the parts of a screen that are never the same.
var measured = []*regexp.Regexp{
	regexp.MustCompile(
		`\d+/min.*`,
	),
	regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms|s)\b`),
	regexp.MustCompile(`\d\d:\d\d:\d\d`),
	regexp.MustCompile(`^(jobserver)? \S+`),
	regexp.MustCompile(`connected +\d/\d +\d+\.\d`),
}

// took is how long something took, in a sentence: it may have any number of digits.
var took = regexp.MustCompile(`after \d\S*`)

// inColumn is how long something took, at the right of a column: likewise.
var inColumn = regexp.MustCompile(` {2,}\d+(\.\d+)?(µs|ms|s)\b`)

// wideLoad is the head of the machines' loads, in a column that is as wide as they are: from 100 on
// that is more than its name.
var wideLoad = regexp.MustCompile(`Jobs +Load`)

// golden compares a screen with a file.
func golden(t *testing.T, name, text string) {
	t.Helper()
	text = wideLoad.ReplaceAllString(text, "Jobs  Load")
	text = took.ReplaceAllString(text, "after ###")
	text = inColumn.ReplaceAllStringFunc(text, func(found string) string {
		return strings.Repeat(" ", len([]rune(found))-len("##")) + "##"
	})
	for _, m := range measured {
		text = m.ReplaceAllStringFunc(
			text,
			func(found string) string { return strings.Repeat("#", min(len([]rune(found)), 5)) },
		)
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-update writes it):\n%s", path, diff)
	}
}

// night is a daemon with a story.
func night(t *testing.T) *daemontest.Daemon {
	t.Helper()
	d := daemontest.New(t)
	d.J(t, "machine", "add", "--slots", "2", "local:red", "bench")
	d.J(t, "matrix", "add", "--name", "sweep", "--max-failures", "0", "bench",
		`test {I} != 3 && echo fine {I}`, "", "I=1..5", "SCALE=small,large")
	if _, _, _, err := d.Run(t.Context(), "wait", "%sweep"); err != nil { // some of it fails
		t.Fatal(err)
	}
	d.J(
		t,
		"add",
		"--wait",
		"bench",
		`printf '\033[1;32mready\033[0m\n10%%\r100%%\n\033]52;c;eA==\007bell\n'; seq 200`,
	)
	d.J(t, "add", "--hold", "far", "echo held")
	return d
}

// TestScreens compares screens of every pane at three sizes with those that somebody has looked at.
func TestScreens(t *testing.T) {
	t.Parallel()
	d := night(t)
	for _, size := range []struct{ width, height int }{{80, 24}, {40, 12}, {200, 60}} {
		term := start(t, size.width, size.height, nil, d.Binary, "--socket", d.Socket, "top")
		name := func(pane string) string {
			return fmt.Sprintf("%s-%dx%d", pane, size.width, size.height)
		}
		golden(t, name("jobs"), term.sees("echo held", "[1 Jobs]"))
		term.types("jl")
		golden(t, name("log"), term.sees("log of job", "complete", "200"))
		term.types("w")
		golden(t, name("why"), term.sees("why of job", "it has succeeded"))
		term.types("\x1b")
		term.until(
			"no log",
			func(text string) bool { return !strings.Contains(text, "why of job") },
		)
		term.types("2")
		golden(t, name("machines"), term.sees("local:red", "connected", "[2"))
		term.types("3")
		term.sees("sweep", "8D")
		term.types("\r")
		golden(t, name("cells"), term.sees("■■✗■■", "── cells"))
		term.types("5")
		term.sees("Told", "job 13")
		term.types("?")
		golden(t, name("help"), term.sees("Enter           open"))
		term.types("x")
		term.enters("/%sweep:failed")
		golden(t, name("selector"), term.until("two failed jobs", func(text string) bool {
			return strings.Count(text, "failed 1") == 2 && !strings.Contains(text, "echo held")
		}))
		term.types("q")
		if code := term.ends(); code != 0 {
			t.Errorf("it ended with %d", code)
		}
		term.until(
			"the screen is put back",
			func(string) bool { return strings.Contains(term.output(), "\x1b[?1049l") },
		)
		if strings.Contains(term.output(), "\x1b]52") {
			t.Error("what a log has came through to the terminal")
		}
	}
}

// TestColours: with NO_COLOR and on a dumb terminal nothing is coloured, and statuses are words.
func TestColours(t *testing.T) {
	t.Parallel()
	d := night(t)
	for _, env := range []string{"NO_COLOR=1", "TERM=xterm-256color"} {
		term := start(t, 80, 24, []string{env}, d.Binary, "--socket", d.Socket, "top")
		term.sees("echo held", "failed 1")
		colour := regexp.MustCompile(`\x1b\[[0-9;]*3[0-7]m`).MatchString(term.output())
		if colour != (env != "NO_COLOR=1") {
			t.Errorf(
				"%s: colours: %v\n%q",
				env,
				colour,
				term.output()[:min(len(term.output()), 2000)],
			)
		}
		term.types("q")
		term.ends()
	}
}

// TestActions: a change is tried first, and only y does it.
func TestActions(t *testing.T) {
	t.Parallel()
	d := night(t)
	for range 25 {
		d.J(t, "add", "far", "echo waits")
	}
	d.J(t, "matrix", "add", "--name", "many", "far", "echo {I}", "", "I=1..30")
	term := start(t, 80, 24, nil, d.Binary, "--socket", d.Socket, "top")
	term.enters("/:held")
	term.sees("echo held", "sel: :held")
	term.types("c")
	term.sees("Cancel job", "1 job, 1 change")
	term.types("n")
	term.sees("nothing was changed")
	term.types("u")
	term.sees("Unhold job", "1 job, 1 change")
	term.types("y")
	term.sees("1 job changed")
	d.J(t, "add", "bench", "sleep 1000")
	term.types("/" + strings.Repeat("\x7f", len(":held"))) // it begins with the one before
	term.types(":running")
	term.sees("selector: :running▏")
	term.types("\r")
	term.sees("sleep 1000")
	term.types("p")
	term.sees("Pause job", "1 job, 1 change")
	term.types("y")
	term.sees("running, paused")
	term.types("P")
	term.sees("Continue job", "1 job, 1 change")
	term.types("y")
	term.until("it goes on", func(text string) bool { return !strings.Contains(text, ", paus") })
	term.types("c")
	term.sees("Cancel job")
	term.types("y")
	term.sees("no job matches")
	term.types("3")
	term.sees("many")
	term.types("h")
	term.sees("Hold matrix", "Type 30")
	term.types("y29")
	term.sees("30 change", "or n: 29")
	term.types("\r\x7f\x7f30")
	term.sees("or n: 30")
	term.types("\r")
	term.sees("30 cells changed", "30H")
	if err := pty.Setsize(term.file, &pty.Winsize{Rows: 4, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	term.until(
		"the small screen",
		func(text string) bool { return !strings.Contains(text, "jobserver") },
	)
	term.types("c")
	term.sees("too small to ask")
	term.types("q")
	term.ends()

	only := start(t, 80, 24, nil, d.Binary, "--socket", d.Socket, "top", "--read-only")
	only.sees("echo")
	only.types("c")
	only.sees("--read-only")
	only.types("q")
	only.ends()
}

// TestManyAtOnce: what is marked, and all that the selector matches, is changed in one go; time and
// panes are a key away; cells show what they have measured.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	d := night(t)
	d.J(t, "matrix", "add", "--name", "rates", "bench", `echo "METRIC: loss={I}.{J}"`, "",
		"I=1..9", "J=1,2")
	d.J(t, "wait", "%rates")
	for _, name := range []string{"one", "two", "three"} {
		d.J(t, "add", "--hold", "far", "echo "+name)
	}
	term := start(t, 80, 24, nil, d.Binary, "--socket", d.Socket, "top")
	term.enters("/class=far:held")
	term.sees("echo three", "sel: class=far:held")
	term.types("  ")
	term.sees("+ 2 marked")
	term.types("u")
	term.sees("Unhold 2 marked jobs", "2 jobs, 2 change")
	term.types("y")
	term.sees("2 jobs changed")
	term.types("*")
	term.sees("+ all that match")
	term.types("c")
	term.sees("Cancel all that match class=far:held", "2 jobs, 2 change")
	term.types("y")
	term.sees("no job matches")
	term.types(":mat\r")
	term.sees("[3 Matrices]", "rates")
	term.types("\rm")
	term.sees("loss of matrix", "1.1 … 9.2", "▀")
	term.types("m")
	term.sees("table of matrix", "1.2 (n=1)")
	term.types("1/\x15%rates") // without the selector before
	term.sees("selector: %rates▏")
	term.types("\r")
	term.sees("J=2")
	term.types("t")
	term.sees("[4 Timeline]", "▸ local:red", "╌ away")
	term.types("q")
	term.ends()
}

// TestDaemonGoes: the screen stays, says so, and goes on when the daemon is back.
func TestDaemonGoes(t *testing.T) {
	t.Parallel()
	d := night(t)
	term := start(t, 80, 24, nil, d.Binary, "--socket", d.Socket, "top")
	term.sees("echo held")
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	term.sees("reconnecting", "echo held")
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.J(t, "add", "--hold", "far", "echo another")
	term.sees("echo another", "2 held")
	term.types("q")
	term.ends()
}

// TestEnds: a signal and a terminal that goes away end it, and the screen is put back.
func TestEnds(t *testing.T) {
	t.Parallel()
	d := night(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		// Whoever runs the tests may have ignored signals, as nohup does.
		term := start(t, 80, 24, nil, "env", "--default-signal", d.Binary, "--socket", d.Socket,
			"top")
		term.sees("echo held")
		if err := term.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		term.ends()
	}
	term := start(t, 80, 24, nil, d.Binary, "--socket", d.Socket, "top")
	term.sees("echo held")
	term.types("\x03")
	term.ends()
	term.until(
		"the screen is put back",
		func(string) bool { return strings.Contains(term.output(), "\x1b[?1049l") },
	)
	out, err := exec.Command(d.Binary, "--socket", d.Socket, "top").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no terminal") {
		t.Errorf("without a terminal: %v %s", err, out)
	}
}

// TestSuspended: Ctrl-Z gives the terminal back to the shell as it was, and fg shows it again.
func TestSuspended(t *testing.T) {
	t.Parallel()
	d := night(t)
	shell := start(t, 80, 24, []string{"PS1=ready> ", "HISTFILE="}, "bash", "--norc", "--noprofile",
		"-i")
	shell.sees("ready>")
	for range 2 {
		shell.types(d.Binary + " --socket " + d.Socket + " top\r")
		shell.sees("[1 Jobs]", "echo held")
		for range 2 {
			shell.types("\x1a")
			shell.sees("Stopped", "ready>")
			shell.types("stty -a | grep -o ' icanon\\| echo '\r") // a terminal for lines again
			shell.sees(" icanon\n echo\n")
			shell.types("clear; fg\r")
			shell.sees("[1 Jobs]", "echo held")
		}
		shell.types("q")
		shell.sees("ready>")
		shell.types("clear; stty -a | grep -o ' icanon\\| echo '\r")
		shell.sees(" icanon\n echo\n")
		shell.types("clear\r")
	}
	shell.types("exit\r")
	if code := shell.ends(); code != 0 {
		t.Errorf("the shell ended with %d:\n%s", code, shell.text())
	}
}

// TestInTmuxAndOverSSH: in both it looks as it does elsewhere.
func TestInTmuxAndOverSSH(t *testing.T) {
	t.Parallel()
	sshtest.Require(t)
	d := night(t)
	socket := filepath.Join(t.TempDir(), "t")
	tmux := start(
		t,
		80,
		24,
		nil,
		"tmux",
		"-S",
		socket,
		"-f",
		"/dev/null",
		"new-session",
		d.Binary,
		"--socket",
		d.Socket,
		"top",
	)
	tmux.sees("[1 Jobs]", "echo held", "failed 1")
	tmux.types("q")
	tmux.ends()

	client, err := sshtest.NewClient(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sshtest.Start(t, sshtest.Shared(client), sshtest.Named("lab"))
	over := start(
		t,
		80,
		24,
		nil,
		"ssh",
		"-F",
		client.ConfigFile,
		"-tt",
		"lab",
		d.Binary,
		"--socket",
		d.Socket,
		"top",
	)
	over.sees("[1 Jobs]", "echo held", "failed 1")
	over.types("q")
	over.ends()
}
