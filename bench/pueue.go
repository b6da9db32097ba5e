package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Lines 16 and 20: submission and start, beside pueue. Its daemon writes all that it knows at each
// change, and looks for ended jobs a few times a second.

const (
	longQueue   = 10_000
	orderly     = 50_000 // jobs that ours starts with
	pueueSettle = 400 * time.Millisecond
)

// A pueued is a daemon of pueue's with a directory of its own.
type pueued struct {
	dir    string
	config string
	daemon *exec.Cmd // nil while it is stopped
}

func (w *world) newPueue(name string) (*pueued, error) {
	p := &pueued{dir: w.path(name)}
	p.config = filepath.Join(p.dir, "pueue.yml")
	text := fmt.Sprintf("shared:\n  pueue_directory: %s\n  runtime_directory: %s\n"+
		"  use_unix_socket: true\n  unix_socket_path: %s\nclient: {}\ndaemon: {}\n", p.dir, p.dir,
		p.socket())
	return p, errors.Join(os.Mkdir(p.dir, 0o700), os.WriteFile(p.config, []byte(text), 0o600))
}

func (p *pueued) socket() string { return filepath.Join(p.dir, "socket") }
func (p *pueued) state() string  { return filepath.Join(p.dir, "state.json") }

// start starts it, and says how long it took until it took connections: less than until it has
// answered.
func (p *pueued) start(ctx context.Context) (time.Duration, error) {
	log, err := os.OpenFile(filepath.Join(p.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY,
		0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	p.daemon = exec.Command("pueued", "-c", p.config)
	p.daemon.Stdout, p.daemon.Stderr = log, log
	return timed(func() error {
		if err := p.daemon.Start(); err != nil {
			p.daemon = nil
			return err
		}
		for range 60_000 {
			if c, err := net.Dial("unix", p.socket()); err == nil {
				return c.Close()
			}
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		return errors.New("pueued takes no connections")
	})
}

// pueue runs its client, as a process.
func (p *pueued) pueue(ctx context.Context, args ...string) (string, time.Duration, error) {
	return output(ctx, append([]string{"pueue", "-c", p.config}, args...)...)
}

// stop ends it as its user does, and waits for its end.
func (p *pueued) stop() error {
	if p.daemon == nil {
		return nil
	}
	err := p.daemon.Process.Signal(syscall.SIGTERM)
	waited := p.daemon.Wait()
	p.daemon = nil
	if errors.As(waited, new(*exec.ExitError)) {
		waited = nil // how it ends after a signal is its own affair
	}
	return errors.Join(err, waited)
}

// tasks gives what it says of all jobs: how each has ended, "" where it has not.
func (p *pueued) tasks(ctx context.Context) (map[string]string, error) {
	out, _, err := p.pueue(ctx, "status", "--json")
	if err != nil {
		return nil, err
	}
	var said struct {
		Tasks map[string]struct {
			Status map[string]struct {
				Result json.RawMessage `json:"result"`
			} `json:"status"`
		} `json:"tasks"`
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		return nil, fmt.Errorf("read the status of pueue: %w", err)
	}
	ended := map[string]string{}
	for id, task := range said.Tasks {
		ended[id] = strings.Trim(string(task.Status["Done"].Result), `"`)
	}
	return ended, nil
}

// verify checks that it has n jobs, and that all end well.
func (p *pueued) verify(ctx context.Context, n int) error {
	for range 100 {
		ended, err := p.tasks(ctx)
		if err != nil {
			return err
		}
		if len(ended) != n {
			return fmt.Errorf("pueue has %d jobs, not %d", len(ended), n)
		}
		running := false
		for id, result := range ended {
			if running = running || result == ""; result != "" && result != "Success" {
				return fmt.Errorf("job %s of pueue's has ended with %q", id, result)
			}
		}
		if !running {
			return nil
		}
		if err := pause(ctx, pueueSettle); err != nil {
			return err
		}
	}
	return errors.New("not all jobs of pueue's end")
}

// repeat makes one ended job many, in the state of one that is stopped.
func (p *pueued) repeat(n int) error {
	b, err := os.ReadFile(p.state())
	if err != nil {
		return err
	}
	var state map[string]json.RawMessage
	var tasks map[string]map[string]json.RawMessage
	if err := json.Unmarshal(b, &state); err != nil {
		return fmt.Errorf("read the state of pueue: %w", err)
	}
	if err := json.Unmarshal(state["tasks"], &tasks); err != nil || len(tasks["0"]) == 0 {
		return fmt.Errorf("read the jobs of pueue: %w", err)
	}
	many := make(map[string]map[string]json.RawMessage, n)
	for i := range n {
		task := map[string]json.RawMessage{}
		for key, value := range tasks["0"] {
			task[key] = value
		}
		id := strconv.Itoa(i)
		task["id"] = json.RawMessage(id)
		many[id] = task
	}
	if state["tasks"], err = json.Marshal(many); err != nil {
		return err
	}
	if b, err = json.Marshal(state); err != nil {
		return err
	}
	return os.WriteFile(p.state(), b, 0o600)
}

// pueueWithHistory is one that runs and has so many jobs that have ended.
func (w *world) pueueWithHistory(ctx context.Context, name string, n int) (*pueued, error) {
	p, err := w.newPueue(name)
	if err != nil {
		return nil, err
	}
	if _, err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	_, _, err = p.pueue(ctx, "add", "--", "true")
	if err == nil {
		err = p.verify(ctx, 1)
	}
	if err = errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	if err := p.repeat(n); err != nil {
		return nil, err
	}
	_, err = p.start(ctx)
	if err == nil {
		err = p.verify(ctx, n)
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// measureAgainstPueue is line 16.
func measureAgainstPueue(ctx context.Context, w *world) (rows []row, err error) {
	r := row{ourCmd: "j add -q x true", peerCmd: "pueue add -- true"}
	a, b := r, r
	a.name, a.what = "16a", "submit one job, as a whole process"
	b.name, b.what = "16b", "the same, 10,000 jobs of history"
	fresh, err := os.MkdirTemp(w.dir, "state-")
	if err != nil {
		return nil, err
	}
	ours, theirs, err := w.submitBeside(ctx, fresh, "pueue-fresh", 1, 60)
	if err != nil {
		return nil, err
	}
	rows = append(rows, a.slower(ours, theirs, 1.5))
	long, err := os.MkdirTemp(w.dir, "state-")
	if err != nil {
		return nil, err
	}
	if err := makeHistory(ctx, long, longQueue); err != nil {
		return nil, err
	}
	ours, theirs, err = w.submitBeside(ctx, long, "pueue-long", longQueue, 20)
	if err != nil {
		return nil, err
	}
	return append(rows, b.slower(ours, theirs, 0.1)), nil
}

// submitBeside submits jobs to a daemon of ours on a state directory and to one of pueue's that has
// so many jobs; each job has ended before the next one is submitted.
func (w *world) submitBeside(
	ctx context.Context, state, peer string, history, turns int,
) (ours, theirs samples, err error) {
	p, err := w.pueueWithHistory(ctx, peer, history)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	err = w.withState(ctx, state, func(d *daemon) error {
		if err := d.addMachine(ctx, "local", "x", 1); err != nil {
			return err
		}
		var ids []string
		runs, err := inTurn(ctx, turns,
			func() (time.Duration, error) {
				out, took, err := d.j(ctx, "add", "-q", "x", "true")
				if ids = append(ids, strings.TrimSpace(out)); err == nil {
					_, _, err = d.j(ctx, "wait", "last")
				}
				return took, err
			},
			func() (time.Duration, error) {
				_, took, err := p.pueue(ctx, "add", "--", "true")
				return took, errors.Join(err, pause(ctx, pueueSettle)) // it has seen the end
			})
		if err != nil {
			return err
		}
		ours, theirs = runs[0], runs[1]
		return errors.Join(d.verify(ctx, turns+1, "", ids...), p.verify(ctx, history+turns+1))
	})
	return ours, theirs, err
}

// measureOrderlyStart is line 20.
func measureOrderlyStart(ctx context.Context, w *world) (rows []row, err error) {
	state, err := os.MkdirTemp(w.dir, "state-")
	if err != nil {
		return nil, err
	}
	if err := makeHistory(ctx, state, orderly); err != nil {
		return nil, err
	}
	// its orderly stop is what the starts find
	if err := w.withState(ctx, state, func(*daemon) error { return nil }); err != nil {
		return nil, err
	}
	p, err := w.pueueWithHistory(ctx, "pueue-start", longQueue)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	runs, err := inTurn(ctx, 10,
		func() (time.Duration, error) {
			start := time.Now()
			d, err := w.start(ctx, state)
			if err != nil {
				return 0, err
			}
			took := time.Since(start)
			return took, errors.Join(d.hasWaiting(ctx, stillWaiting), d.Stop())
		},
		func() (time.Duration, error) {
			if err := p.stop(); err != nil {
				return 0, err
			}
			took, err := p.start(ctx)
			if err != nil {
				return 0, err
			}
			return took, p.verify(ctx, longQueue)
		})
	if err != nil {
		return nil, err
	}
	r := row{name: "20", what: "daemon start after an orderly stop",
		ours:    show(runs[0].median()) + ", 50,000 jobs of history and 100,000 that wait",
		theirs:  show(runs[1].median()) + ", 10,000 of history",
		ourCmd:  "j serve, until a client's first call is answered",
		peerCmd: "pueued, until it takes a connection"}
	return []row{r.slower(runs[0], runs[1], 0.3)}, nil
}
