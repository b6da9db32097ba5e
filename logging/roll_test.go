package logging

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rollingConfig logs bare messages to x.log.
func rollingConfig(trigger, roller string) string {
	return "appenders: {out: {kind: rolling_file, path: '$ENV{DIR}/x.log', encoder: {pattern: " +
		"'{m}{n}'}, policy: {trigger: " +
		trigger + ", roller: " + roller + "}}}\nroot: {appenders: [out]}\n"
}

// logFiles gives the names of the log files in the fixture's directory and
// what is in them, uncompressed.
func (f *fixture) logFiles(t testing.TB) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == f.config {
			return err
		}
		name, err := filepath.Rel(f.dir, path)
		files[name] = readFile(t, path)
		if strings.HasSuffix(name, ".gz") {
			files[name] = gunzip(t, files[name])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func gunzip(t testing.TB, s string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func logLines(f *fixture, lines ...string) {
	for _, line := range lines {
		f.Logger("server").Info(line)
	}
}

// TestRollers shows the files that are left after lines of which each is
// over the limit.
func TestRollers(t *testing.T) {
	tests := []struct {
		roller string
		want   map[string]string
	}{
		{"{kind: delete}", map[string]string{}},
		{"{kind: fixed_window, pattern: '$ENV{DIR}/x.{}.log', count: 0}", map[string]string{}},
		{"{kind: fixed_window, pattern: '$ENV{DIR}/x.{}.log', count: 1}",
			map[string]string{"x.0.log": "four\n"}},
		{"{kind: fixed_window, pattern: '$ENV{DIR}/x.{}.log', count: 2}",
			map[string]string{"x.0.log": "four\n", "x.1.log": "three\n"}},
		{"{kind: fixed_window, pattern: '$ENV{DIR}/x.{}.log', base: 3, count: 9}",
			map[string]string{"x.3.log": "four\n", "x.4.log": "three\n", "x.5.log": "two\n",
				"x.6.log": "one\n"}},
		{"{kind: fixed_window, pattern: '$ENV{DIR}/a/{}/x-{}', base: 1, count: 2}",
			map[string]string{"a/1/x-1": "four\n", "a/2/x-2": "three\n"}},
		{"{kind: fixed_window, pattern: '$ENV{DIR}/old/x.{}.gz', count: 3}",
			map[string]string{"old/x.0.gz": "four\n", "old/x.1.gz": "three\n",
				"old/x.2.gz": "two\n"}},
	}
	for _, test := range tests {
		f := openText(t, rollingConfig("{kind: size, limit: 2 b}", test.roller))
		logLines(f, "one", "two", "three", "four")
		if err := f.Close(); err != nil { // waits for the archives
			t.Error(err)
		}
		if diff := cmp.Diff(test.want, f.logFiles(t)); diff != "" {
			t.Errorf("%s:\n%s", test.roller, diff)
		}
		f.quiet(t)
	}
}

// TestSizeTrigger: the limit is looked at after a line is written, counts
// what the file had before, and may be reached but not exceeded.
func TestSizeTrigger(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "x.log"), "1234\n")
	f := openWith(t, rollingConfig("{kind: size, limit: 10}", "{kind: fixed_window, pattern: "+
		"'$ENV{DIR}/x.{}', count: 5}"),
		func(o *Options) { o.LookupEnv = func(string) (string, bool) { return dir, true } })
	f.dir = dir
	logLines(f, "6789")
	if diff := cmp.Diff(map[string]string{"x.log": "1234\n6789\n"}, f.logFiles(t)); diff != "" {
		t.Error(diff)
	}
	logLines(f, "")
	if diff := cmp.Diff(map[string]string{"x.0": "1234\n6789\n\n"}, f.logFiles(t)); diff != "" {
		t.Error(diff)
	}
	f.quiet(t)
}

// TestStartupTrigger rolls what an earlier process left, once, unless it is
// shorter than min_size.
func TestStartupTrigger(t *testing.T) {
	tests := []struct {
		trigger, before string
		want            map[string]string
	}{
		{"{kind: onstartup}", "old\n", map[string]string{"x.0": "old\n", "x.log": "one\ntwo\n"}},
		{"{kind: onstartup}", "", map[string]string{"x.log": "one\ntwo\n"}},
		{"{kind: onstartup, min_size: 5}", "old\n", map[string]string{"x.log": "old\none\ntwo\n"}},
		{"{kind: onstartup, min_size: 4}", "old\n",
			map[string]string{"x.0": "old\n", "x.log": "one\ntwo\n"}},
	}
	for _, test := range tests {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.log"), test.before)
		config := rollingConfig(test.trigger,
			"{kind: fixed_window, pattern: '$ENV{DIR}/x.{}', count: 5}")
		f := openWith(t, config, func(o *Options) {
			o.LookupEnv = func(string) (string, bool) { return dir, true }
		})
		logLines(f, "one")
		// Another configuration isn't another start.
		replaceFile(t, f.config, config+"# changed\n")
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		logLines(f, "two")
		f.dir = dir
		if diff := cmp.Diff(test.want, f.logFiles(t)); diff != "" {
			t.Errorf("%s after %q:\n%s", test.trigger, test.before, diff)
		}
		f.quiet(t)
	}
}

// TestTimeTrigger rolls with the first line after the end of an interval,
// and in the zone of the log.
func TestTimeTrigger(t *testing.T) {
	tests := []struct {
		trigger string
		at      []string // times of the lines, which are the times
		want    map[string]string
	}{
		{"{kind: time, interval: 1 day}", []string{"14:22", "23:59", "24:00", "25:00"},
			map[string]string{"x.0": "14:22\n23:59\n", "x.log": "24:00\n25:00\n"}},
		{"{kind: time, interval: 2 hours, modulate: false}",
			[]string{"14:22", "15:59", "16:00", "17:59", "18:00"},
			map[string]string{"x.1": "14:22\n15:59\n", "x.0": "16:00\n17:59\n",
				"x.log": "18:00\n"}},
		{"{kind: time, interval: 5 hours, modulate: true}",
			[]string{"14:22", "15:00", "19:59", "20:00"},
			map[string]string{"x.1": "14:22\n", "x.0": "15:00\n19:59\n", "x.log": "20:00\n"}},
		// A random delay is below its maximum: at 1, there is none.
		{"{kind: time, interval: 1 hour, max_random_delay: 1}", []string{"14:22", "15:00"},
			map[string]string{"x.0": "14:22\n", "x.log": "15:00\n"}},
	}
	for _, test := range tests {
		now := someTime
		f := openWith(t, rollingConfig(test.trigger, "{kind: fixed_window, pattern: "+
			"'$ENV{DIR}/x.{}', count: 5}"),
			func(o *Options) { o.Now = func() time.Time { return now.UTC() } })
		for _, at := range test.at {
			var hour, minute int
			if _, err := fmt.Sscanf(at, "%d:%d", &hour, &minute); err != nil {
				t.Fatal(err)
			}
			now = time.Date(2016, 3, 20, hour, minute, 0, 0, someTime.Location())
			logLines(f, at)
		}
		if diff := cmp.Diff(test.want, f.logFiles(t)); diff != "" {
			t.Errorf("%s:\n%s", test.trigger, diff)
		}
		f.quiet(t)
	}
}

// TestRandomDelay: the roll comes within the delay after the interval's end.
func TestRandomDelay(t *testing.T) {
	now := someTime
	trigger := timeTrigger{every: interval{1, "hour"}, maxDelay: 600, now: func() time.Time {
		return now
	}}
	trigger.due(0)
	end := time.Date(2016, 3, 20, 15, 0, 0, 0, someTime.Location())
	if trigger.next.Before(end) || !trigger.next.Before(end.Add(10*time.Minute)) {
		t.Errorf("next roll at %v", trigger.next)
	}
}

// TestLoadWhileRolling logs from 8 goroutines into a file that rolls all the
// time: every line is there once, whole, and in its goroutine's order.
func TestLoadWhileRolling(t *testing.T) {
	const goroutines, lines = 8, 300
	for _, pattern := range []string{"x.{}", "x.{}.gz"} {
		f := openText(t, rollingConfig("{kind: size, limit: 2 kb}", "{kind: fixed_window, "+
			"pattern: '$ENV{DIR}/"+pattern+"', count: 500}"))
		var all sync.WaitGroup
		for g := range goroutines {
			all.Go(func() {
				l := f.Logger("server").With("g", g)
				for i := range lines {
					l.Info("line", "i", i, "filler", strings.Repeat("x", i%50+1))
					if i%100 == 50 { // as after logrotate
						if err := f.Reload(); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		all.Wait()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		f.quiet(t)

		files := f.logFiles(t)
		if len(files) < 50 {
			t.Errorf("%s: rolled %d times only", pattern, len(files)-1)
		}
		next := make([]int, goroutines)
		for _, name := range oldestFirst(files) {
			for line := range strings.Lines(files[name]) {
				var g, i int
				var filler string
				if _, err := fmt.Sscanf(line, "line g=%d i=%d filler=%s\n", &g, &i,
					&filler); err != nil || len(filler) != i%50+1 {
					t.Fatalf("%s: a broken line: %q", name, line)
				}
				if i != next[g] {
					t.Fatalf("%s: goroutine %d: line %d after %d", name, g, i, next[g]-1)
				}
				next[g]++
			}
		}
		for g, n := range next {
			if n != lines {
				t.Errorf("%s: goroutine %d: %d lines of %d", pattern, g, n, lines)
			}
		}
	}
}

// oldestFirst sorts the archives by their numbers, the current file last.
func oldestFirst(files map[string]string) []string {
	number := func(name string) (n int) {
		if _, err := fmt.Sscanf(name, "x.%d", &n); err != nil {
			return -1
		}
		return n
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool { return number(names[i]) > number(names[j]) })
	return names
}

// TestInterruptedArchive: a process that ended while it compressed leaves
// the text at .part, and half an archive; the next roll finishes it.
func TestInterruptedArchive(t *testing.T) {
	f := openText(t, rollingConfig("{kind: size, limit: 2 b}", "{kind: fixed_window, pattern: "+
		"'$ENV{DIR}/x.{}.gz', count: 5}"))
	writeFile(t, f.path("x.0.gz.part"), "earlier\n")
	writeFile(t, f.path("x.0.gz.tmp"), "half an arch")
	logLines(f, "later")
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"x.1.gz": "earlier\n", "x.0.gz": "later\n"},
		f.logFiles(t)); diff != "" {
		t.Error(diff)
	}
	f.quiet(t)
}

// TestRollFails: a roll that can't be done is said once, and no line is lost.
func TestRollFails(t *testing.T) {
	for _, trigger := range []string{"{kind: size, limit: 2 b}", "{kind: onstartup, min_size: 0}"} {
		f := openText(t, rollingConfig(trigger, "{kind: fixed_window, pattern: "+
			"'$ENV{DIR}/log.yml/x.{}', count: 5}"))
		logLines(f, "one", "two", "three")
		if got, want := f.read(t, "x.log"), "one\ntwo\nthree\n"; got != want {
			t.Errorf("%s: %q, want %q", trigger, got, want)
		}
		if got := strings.Count(f.stderr.String(),
			`jobserver: logging: appender "out": roll `); got != 1 {
			t.Errorf("%s: reported %d times: %s", trigger, got, f.stderr)
		}
	}
}

// TestRemovedFile: a log file that somebody removed is made again at the
// next roll, which isn't an error.
func TestRemovedFile(t *testing.T) {
	f := openText(t, rollingConfig("{kind: size, limit: 2 b}", "{kind: delete}"))
	if err := os.Remove(f.path("x.log")); err != nil {
		t.Fatal(err)
	}
	logLines(f, "gone", "back")
	f.quiet(t)
}

// TestMove covers the way over to another file system, by its parts.
func TestMove(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	writeFile(t, from, "text")
	if err := transcribe(from, to,
		func(w io.Writer) io.WriteCloser { return nopCloser{w} }); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, to); got != "text" {
		t.Errorf("got %q", got)
	}
	if err := move(filepath.Join(dir, "none"), to); err == nil {
		t.Error("moved a file that isn't there")
	}
}

// failing refuses writes while it is told to, after some bytes.
type failing struct {
	bytes.Buffer
	fail bool
}

func (w *failing) Write(p []byte) (int, error) {
	if w.fail {
		return 0, io.ErrClosedPipe
	}
	return w.Buffer.Write(p)
}

// TestComplaints: an appender that can't write says so once a minute, and
// how often it didn't.
func TestComplaints(t *testing.T) {
	now := someTime
	out := &failing{fail: true}
	f := openWith(t, consoleConfig("{m}{n}"), func(o *Options) {
		o.Stdout = out
		o.Now = func() time.Time { return now }
	})
	logLines(f, "a", "b", "c")
	now = now.Add(complaintInterval)
	logLines(f, "d", "e")
	out.fail = false
	logLines(f, "f")
	want := "jobserver: logging: appender \"out\": write to the console: io: read/write on " +
		"closed pipe\n" +
		"jobserver: logging: appender \"out\": write to the console: io: read/write on closed " +
		"pipe (and 2 more errors since the last report)\n"
	if diff := cmp.Diff(want, f.stderr.String()); diff != "" {
		t.Error(diff)
	}
	if got := out.String(); got != "f\n" {
		t.Errorf("got %q", got)
	}
}

// TestTornLine: after a write that broke off, the next line is one of its
// own. /dev/full can't tell, so the file is told.
func TestTornLine(t *testing.T) {
	f := openText(t, rollingConfig("{kind: size, limit: 1 mb}", "{kind: delete}"))
	for _, file := range f.current.Load().files {
		if _, err := file.f.WriteString("brok"); err != nil {
			t.Fatal(err)
		}
		file.torn = true
	}
	logLines(f, "next")
	if got, want := f.read(t, "x.log"), "brok\nnext\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestDiskFull logs to a device that takes nothing.
func TestDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no /dev/full here")
	}
	f := openText(t, "appenders: {full: {kind: file, path: /dev/full}, ok: {kind: console, "+
		"encoder: {pattern: x}}}\nroot: {appenders: [full, ok]}\n")
	logLines(f, "a", "b")
	if got := f.stdout.String(); got != "xx" {
		t.Errorf("the other appender got %q", got)
	}
	if got := f.stderr.String(); !strings.Contains(got, "write the log: write /dev/full: no "+
		"space left on device") || strings.Count(got, "\n") != 1 {
		t.Errorf("on stderr: %q", got)
	}
}

func BenchmarkFile(b *testing.B) {
	for name, config := range map[string]string{
		"file": "appenders: {out: {kind: file, path: '$ENV{DIR}/x.log', encoder: " +
			"{pattern: '" + referencePattern + "'}}}\nroot: {appenders: [out]}\n",
		"rolling_file": rollingConfig("{kind: size, limit: 1 mb}",
			"{kind: fixed_window, pattern: '$ENV{DIR}/x.{}', count: 3}"),
		"rolling_gz": rollingConfig("{kind: size, limit: 1 mb}",
			"{kind: fixed_window, pattern: '$ENV{DIR}/x.{}.gz', count: 3}"),
	} {
		b.Run(name, func(b *testing.B) {
			f := openText(b, config)
			l := f.Logger("server")
			for b.Loop() {
				l.LogAttrs(b.Context(), slog.LevelInfo, "job started", slog.Int("job", 17),
					slog.String("machine", "gpu3:22"))
			}
		})
	}
	b.Run("slog.TextHandler", func(b *testing.B) {
		out, err := os.Create(filepath.Join(b.TempDir(), "x.log"))
		if err != nil {
			b.Fatal(err)
		}
		defer out.Close()
		l := slog.New(slog.NewTextHandler(out, nil))
		for b.Loop() {
			l.LogAttrs(b.Context(), slog.LevelInfo, "job started", slog.Int("job", 17),
				slog.String("machine", "gpu3:22"))
		}
	})
}

// Logs are their user's alone, whatever the umask lets pass.
func TestFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	log, err := Open(Options{StateDir: dir, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	log.Logger("server").Error("something")
	log.Close()
	plain := filepath.Join(dir, "server.log")
	archive := filepath.Join(dir, "archive")
	err = transcribe(plain, archive, func(w io.Writer) io.WriteCloser { return nopCloser{w} })
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{plain, archive} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has %v, %v", file, info.Mode(), err)
		}
	}
}
