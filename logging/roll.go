package logging

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// policy is log4rs's compound policy: a trigger that says when the file is
// rolled, and a roller that takes the old one away. All calls are made with
// the file's lock held.
type policy struct {
	trigger trigger
	roller  roller
	report  func(error) // for errors of the work in the background
}

// trigger decides when a file is rolled.
type trigger interface {
	// before says whether the trigger is asked before a line is written;
	// the others are asked after it.
	before() bool
	// due is asked once for each line; size is the file's, in bytes.
	due(size int64) bool
}

// roller takes the closed file at path away. It may return with work left,
// which it does in the background of the file.
type roller interface {
	roll(lf *logFile, report func(error)) error
}

func (p *policy) roll(lf *logFile) error {
	if err := lf.release(); err != nil {
		return err
	}
	if _, err := os.Lstat(lf.path); errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else took it away
	}
	if err := p.roller.roll(lf, p.report); err != nil {
		return fmt.Errorf("roll %s: %w", lf.path, err)
	}
	return nil
}

// sizeTrigger rolls a file that has grown beyond limit bytes.
type sizeTrigger struct{ limit int64 }

func (sizeTrigger) before() bool          { return false }
func (t sizeTrigger) due(size int64) bool { return size > t.limit }

// startupTrigger rolls a file once, if it isn't shorter than minSize.
type startupTrigger struct {
	minSize int64
	done    bool
}

func (*startupTrigger) before() bool { return true }

func (t *startupTrigger) due(size int64) bool {
	first := !t.done
	t.done = true
	return first && size >= t.minSize
}

// timeTrigger rolls with the first line after the end of each interval.
type timeTrigger struct {
	every    interval
	modulate bool
	maxDelay int64            // seconds; each roll is put off by a random part of it
	now      func() time.Time // in the zone whose days count
	next     time.Time
}

func (*timeTrigger) before() bool { return true }

func (t *timeTrigger) due(int64) bool {
	now := t.now()
	due := !t.next.IsZero() && !now.Before(t.next)
	if due || t.next.IsZero() {
		t.next = t.every.next(now, t.modulate)
		if t.maxDelay > 0 {
			t.next = t.next.Add(time.Duration(rand.Int64N(t.maxDelay)) * time.Second)
		}
	}
	return due
}

// deleteRoller throws the file away.
type deleteRoller struct{}

func (deleteRoller) roll(lf *logFile, _ func(error)) error { return os.Remove(lf.path) }

// windowRoller keeps count archives, the newest with the number base. With
// a pattern that ends in .gz they are compressed, in the background: loggers
// don't wait for that, except when the next roll comes before it is done.
//
// While it is compressed, the newest archive's text is at its name with
// .part behind; if the process ends then, the next roll finishes it.
type windowRoller struct {
	pattern string // has "{}" where the number goes
	base    uint32
	count   uint32
	lookup  func(string) (string, bool)
}

func (r *windowRoller) name(i uint32) string {
	return expandEnv(strings.ReplaceAll(r.pattern, "{}", strconv.FormatUint(uint64(i), 10)),
		r.lookup)
}

func (r *windowRoller) roll(lf *logFile, report func(error)) error {
	lf.compressing.Wait()
	if r.count == 0 {
		return os.Remove(lf.path)
	}
	newest := r.name(r.base)
	part := newest + ".part"
	gz := filepath.Ext(r.pattern) == ".gz"
	if gz {
		if err := compress(part, newest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := r.shift(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(newest), 0o777); err != nil {
		return err
	}
	if !gz {
		return move(lf.path, newest)
	}
	if err := move(lf.path, part); err != nil {
		return err
	}
	lf.compressing.Go(func() {
		if err := compress(part, newest); err != nil {
			report(fmt.Errorf("compress the rolled log: %w", err))
		}
	})
	return nil
}

// shift gives every archive the next number, up to the first that is free;
// the last of a full window is overwritten.
func (r *windowRoller) shift() error {
	last := r.base
	for last-r.base < r.count-1 {
		if _, err := os.Lstat(r.name(last)); err != nil {
			break
		}
		last++
	}
	for i := last; i > r.base; i-- {
		to := r.name(i)
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			return err
		}
		if err := move(r.name(i-1), to); err != nil {
			return err
		}
	}
	return nil
}

// move renames a file, or copies it where the new name is on another file
// system.
func move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if err := transcribe(from, to,
		func(w io.Writer) io.WriteCloser { return nopCloser{w} }); err != nil {
		return err
	}
	return os.Remove(from)
}

// compress replaces from by to, its gzipped form, which appears complete or
// not at all.
func compress(from, to string) error {
	err := transcribe(from, to+".tmp", func(w io.Writer) io.WriteCloser {
		return gzip.NewWriter(w)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(to+".tmp", to); err != nil {
		return err
	}
	return os.Remove(from)
}

// transcribe writes what is in from to the file to, through a filter.
func transcribe(from, to string, filter func(io.Writer) io.WriteCloser) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := filter(out)
	_, err = io.Copy(w, in)
	return errors.Join(err, w.Close(), out.Close())
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
