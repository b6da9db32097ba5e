package logging

import (
	"bufio"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal opens a pseudo-terminal: what is written to tty can be read
// from master.
func openTerminal(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return master, tty
}

// TestTerminal shows that colours are for terminals, and so is tty_only.
func TestTerminal(t *testing.T) {
	tests := []struct{ noColor, want string }{
		{"", "a \x1b[0;32mINFO\x1b[0m\r\nb \x1b[0;32mINFO\x1b[0m\r\n"},
		{"1", "a INFO\r\nb INFO\r\n"},
	}
	for _, test := range tests {
		master, tty := openTerminal(t)
		f := openWith(t, `
appenders:
  a: {kind: console, target: stderr, encoder: {pattern: "a {h({l})}{n}"}}
  b: {kind: console, target: stderr, tty_only: true, encoder: {pattern: "b {h({l})}{n}"}}
  c: {kind: console, tty_only: true, encoder: {pattern: "c {h({l})}{n}"}}
root: {appenders: [a, b, c]}
`, func(o *Options) {
			o.Stderr = tty
			o.LookupEnv = func(name string) (string, bool) {
				return test.noColor, name == "NO_COLOR" && test.noColor != ""
			}
		})
		logLines(f, "m")
		r := bufio.NewReader(master)
		got := ""
		for range 2 {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			got += line
		}
		if got != test.want {
			t.Errorf("NO_COLOR=%s: on the terminal: %q, want %q", test.noColor, got, test.want)
		}
		if got := f.stdout.String(); got != "" {
			t.Errorf("elsewhere: %q", got)
		}
	}
}
