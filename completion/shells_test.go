package completion

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The shells run on a terminal of their own, and each line is typed as a user would: text, TAB,
// Enter. The program then writes down the arguments that it got, which is what counts, whatever a
// shell draws meanwhile.

// shellTimeout ends a test whose shell hangs. It is no measure of anything.
const shellTimeout = 60 * time.Second

// terminal is a shell behind a pseudo-terminal.
type terminal struct {
	master *os.File
	cmd    *exec.Cmd
	seen   strings.Builder // all that the shell printed
	args   *os.File        // a fifo, through which the program's arguments come
}

// openPty opens a pseudo-terminal of 40 lines of 120 columns.
func openPty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ,
		&unix.Winsize{Row: 40, Col: 120}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Reads wait in the poller, so that a deadline can end them. That takes a file made of a
	// descriptor that doesn't block.
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(dup, true); err != nil {
		t.Fatal(err)
	}
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(dup), "pty"), slave
}

// startShell starts the shell without the user's own files, loads script, and waits for the prompt.
func startShell(t *testing.T, shell, script string) *terminal {
	t.Helper()
	path := lookShell(t, shell)
	if path == "" {
		t.Skipf("%s isn't installed", shell)
	}
	home := t.TempDir()
	file := filepath.Join(home, "script")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(home, "args")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for both, so that it opens at once and doesn't end with each writer.
	args, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{args: args}
	// The prompt is put together, so that its text isn't in what the terminal echoes.
	var options []string
	var setUp string
	switch shell {
	case "bash":
		options = []string{"--norc", "--noprofile", "-i"}
		setUp = "bind 'set bell-style none'; j() { " + shellQuote(binary) + ` "$@"; }; source ` +
			file + "; PS1='rea''dy> '"
	case "zsh":
		options = []string{"-f", "-i"}
		setUp = "unsetopt beep; autoload -U compinit; compinit -u -D; j() { " + shellQuote(binary) +
			` "$@"; }; source ` + file + "; PS1='rea''dy> '"
	case "fish":
		options = []string{"--no-config", "-i"}
		setUp = "function j; " + fishQuote(binary) + " $argv; end; source " + file +
			"; function fish_prompt; echo -n rea''dy'> '; end"
	}
	master, slave := openPty(t)
	term.master = master
	term.cmd = exec.Command(path, options...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.Dir = home
	term.cmd.Env = []string{
		"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TERM=vt100", "LC_ALL=C.UTF-8", envArgsFile +
			"=" + fifo,
		// else each run under the race detector ends with a second's sleep
		"GORACE=atexit_sleep_ms=0",
		"XDG_CONFIG_HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_RUNTIME_DIR=" + home,
	}
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []*os.File{master, args} {
		if err := file.SetReadDeadline(time.Now().Add(shellTimeout)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_ = master.Close() // hangs up: the shell ends
		_ = args.Close()
		_ = term.cmd.Process.Kill()
		_ = term.cmd.Wait() // it was killed
	})
	term.send(t, setUp+"\r")
	term.until(t, "ready> ")
	return term
}

func (term *terminal) send(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		t.Fatalf("type %q: %v", keys, err)
	}
}

// until reads what the shell prints until text has appeared.
func (term *terminal) until(t *testing.T, text string) {
	t.Helper()
	buf := make([]byte, 4096)
	begin := term.seen.Len()
	for !strings.Contains(term.seen.String()[begin:], text) {
		n, err := term.master.Read(buf)
		term.seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("%q didn't appear: %v; all that did:\n%q", text, err,
				term.seen.String()[begin:])
		}
	}
}

// run types keys and Enter, and gives the arguments that the program got.
func (term *terminal) run(t *testing.T, keys string) string {
	t.Helper()
	term.send(t, keys+"\r")
	buf := make([]byte, 4096) // a write to a fifo is whole up to this size
	n, err := term.args.Read(buf)
	if err != nil {
		// What the shell did instead is still unread.
		if err := term.master.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		term.until(t, fmt.Sprintf("the program to run for %q (%v)", keys, err))
	}
	term.until(t, "ready> ")
	return string(buf[:n])
}

func testScript(t *testing.T, shell string) string {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script, err := Script(shell, "j", binary)
	if err != nil {
		t.Fatal(err)
	}
	return script
}

func TestShells(t *testing.T) {
	lines := []struct{ name, keys, want string }{
		{"a command", "j mac\trm x", "machine|rm|x"},
		{"below a command", "j job l\t17", "job|ls|17"},
		{"by an alias", "j m rm lo\tx", "m|rm|local:a|x"},
		{"a global flag before the command", "j --quiet jo\tls", "--quiet|job|ls"},
		{"a flag", "j job ls --ou\tjson", "job|ls|--output|json"},
		{"a flag's value", "j job ls --output wi\tx", "job|ls|--output|wide|x"},
		{"a value behind =", "j job ls --output=wi\tx", "job|ls|--output=wide|x"},
		{"host:port", "j machine rm box:222\tx", "machine|rm|box:2222|x"},
		{"a common beginning", "j machine rm b\t22", "machine|rm|box:2222"},
		{"user@host", "j machine rm user@\tx", "machine|rm|user@gpu|x"},
		{"with a blank in it", "j job add small\\ f\tx", "job|add|small fast|x"},
		{"with a dollar in it", "j job add gp\tx", "job|add|gpu$x|x"},
		{"an id", "j job ls 12\tx", "job|ls|120|x"},
		{"of several values", "j job stat --id 17 12\tx", "job|stat|--id|17|120|x"},
		{"a path stays open", "j --socket so\tme", "--socket|some.dir/me"},
		{"a daemon that hangs", "j job add --tag \tx", "job|add|--tag|x"},
		{"in the middle of a line", "j job l 17\x1b[D\x1b[D\x1b[D\t", "job|ls|17"},
	}
	for _, shell := range Shells() {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			term := startShell(t, shell, testScript(t, shell))
			if err := os.Mkdir(filepath.Join(term.cmd.Dir, "some.dir"), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, line := range lines {
				if got := term.run(t, line.keys); got != line.want {
					t.Errorf("%s: %q ran %q, not %q", line.name, line.keys, got, line.want)
				}
			}
			if shell == "bash" {
				return // it lists no descriptions
			}
			term.send(t, "j machine rm box\t\t")
			term.until(t, "connected")
		})
	}
}

// TestAlias: the name is an alias of the program's own, as README has it. zsh expands it before it
// completes.
func TestAlias(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Base(binary)
	for shell, alias := range map[string]string{
		"bash": "unset -f j; " + own + "() { " + shellQuote(binary) + ` "$@"; }; alias j=` + own,
		"zsh": "unfunction j; function " + own + " { " + shellQuote(binary) +
			` "$@"; }; alias j=` + own,
		"fish": "functions -e j; function " + own + "; " + fishQuote(binary) +
			" $argv; end; alias j " + own,
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			term := startShell(t, shell, testScript(t, shell)+"\n"+alias+"\n")
			if got := term.run(t, "j mac\trm box:222\tx"); got != "machine|rm|box:2222|x" {
				t.Errorf("ran %q", got)
			}
		})
	}
}

// What Install writes into start-up files works too: also in a zsh that hasn't loaded its
// completion system.
func TestStartUpLine(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, shell := range Shells() {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			in := Installation{Name: "j", Binary: binary, Shell: shell,
				Getenv: func(string) string {
					return t.TempDir()
				}}
			f, err := in.startUp()
			if err != nil {
				t.Fatal(err)
			}
			script := f.line + "\n"
			if shell == "zsh" {
				script = "unfunction compdef; " + script
			}
			term := startShell(t, shell, script)
			if got := term.run(t, "j mac\trm box:222\tx"); got != "machine|rm|box:2222|x" {
				t.Errorf("ran %q", got)
			}
		})
	}
}

// What posener/complete writes into start-up files works too.
func TestPlainBash(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	term := startShell(t, "bash", "complete -C "+binary+" j")
	for keys, want := range map[string]string{
		"j mac\trm box:222\tx":       "machine|rm|box:2222|x",
		"j --quiet job ls --out\tid": "--quiet|job|ls|--output|id",
	} {
		if got := term.run(t, keys); got != want {
			t.Errorf("%q ran %q, not %q", keys, got, want)
		}
	}
}
