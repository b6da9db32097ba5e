package logging

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// appender is a place that lines go to, and how they look there.
type appender struct {
	name    string
	floor   slog.Level // what is below is refused: the strictest of the filters
	encoder encoder
	color   bool
	sink    sink

	quiet      atomic.Int64 // Unix nanoseconds until which errors aren't reported
	suppressed atomic.Int64 // how many weren't
}

// encoder appends a record as a line, ending included, to buf.
type encoder interface {
	append(buf []byte, ev *event, color bool) []byte
}

// sink takes one line with one write. It is safe for concurrent use.
type sink interface {
	write(line []byte) error
}

// complaintInterval is how often an appender that can't write says so.
const complaintInterval = time.Minute

// complaint is what there is to say about an error of the appender, nil
// while it has said enough.
func (a *appender) complaint(err error, now time.Time) error {
	quiet := a.quiet.Load()
	if now.UnixNano() < quiet ||
		!a.quiet.CompareAndSwap(quiet, now.Add(complaintInterval).UnixNano()) {
		a.suppressed.Add(1)
		return nil
	}
	if n := a.suppressed.Swap(0); n > 0 {
		return fmt.Errorf("appender %q: %w (and %d more errors since the last report)", a.name, err,
			n)
	}
	return fmt.Errorf("appender %q: %w", a.name, err)
}

// console is stdout or stderr.
type console struct {
	mu  sync.Mutex
	w   io.Writer
	tty bool
}

func newConsole(w io.Writer) *console {
	f, ok := w.(*os.File)
	return &console{w: w, tty: ok && term.IsTerminal(int(f.Fd()))}
}

func (c *console) write(line []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.w.Write(line); err != nil {
		return fmt.Errorf("write to the console: %w", err)
	}
	return nil
}

// colors says whether the console gets escape sequences: on a terminal, unless
// NO_COLOR is set or CLICOLOR is 0; elsewhere only with CLICOLOR_FORCE. To all
// three "0" means off, as in log4rs.
func (c *console) colors(lookup func(string) (string, bool)) bool {
	if v, ok := lookup("NO_COLOR"); ok && v != "0" {
		return false
	}
	if v, ok := lookup("CLICOLOR_FORCE"); ok && v != "0" {
		return true
	}
	if v, ok := lookup("CLICOLOR"); ok && v == "0" {
		return false
	}
	return c.tty
}

// fileSink is a file with the policy of one appender.
type fileSink struct {
	file   *logFile
	policy *policy // nil: never rolled
}

func (s *fileSink) write(line []byte) error { return s.file.write(line, s.policy) }

// nowhere takes the lines of a tty_only appender without a terminal.
type nowhere struct{}

func (nowhere) write([]byte) error { return nil }
