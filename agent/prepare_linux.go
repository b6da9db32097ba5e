package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// prepareAll makes all ready for runs that are to start together with others, on other machines:
// what would keep one of them from starting is found before any has. The error is errSuperseded.
func (a *agent) prepareAll(specs []Spec) ([]StartResult, error) {
	results := make([]StartResult, len(specs))
	var g errgroup.Group
	g.SetLimit(2 * runtime.NumCPU())
	for i := range specs {
		g.Go(func() (err error) {
			results[i], err = a.prepare(&specs[i])
			return err
		})
	}
	return results, g.Wait()
}

// prepare makes a run's directory, and room for its records. Nothing holds its lock afterwards: to
// all who look it is a run that was never launched.
func (a *agent) prepare(s *Spec) (StartResult, error) {
	if r, ok := a.mayStart(s); !ok {
		return r, nil
	}
	if err := a.holds(); errors.Is(err, errSuperseded) {
		return StartResult{}, err
	} else if err != nil {
		return failed(fmt.Errorf("prepare %s: %w", s.Run.Name(), err)), nil
	}
	dir, began, gone, err := a.makeRun(s.Run)
	if err != nil {
		return failed(err), nil
	}
	if gone {
		return StartResult{Status: StartOK}, nil // its start says so
	}
	lock, ok, err := openLock(filepath.Join(dir, fileRun))
	if err != nil {
		return failed(err), nil
	}
	if !ok { // it starts already, or runs
		return StartResult{Status: StartOK}, nil
	}
	defer lock.Close()
	if fi, err := lock.Stat(); err == nil && fi.Size() == 0 && !began.has(s.Run) {
		if err := allocate(lock, slotsSize); err != nil {
			return failed(fmt.Errorf("prepare %s: %w", s.Run.Name(), err)), nil
		}
	}
	return StartResult{Status: StartOK}, nil
}
