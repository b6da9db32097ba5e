package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"jobserver/api"
	"jobserver/cli"
)

// DemoCmd is `demo`.
type DemoCmd struct {
	Dir  string `name:"dir" placeholder:"DIR" predictor:"dir" help:"Where to put the results; ./jobserver-demo by default."`
	Keep bool   `name:"keep" help:"Keep the state of the demo's daemon."`
}

// Run shows the whole story.
func (c *DemoCmd) Run(ctx context.Context, e *cli.Env) error {
	return runDemo(ctx, e, *c)
}

// demoCommand compresses the same text at several levels, a few times each. It uses nothing that
// BusyBox hasn't: whoever tries the program may have a container with little in it.
const demoCommand = `seq 1 300000 > "$JOBSERVER_SCRATCH/numbers"
cd "$JOBSERVER_SCRATCH"
now() { cut -d ' ' -f 1 /proc/uptime | tr -d .; }
began=$(now)
gzip -{LEVEL} -c numbers > numbers.gz
ended=$(now)
echo "level {LEVEL} on {MACHINE}: $(wc -c < numbers.gz) bytes"
echo "{LEVEL},$(wc -c < numbers),$(wc -c < numbers.gz),$(( (ended - began) * 10 ))" > sizes.csv
echo "RESULTS: $JOBSERVER_SCRATCH/sizes.csv"`

// runDemo shows the whole story on this computer alone: a real daemon on a private socket, two
// machines that are set up, a matrix, its results. It uses no other path than the real one: every
// line that it shows is a command that a user could type.
func runDemo(ctx context.Context, e *cli.Env, c DemoCmd) (err error) {
	if c.Dir == "" {
		c.Dir = "jobserver-demo"
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return fmt.Errorf("find the demo's directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "results")); err == nil {
		return api.Errorf(api.Conflict, "%s has the results of an earlier demonstration", c.Dir).
			WithHint("remove them, `rm -r %s`, or put the new ones elsewhere: "+
				"`jobserver demo --dir %s`", typed(c.Dir), typed(c.Dir+"-2"))
	}
	// A short path: a socket's can have 107 bytes.
	state, err := os.MkdirTemp("", "jobserver-demo-")
	if err != nil {
		return fmt.Errorf("make the demo's state directory: %w", err)
	}
	d := &demo{env: e, dir: c.Dir, state: state}
	if c.Keep {
		defer fmt.Fprintf(e.Stderr, "the daemon's state is kept in %s\n", state)
	} else {
		defer os.RemoveAll(state)
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	return d.story(ctx)
}

// demo is the daemon that the demo runs, and where things are.
type demo struct {
	env        *cli.Env
	dir, state string
	daemon     *exec.Cmd
	ended      chan error
}

// start starts the daemon as a process of its own, and waits until it answers.
func (d *demo) start(ctx context.Context) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program's own file: %w", err)
	}
	log, err := os.Create(filepath.Join(d.state, "console.log"))
	if err != nil {
		return fmt.Errorf("make the daemon's log: %w", err)
	}
	defer log.Close()
	d.daemon = exec.Command(binary, "--socket", d.socket(), "serve", "--state-dir", d.state)
	d.daemon.Stdout, d.daemon.Stderr = log, log
	// Ctrl-C is for the demo, which then stops it
	d.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.daemon.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	d.ended = make(chan error, 1)
	go func() { d.ended <- d.daemon.Wait() }()
	d.say("$ jobserver serve --state-dir %s &", d.state)
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for look := time.NewTicker(10 * time.Millisecond); ; {
		client, err := api.Dial(ctx, d.socket(), api.ClientOptions{})
		if err == nil {
			look.Stop()
			return client.Close()
		}
		select {
		case <-look.C:
		case err := <-d.ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the daemon ended at once: %v\n%s", err, text)
		case <-deadline.C:
			return errors.Join(fmt.Errorf("the daemon doesn't answer: %w", err), d.stop())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), d.stop())
		}
	}
}

// stop ends the daemon and waits for it.
func (d *demo) stop() error {
	if err := d.daemon.Process.Signal(syscall.SIGTERM); err != nil &&
		!errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the demo's daemon: %w", err)
	}
	if err := <-d.ended; err != nil {
		return fmt.Errorf("the demo's daemon ended badly: %w", err)
	}
	return nil
}

func (d *demo) socket() string { return filepath.Join(d.state, "socket") }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.env.Stdout, format+"\n", args...) }

// j runs a command of the client, and shows it as a user would have typed it.
func (d *demo) j(ctx context.Context, args ...string) error {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = typed(a)
	}
	d.say("\n$ j %s", strings.Join(shown, " "))
	e := *d.env
	e.Name = "j"
	e.Globals = cli.Globals{}
	if code := run(ctx, &e, append([]string{"--socket", d.socket()}, args...)); code != 0 {
		return api.Errorf(api.Internal, "the demo's command ended with %d", code)
	}
	return nil
}

// typed is a word as a user would have typed it.
func typed(word string) string {
	if strings.ContainsAny(word, " \n{$;|&<>'\"") {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

func (d *demo) story(ctx context.Context) error {
	results := filepath.Join(d.dir, "results")
	steps := [][]string{
		{"machine", "setup", "-m", "local:red", "local:blue", "-c", "demo", "--slots", "2",
			"--verify", "command -v gzip", "--", "uname -sr", "nproc"},
		{"job", "wait", "class=demo"},
		{"machine", "ls"},
		{"matrix", "add", "demo", demoCommand, results, "LEVEL=1,3,6,9", "-x", "2"},
		{"job", "wait", "last"},
		{"matrix", "ls"},
		{"job", "wait", "class=demo"},
		{"job", "ls"},
		{"job", "log", "-c", "last"},
	}
	for _, args := range steps {
		if err := d.j(ctx, args...); err != nil {
			return err
		}
	}
	return d.table(results)
}

// table shows the numbers that the jobs left in their results.
func (d *demo) table(results string) error {
	d.say("\nThe results, from %s/<jid>/sizes.csv:\n", results)
	var rows []string // the levels have one digit each, so they sort as text
	err := filepath.WalkDir(results, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "sizes.csv" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var level, size, compressed, ms int
			if _, err := fmt.Sscanf(lines.Text(), "%d,%d,%d,%d", &level, &size, &compressed,
				&ms); err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			rows = append(rows,
				fmt.Sprintf("%-6d %12d %12d %8.2f %6d", level, size, compressed,
					float64(size)/float64(compressed), ms))
		}
		return lines.Err()
	})
	slices.Sort(rows)
	d.say("%-6s %12s %12s %8s %6s", "LEVEL", "BYTES", "COMPRESSED", "RATIO", "MS")
	for _, row := range rows {
		d.say("%s", row)
	}
	return err
}
