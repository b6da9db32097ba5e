package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"jobserver/failpoint"
)

// startAll starts a batch, a few at a time: a fork is work for a core. The error is errSuperseded.
func (a *agent) startAll(ctx context.Context, specs []Spec) ([]StartResult, error) {
	results := make([]StartResult, len(specs))
	var g errgroup.Group
	g.SetLimit(2 * runtime.NumCPU())
	for i := range specs {
		g.Go(func() (err error) {
			results[i], err = a.start(ctx, &specs[i])
			return err
		})
	}
	return results, g.Wait()
}

func failed(err error) StartResult { return StartResult{Status: StartFailed, Reason: err.Error()} }

// start claims a run and launches it, or says what became of an earlier start with the same token.
//
// The lock is the claim. Who holds it and finds no `launching` knows that the command was never
// started and that nobody else is about to: any earlier claim was cut before it could do harm.
func (a *agent) start(ctx context.Context, s *Spec) (StartResult, error) {
	if r, ok := a.mayStart(s); !ok {
		return r, nil
	}
	if err := a.holds(); errors.Is(err, errSuperseded) {
		return StartResult{}, err // before anything is made
	}
	dir, began, gone, err := a.makeRun(s.Run)
	if err != nil {
		return failed(err), nil
	}
	if gone {
		return StartResult{Status: StartOK}, nil // what has become of it, a poll says
	}
	for {
		lock, ok, err := openLock(filepath.Join(dir, fileRun))
		if errors.Is(err, fs.ErrNotExist) && began.has(s.Run) {
			return StartResult{Status: StartOK}, nil // it has removed its directory just now
		}
		if err != nil {
			return failed(err), nil
		}
		if !ok {
			r, again := a.awaitStart(ctx, dir, launchTime)
			if again {
				continue
			}
			return r, nil
		}
		var v view
		torn, err := v.read(lock)
		if failpoint.Breaks("start-once") {
			torn, v = false, view{}
		}
		if err == nil && !torn && v.launching.PID == 0 && v.exit == nil {
			failpoint.Hit("agent.claimed")
			gone, err := began.begin(s.Run, lock)
			gone = gone && !failpoint.Breaks("start-once")
			if err != nil || gone {
				lock.Close()
			}
			if err != nil {
				return failed(err), nil
			}
			if gone {
				return StartResult{Status: StartOK}, nil
			}
			switch err := a.holds(); {
			case err == nil:
				return a.launch(ctx, s, dir, lock), nil
			case errors.Is(err, errSuperseded):
				lock.Close()
				return StartResult{}, err
			default:
				lock.Close()
				return failed(fmt.Errorf("start %s: %w", s.Run.Name(), err)), nil
			}
		}
		lock.Close()
		if err != nil {
			return failed(fmt.Errorf("start %s: %w", s.Run.Name(), err)), nil
		}
		return v.result(s.Run), nil
	}
}

// mayStart says what keeps a run from starting, before anything is made.
func (a *agent) mayStart(s *Spec) (StartResult, bool) {
	if s.BootID != "" && s.BootID != a.bootID {
		return StartResult{Status: StartOtherBoot,
			Reason: fmt.Sprintf("start %s: the boot id is %s, not %s: the machine has booted since",
				s.Run.Name(), a.bootID, s.BootID)}, false
	}
	if err := s.check(); err != nil {
		return StartResult{Status: StartImpossible, Reason: err.Error()}, false
	}
	return StartResult{}, true
}

// check finds what can't be carried out on any machine.
func (s *Spec) check() error {
	if err := s.Run.Valid(); err != nil {
		return err
	}
	if (len(s.Command) > 0) == (len(s.Argv) > 0) {
		return fmt.Errorf("start %s: either a command or words to execute", s.Run.Name())
	}
	nul := bytes.IndexByte(s.Command, 0) >= 0
	for _, word := range s.Argv {
		nul = nul || bytes.IndexByte(word, 0) >= 0
	}
	for _, set := range [...][]Pair{s.Env, s.Secrets} {
		for _, p := range set {
			nul = nul || bytes.ContainsRune([]byte(p.Name+p.Value), 0)
			if p.Name == "" || bytes.ContainsRune([]byte(p.Name), '=') {
				return fmt.Errorf("start %s: %q can't be the name of a variable", s.Run.Name(),
					p.Name)
			}
		}
	}
	if nul {
		return fmt.Errorf("start %s: a zero byte can't be passed to a command", s.Run.Name())
	}
	return nil
}

func makeRunDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	for tries := 0; errors.Is(err, fs.ErrNotExist) && tries < 10; tries++ {
		// tidying up may remove what is empty
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func lost(run RunID) StartResult {
	return StartResult{Status: StartAmbiguous,
		Reason: fmt.Sprintf("start %s: an earlier start was cut while it launched the command",
			run.Name())}
}

// result gives what a view of a run that was started before means for a repeated start.
func (v view) result(run RunID) StartResult {
	switch {
	case v.exit != nil && v.exit.Cause == NotStarted:
		return v.exit.notStarted()
	case v.exit != nil:
		return StartResult{Status: StartOK, StartedAt: v.exit.StartedAt}
	case v.started.PID != 0:
		return StartResult{Status: StartOK, StartedAt: v.started.At}
	default:
		return lost(run)
	}
}

const (
	// launchTime is longer than a launch takes, also where very much is launched at once.
	launchTime = 30 * time.Second
	// wakeTime is longer than a launch takes as a rule.
	wakeTime = 2 * time.Second
)

// awaitStart waits while another process holds the lock of a run that hasn't started. again: the
// lock is free. Beyond the limit it may run, and have lost its records: then it is to be followed.
func (a *agent) awaitStart(
	ctx context.Context, dir string, limit time.Duration,
) (r StartResult, again bool) {
	news, err := a.watch.add(dir)
	if err != nil {
		return failed(err), false
	}
	defer news.close()
	id, err := parseRunName("s", "m", filepath.Base(dir))
	if err != nil {
		return failed(err), false
	}
	// A claimant that dies before it launches is told by nothing
	// but its lock. That lasts milliseconds, so looking is cheap.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	late, long := time.NewTimer(limit), time.NewTimer(wakeTime)
	defer late.Stop()
	defer long.Stop()
	for {
		v, err := look(dir, a.bootID)
		switch {
		case err != nil:
			return failed(err), false
		case v.state == None:
			return r, true
		case v.state != Launching:
			return v.result(id), false
		}
		select {
		case <-news.C:
		case <-tick.C:
		case <-long.C:
			wakeSupervisors(0) // the one that has the order may stand still
		case <-late.C:
			return StartResult{Status: StartOK}, false
		case <-ctx.Done():
			return failed(ctx.Err()), false
		}
	}
}

// launch gives the order to a supervisor, with the lock, and waits for its answer.
func (a *agent) launch(ctx context.Context, s *Spec, dir string, lock *os.File) StartResult {
	defer lock.Close()
	o := order{Spec: *s, RunDir: dir, BootID: a.bootID, LoginDir: a.login,
		Env: a.keeper.environment()}
	r, err := a.pool.launch(ctx, encode(o.fields), lock)
	failpoint.Hit("agent.launched")
	if err == nil {
		return r
	}
	if ctx.Err() != nil {
		return failed(ctx.Err())
	}
	lock.Close()
	return a.diedLaunching(ctx, s.Run, dir, err)
}

// diedLaunching says what is known of a run whose supervisor gave no answer.
func (a *agent) diedLaunching(ctx context.Context, run RunID, dir string, cause error) StartResult {
	if r, again := a.awaitStart(ctx, dir, launchTime); !again {
		return r
	}
	said, _ := readFile(filepath.Join(dir, fileRun), maxRecord)
	said = said[min(len(said), slotsSize):]
	if errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF) {
		cause = errors.New("it died")
	}
	return failed(fmt.Errorf("start %s: the supervisor did not answer: %w: %s", run.Name(), cause,
		bytes.TrimSpace(said[max(0, len(said)-1000):])))
}
