package logging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// logFile is one file that is logged to. There is one for each path, shared
// by all appenders that name it and kept from one configuration to the next,
// so that its writes and rolls have a single order.
type logFile struct {
	path string

	mu   sync.Mutex
	f    *os.File // nil after a roll or close; the next write opens it
	size int64    // as far as this process knows
	torn bool     // a write broke off within a line
	shut bool     // no configuration uses it: nothing stays open

	compressing sync.WaitGroup // the archive that is being made, if any
}

// openLogFile makes the directories above path and opens it, emptied if
// truncate is set.
func openLogFile(path string, truncate bool) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fmt.Errorf("make the directory of the log: %w", err)
	}
	lf := &logFile{path: path}
	flags := 0
	if truncate {
		flags = os.O_TRUNC
	}
	if err := lf.open(flags); err != nil {
		return nil, err
	}
	return lf, nil
}

// open is called with mu held, or before anybody else knows of lf.
func (lf *logFile) open(flags int) error {
	f, err := os.OpenFile(lf.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|flags, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open the log: %w", err), f.Close())
	}
	lf.f, lf.size, lf.torn = f, info.Size(), false
	return nil
}

// write appends one line with one write, and rolls the file before or after
// it if the policy (nil for none) says so. The line is written even if the
// file can't be rolled.
func (lf *logFile) write(line []byte, p *policy) (err error) {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	if lf.shut {
		// A record that was on its way when the configuration changed.
		p = nil
		defer func() { err = errors.Join(err, lf.release()) }()
	}
	if lf.f == nil {
		if err := lf.open(0); err != nil {
			return err
		}
	}
	var rolled error
	if p != nil && p.trigger.before() && p.trigger.due(lf.size) {
		rolled = p.roll(lf)
	}
	if err := lf.append(line); err != nil {
		return errors.Join(rolled, err)
	}
	if p != nil && !p.trigger.before() && p.trigger.due(lf.size) {
		rolled = p.roll(lf)
	}
	return rolled
}

func (lf *logFile) append(line []byte) error {
	if lf.f == nil {
		if err := lf.open(0); err != nil {
			return err
		}
	}
	if lf.torn {
		if _, err := lf.f.WriteString("\n"); err != nil {
			return fmt.Errorf("write the log: %w", err)
		}
		lf.torn = false
		lf.size++
	}
	n, err := lf.f.Write(line)
	lf.size += int64(n)
	if err != nil {
		lf.torn = n > 0
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}

// reopen lets go of the file and opens its path anew, which after logrotate
// is another file. If that fails, it goes on with the one it has.
func (lf *logFile) reopen() error {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	old := lf.f
	if err := lf.open(0); err != nil {
		return err
	}
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("close the rotated log: %w", err)
	}
	return nil
}

// close waits for the archive that is being made, and closes the file for
// good: a write that still comes opens it for itself.
func (lf *logFile) close() error {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	lf.shut = true
	lf.compressing.Wait()
	return lf.release()
}

// release closes the file; the next write opens it.
func (lf *logFile) release() error {
	if lf.f == nil {
		return nil
	}
	err := lf.f.Close()
	lf.f = nil
	if err != nil {
		return fmt.Errorf("close the log: %w", err)
	}
	return nil
}
