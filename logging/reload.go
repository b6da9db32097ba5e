package logging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// maxConfigSize bounds what is read as a configuration.
const maxConfigSize = 1 << 20

// stamp tells one version of the configuration from the next
// without reading it. The modification time alone misses a file that was
// moved in with an older one's time.
type stamp struct{ info os.FileInfo }

func (s stamp) same(o stamp) bool {
	return s.info != nil && o.info != nil && os.SameFile(s.info, o.info) &&
		s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size()
}

// readConfig reads the file, and takes its stamp first: a change in between
// is then seen the next time.
func readConfig(path string) ([]byte, stamp, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	source, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err == nil && len(source) > maxConfigSize {
		err = fmt.Errorf("it is larger than %d bytes", maxConfigSize)
	}
	return source, stamp{info}, err
}

// take puts a configuration into force; an error leaves the old one there.
// It is called with mu held.
func (l *Log) take(source []byte) error {
	l.source = source
	parsed, err := parseConfig(source)
	if err != nil {
		return err
	}
	return l.install(l.build(parsed))
}

// install makes conf the current configuration, and closes the files that it
// doesn't use. It is called with mu held.
func (l *Log) install(conf *config) error {
	old := l.current.Swap(conf)
	select {
	case l.rescheduled <- struct{}{}:
	default: // Run will look at the newest anyway
	}
	var failed error
	for path, file := range old.files {
		if conf.files[path] != file {
			failed = errors.Join(failed, file.close())
		}
	}
	return failed
}

// Reload reads the configuration now, and opens all log files anew, as after
// logrotate or for SIGHUP. If the configuration can't be read or parsed,
// the old one stays and its files are still opened anew.
func (l *Log) Reload() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	kept := l.current.Load().files
	failed := l.reread(true)
	for path, file := range l.current.Load().files {
		if kept[path] != file {
			continue // just opened
		}
		if err := file.reopen(); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// reread takes the configuration over if it changed; with always it looks
// into the file even if its stamp is the same, and tries again what had to be
// left out. It is called with mu held.
func (l *Log) reread(always bool) error {
	if l.opt.ConfigPath == "" || l.closed {
		return nil
	}
	if !always {
		info, err := os.Stat(l.opt.ConfigPath)
		if err != nil {
			return fmt.Errorf("look for changes of the log configuration: %w", err)
		}
		if l.stamp.same(stamp{info}) {
			return nil
		}
	}
	source, stamp, err := readConfig(l.opt.ConfigPath)
	if err != nil {
		return fmt.Errorf("read the log configuration: %w", err)
	}
	l.stamp = stamp
	if bytes.Equal(source, l.source) && !(always && l.current.Load().partial) {
		return nil
	}
	if err := l.take(source); err != nil {
		return fmt.Errorf("log configuration %s: %w", l.opt.ConfigPath, err)
	}
	return nil
}

// Run looks for changes of the configuration every refresh_rate until the
// context ends. An error keeps the old configuration and is logged, once for
// as long as it stays the same.
func (l *Log) Run(ctx context.Context) {
	last := ""
	for {
		var due <-chan time.Time
		if rate := l.current.Load().refresh; rate > 0 {
			due = time.After(rate)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.rescheduled:
			continue
		case <-due:
		}
		if err := l.poll(); err == nil {
			last = ""
		} else if err.Error() != last {
			last = err.Error()
			l.complain(err)
		}
	}
}

func (l *Log) poll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reread(false)
}

// complain logs that the configuration stays as it is; if that would reach
// nobody, it goes to stderr.
func (l *Log) complain(err error) {
	if log := l.Logger("server"); log.Enabled(context.Background(), slog.LevelError) {
		log.Error("the log configuration stays as it was", "err", err)
		return
	}
	l.report(fmt.Errorf("the configuration stays as it was: %w", err))
}
