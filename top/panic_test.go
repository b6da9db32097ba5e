package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/creack/pty"
	"golang.org/x/term"

	"jobserver/api"
	"jobserver/live"
)

// quietDaemon has nothing, and its changes never come.
type quietDaemon struct{}

func (quietDaemon) Call(ctx context.Context, _ string, args, _ any) error {
	if c, ok := args.(*api.ChangesArgs); ok && c.Wait > 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// panics says, in the environment of a process of its own, at what the screen panics.
const panics = "JOBSERVER_TEST_TOP_PANICS"

// panicAt shows a screen that panics at a key, or at once, and prints what Run said of it.
func panicAt(key string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := live.New(quietDaemon{}, live.Options{})
	go f.Run(ctx)
	asked := 0
	err := Run(ctx, Options{Follower: f, Name: "lab", In: os.Stdin, Out: os.Stdout,
		Now: func() time.Time {
			if asked++; key == "" || asked > 200 {
				panic("a fault of ours")
			}
			return time.Unix(1_700_000_000, 0)
		}})
	fmt.Printf("it was a panic: %v\n", errors.Is(err, tea.ErrProgramPanic))
}

// TestPanic: a fault of ours leaves a terminal that is as it was before, and is an error. It is in
// a process of its own: when the library ends so, its reader may still look at what it closes,
// which the race detector would tell of this one.
func TestPanic(t *testing.T) {
	if key, ok := os.LookupEnv(panics); ok {
		panicAt(strings.TrimPrefix(key, "key "))
		return
	}
	for _, test := range []struct{ what, key string }{
		{"the first picture", ""}, {"a key", "4"},
	} {
		host, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
			t.Fatal(err)
		}
		before, err := term.GetState(int(tty.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestPanic$")
		cmd.Env = append(os.Environ(), "TERM=xterm-256color", panics+"=key "+test.key)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := make(chan string)
		go func() {
			var out strings.Builder
			p := make([]byte, 4096)
			for {
				n, err := host.Read(p)
				out.Write(p[:n])
				if strings.Contains(out.String(), "[1 Jobs]") && test.key != "" {
					// The first pane isn't asked for the time; this one is, at each visit.
					_, _ = io.WriteString(host, strings.Repeat(test.key+"1", 300))
					test.key = ""
				}
				if err != nil {
					said <- out.String()
					return
				}
			}
		}()
		_ = cmd.Wait() // what it says tells how it went
		after, err := term.GetState(int(tty.Fd()))
		if err != nil || *after != *before {
			t.Errorf("%s: the terminal was %v, and is %v, %v", test.what, before, after, err)
		}
		tty.Close()
		text := <-said
		host.Close()
		if !strings.Contains(text, "it was a panic: true") ||
			strings.LastIndex(text, "\x1b[?1049h") > strings.LastIndex(text, "\x1b[?1049l") ||
			strings.LastIndex(text, "\x1b[?25l") > strings.LastIndex(text, "\x1b[?25h") {
			t.Errorf("%s: the screen isn't put back: %q", test.what, text)
		}
	}
}
