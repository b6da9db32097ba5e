package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/foreign"
)

// hostileText is in every text of every reply: a colour, a title, a C1 control, a return, a mark of
// direction, what can't be seen, and no character at all.
const hostileText = "t\x1b[31m\x1b]0;title\a\u009b6n\rX\u202eY\u200bZ\xff\n|&<$%#_"

// hostileDaemon answers every call with hostile texts, and in the end with an error of them.
type hostileDaemon struct{ calls atomic.Int64 }

// Close is nothing.
func (*hostileDaemon) Close() error { return nil }

// Call answers.
func (d *hostileDaemon) Call(_ context.Context, method string, _, reply any) error {
	if d.calls.Add(1) > 8 {
		return api.Errorf(api.Conflict, "%s", hostileText).WithHint("%s", hostileText)
	}
	fillHostile(reflect.ValueOf(reply).Elem(), "")
	switch reply := reply.(type) {
	case *api.ListMatricesReply:
		reply.Matrices = reply.Matrices[:1]
		reply.Matrices[0].Cells = 2
	case *api.LogReply:
		reply.More = false
		reply.Offset = 0
		reply.Path = os.DevNull
	case *api.EventsReply:
		reply.Gap = false
	}
	return nil
}

// fillHostile fills in all that v holds, such that lists end and waiting is over.
func fillHostile(v reflect.Value, name string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillHostile(v.Elem(), name)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(testNow.Add(-time.Hour)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillHostile(v.Field(i), v.Type().Field(i).Name)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fillHostile(v.Index(i), name)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillHostile(key, "")
		fillHostile(elem, "")
		v.SetMapIndex(key, elem)
	case reflect.String:
		v.SetString(hostileText)
		switch name {
		case "Status":
			v.SetString(api.StatusDone)
		case "StateDir", "LogDir", "Socket":
			v.SetString("/nowhere")
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		if name != "Next" && name != "Index" {
			v.SetInt(1)
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if name != "Next" && name != "Index" && name != "Repeat" {
			v.SetUint(1)
		}
	case reflect.Float64:
		v.SetFloat(2)
	}
}

// hostileLines are command lines of all commands that show what the daemon answers.
var hostileLines = []string{
	"job ls",
	"ls 1",
	"ls -o wide",
	"job show 1",
	"job stat 1 -a",
	"stat 1 --jid --cmd --results",
	"log 1",
	"log -c 1",
	"log -f 1",
	"why 1",
	"why 1 2",
	"wait 1",
	"wait 1 2",
	"job rm 1 -y",
	"job rm -f 1 --dry-run",
	"job hold 1",
	"clone 1 -x 2",
	"job restart 1 -y",
	"job settimeout 5 1",
	"job recopy 1",
	"job lost 1",
	"job cpresults 1 /nowhere",
	"add c true",
	"add c true --wait",
	"add c true --follow",
	"matrix add c true I=1,2",
	"matrix add c true I=1,2 --dry-run",
	"matrix ls",
	"matrix ls 1",
	"matrix why 1",
	"matrix table 1",
	"matrix table 1 -o md",
	"matrix table 1 -o latex",
	"matrix plot 1 --x AXIS --y METRIC -o svg",
	"matrix hold 1",
	"matrix cancel 1 -y",
	"matrix rerun 1 -y",
	"matrix rm 1 -y",
	"tag ls",
	"tag ls 1",
	"tag new",
	"tag set 1 t",
	"tag unset 1",
	"machine ls",
	"machine ls -o wide",
	"machine add m c",
	"machine mv m c",
	"machine rm m -y",
	"machine drain m",
	"machine resume m",
	"machine clean m -y",
	"machine check m",
	"machine trust -m m --yes",
	"machine trust -m m",
	"machine setup -m m -c c true",
	"var ls",
	"var set A 1",
	"var get A",
	"status",
	"ping",
	"events --since 0",
	"resource ls",
	"resource set r 1",
}

// forPrograms are those that give a file or a pipe what the job has printed, or is, byte for byte.
var forPrograms = regexp.MustCompile(`^(log|stat) |--follow|^job stat`)

// allowedOnScreen is what our own screens are made of.
var allowedOnScreen = regexp.MustCompile(`\x1b\[[0-9;]*[mHJK]|\n|\t`)

// TestForeignTexts: whatever the daemon answers, no command writes it to a terminal so that it acts
// on it, in any format; nor to a document.
func TestForeignTexts(t *testing.T) {
	t.Chdir(t.TempDir())
	seen := 0
	for _, line := range hostileLines {
		formats := []string{"", "json", "jsonl", "csv", "wide", "id"}
		if strings.Contains(line, " -o ") {
			formats = formats[:1]
		}
		for _, format := range formats {
			args := strings.Fields(line)
			if format != "" {
				args = append(args, "-o", format)
			}
			for i, arg := range args { // a plot's words are texts of the daemon, too
				args[i] = strings.NewReplacer("AXIS", hostileText, "METRIC", hostileText).
					Replace(arg)
			}
			what := strings.Join(args, " ")
			screen := onHostileTerminal(t, args)
			seen += strings.Count(screen, "␛") + strings.Count(screen, `\u009b`)
			if at := strings.IndexFunc(
				allowedOnScreen.ReplaceAllString(screen, ""),
				foreign.Unsafe,
			); at >= 0 {
				t.Errorf("%q shows on a terminal:\n%q", what, screen)
			}
			if strings.Contains(screen, "\x1b[31m\x1b]") {
				t.Errorf("%q lets a sequence through:\n%q", what, screen)
			}
			if format != "" && format != "wide" {
				continue // a program reads it as it is
			}
			var out, errs bytes.Buffer
			hostileRun(args, &out, &errs)
			for _, text := range []string{out.String(), errs.String()} {
				if forPrograms.MatchString(line) {
					continue
				}
				text = strings.NewReplacer("\n", "", "\t", "", "\uFFFD", "").Replace(text)
				if strings.ContainsFunc(text, foreign.Unsafe) {
					t.Errorf("%q writes:\n%q", what, text)
				}
			}
			if strings.HasSuffix(line, "svg") && out.Len() > 0 {
				for d := xml.NewDecoder(&out); ; {
					if _, err := d.Token(); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						t.Errorf("the plot is no XML: %v", err)
						break
					}
				}
			}
		}
	}
	if seen < 500 {
		t.Errorf("only %d hostile texts were shown: what does this test try?", seen)
	}
}

// hostileRun runs a command line with a hostile daemon.
func hostileRun(args []string, stdout, stderr io.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	run(ctx, &cli.Env{
		Name: "j", Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr,
		Getenv: func(name string) string { return map[string]string{"HOME": "/nowhere"}[name] },
		Now:    func() time.Time { return testNow }, Grammar: reflect.TypeFor[grammar](),
		Dial: func(context.Context) (cli.Daemon, error) { return &hostileDaemon{}, nil },
	}, args)
}

// onHostileTerminal is what a command line shows on a terminal.
func onHostileTerminal(t *testing.T, args []string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("/dev/pts", strconv.Itoa(int(number)))
	slave, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&shown, master) // ends with an error when nobody has the other end any more
	}()
	if err := unix.IoctlSetWinsize(
		fd,
		unix.TIOCSWINSZ,
		&unix.Winsize{Row: 40, Col: 200},
	); err != nil {
		t.Fatal(err)
	}
	hostileRun(args, slave, slave)
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	<-read
	text := strings.ReplaceAll(shown.String(), "\r\n", "\n")
	return strings.ReplaceAll(text, "\r", "")
}

// runOnTerminal is the script command `tty CODE INPUT PROGRAM ARG…`: the program runs on a terminal
// of its own of 60 columns, on which INPUT, a line, is typed; of ^C the key, once a question is
// asked. What the terminal shows is then in the file "tty", and CODE is the exit code that it has
// to have.
func runOnTerminal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: tty code input program args…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	master, slave := openTerminal(ts)
	defer master.Close()

	program, err := exec.LookPath(args[2])
	ts.Check(err)
	cmd := exec.Command(program, args[3:]...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"HOME", "PATH", "XDG_CONFIG_HOME", "NO_COLOR", "CLICOLOR_FORCE"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	ts.Check(slave.Close())
	shown := typeAndRead(ts, master, args[1])
	got := 0
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Check(err)
		}
		got = exit.ExitCode()
	}
	text := strings.ReplaceAll(shown, "\r\n", "\n")
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("WORK"), "tty"), []byte(text), 0o600))
	if got != want {
		ts.Fatalf("exit code %d, want %d; the terminal shows:\n%s", got, want, text)
	}
}

// typeAndRead types, and returns all that the terminal shows until nobody has it open.
func typeAndRead(ts *testscript.TestScript, master *os.File, input string) string {
	var shown bytes.Buffer
	if input == "^C" {
		input = "\x03"
		for b := make([]byte, 1024); !bytes.HasSuffix(shown.Bytes(), []byte("[y/N] ")); {
			n, err := master.Read(b)
			shown.Write(b[:n])
			if err != nil {
				ts.Fatalf("no question was asked: %v\n%s", err, shown.String())
			}
		}
	} else {
		input += "\n"
	}
	_, err := master.WriteString(input)
	ts.Check(err)
	if _, err := io.Copy(&shown, master); err != nil && !errors.Is(err, syscall.EIO) {
		// EIO: nobody has it open
		ts.Check(err)
	}
	return shown.String()
}

// openTerminal makes a pseudo-terminal of 60 columns.
func openTerminal(ts *testscript.TestScript) (master, slave *os.File) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	ts.Check(err)
	fd := int(master.Fd())
	ts.Check(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	ts.Check(err)
	ts.Check(unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60}))
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	ts.Check(err)
	return master, slave
}
