package logging

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// refreshing is a configuration that logs messages to stdout, each with a
// tag in front.
func refreshing(rate, tag string) string {
	if rate != "" {
		rate = "refresh_rate: " + rate + "\n"
	}
	return rate + consoleConfig(tag+" {m}{n}")
}

// run starts f.Run and returns what ends it and waits.
func run(f *fixture) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { f.Run(ctx) })
	return func() {
		cancel()
		done.Wait()
	}
}

// TestRefresh changes the configuration while a goroutine logs once a second:
// the change is there within refresh_rate, and no line is lost.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openText(t, refreshing("30 seconds", "A"))
		stop := run(f)
		l := f.Logger("server")
		tick := func(n int) {
			for range n {
				time.Sleep(time.Second)
				synctest.Wait()
				l.Info("m")
			}
		}
		tick(10)
		replaceFile(t, f.config, refreshing("2 seconds", "B"))
		tick(19) // 29 s: not looked yet
		tick(3)  // seen at 30 s, and from there every 2 s
		replaceFile(t, f.config, refreshing("2 seconds", "C"))
		tick(3)
		stop()
		// From 30 s on, looks fall on even seconds.
		want := strings.Repeat("A m\n", 29) + strings.Repeat("B m\n", 4) + strings.Repeat("C m\n",
			2)
		if got := f.stdout.String(); got != want {
			t.Errorf("got %d A, %d B, %d C; want 29, 4, 2", strings.Count(got, "A"),
				strings.Count(got, "B"), strings.Count(got, "C"))
		}
		f.quiet(t)
	})
}

// TestRefreshError: a configuration with an error changes nothing, and is
// logged once; so is one that isn't there any more.
func TestRefreshError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openText(t, refreshing("1 second", "A"))
		stop := run(f)
		pause := func() { time.Sleep(10 * time.Second); synctest.Wait() }

		replaceFile(t, f.config, "root: {level: loud}\n")
		pause()
		f.Logger("server").Info("goes on")
		if err := os.Remove(f.config); err != nil {
			t.Fatal(err)
		}
		pause()
		replaceFile(t, f.config, refreshing("1 second", "B"))
		pause()
		f.Logger("server").Info("m")
		stop()

		want := `A the log configuration stays as it was err="log configuration ` + f.config +
			`: line 1: root: level: unknown level \"loud\" (off, error, warn, info, debug or trace)"` + "\n" +
			"A goes on\n" +
			`A the log configuration stays as it was err="look for changes of the log configuration: stat ` + f.config +
			`: no such file or directory"` + "\n" +
			"B m\n"
		if diff := cmp.Diff(want, f.stdout.String()); diff != "" {
			t.Error(diff)
		}
		f.quiet(t)
	})
}

// TestRefreshErrorUnheard: where no appender would take the error, it is said
// on stderr.
func TestRefreshErrorUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openText(t, "refresh_rate: 1 second\n")
		stop := run(f)
		replaceFile(t, f.config, "rooot: {}\n")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		stop()
		want := "jobserver: logging: the configuration stays as it was: log configuration " +
			f.config + `: line 1: top level: unknown key "rooot"` + "\n"
		if diff := cmp.Diff(want, f.stderr.String()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestNoRefresh: without a refresh_rate only Reload looks, and can bring one.
func TestNoRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openText(t, refreshing("", "A"))
		stop := run(f)
		step := func(config string) {
			replaceFile(t, f.config, config)
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			f.Logger("server").Info("m")
		}
		step(refreshing("1 s", "B"))
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		f.Logger("server").Info("m")
		step(refreshing("", "C"))
		step(refreshing("1 s", "D"))
		stop()
		if got, want := f.stdout.String(), "A m\nB m\nC m\nC m\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestSameTime: a change is seen although the modification time is the same.
func TestSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openText(t, refreshing("1 s", "A"))
		stop := run(f)
		info, err := os.Stat(f.config)
		if err != nil {
			t.Fatal(err)
		}
		replaceFile(t, f.config, refreshing("1 s", "B"))
		if err := os.Chtimes(f.config, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		stop()
		f.Logger("server").Info("m")
		if got, want := f.stdout.String(), "B m\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func fileConfigText(name string) string {
	return "appenders: {out: {kind: file, path: '$ENV{DIR}/" + name +
		"', append: false, encoder: {pattern: '{m}{n}'}}}\nroot: {appenders: [out]}\n"
}

// TestReopen: Reload opens the log files anew, as after logrotate, with or
// without a change or an error in the configuration. It never empties one.
func TestReopen(t *testing.T) {
	f := openText(t, fileConfigText("x.log"))
	logLines(f, "one")
	rotate := func(to string) {
		t.Helper()
		if err := os.Rename(f.path("x.log"), f.path(to)); err != nil {
			t.Fatal(err)
		}
		logLines(f, "late for "+to)
	}
	rotate("x.1")
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	logLines(f, "two")
	if err := f.Reload(); err != nil { // nothing was rotated
		t.Fatal(err)
	}
	logLines(f, "three")
	replaceFile(t, f.config, "- broken")
	rotate("x.2")
	if err := f.Reload(); err == nil || !strings.Contains(err.Error(), f.config+": line 1: ") {
		t.Errorf("error %v", err)
	}
	logLines(f, "four")
	replaceFile(t, f.config, fileConfigText("x.log")+"# changed\n")
	rotate("x.3")
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	logLines(f, "five")
	if diff := cmp.Diff(map[string]string{
		"x.1": "one\nlate for x.1\n", "x.2": "two\nthree\nlate for x.2\n",
		"x.3": "four\nlate for x.3\n", "x.log": "five\n",
	}, f.logFiles(t)); diff != "" {
		t.Error(diff)
	}
	f.quiet(t)
}

// TestReopenFails: where the path can't be opened any more, the open file
// goes on.
func TestReopenFails(t *testing.T) {
	f := openText(t, fileConfigText("d/x.log"))
	if err := os.Rename(f.path("d"), f.path("e")); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err == nil || !strings.Contains(err.Error(), "open the log: ") {
		t.Errorf("error %v", err)
	}
	logLines(f, "goes on")
	if got := f.read(t, "e/x.log"); got != "goes on\n" {
		t.Errorf("got %q", got)
	}
}

// TestReloadTriesAgain: what had to be left out is tried again by Reload,
// although the configuration is the same.
func TestReloadTriesAgain(t *testing.T) {
	f := openText(t, fileConfigText("log.yml/x"))
	dir := f.path("log.yml")
	if !strings.Contains(f.stderr.String(), "left out: ") {
		t.Fatalf("on stderr: %q", f.stderr)
	}
	// The directory is there now; the configuration moves, with its content.
	config := f.read(t, "log.yml")
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	f.opt.ConfigPath = f.path("moved.yml")
	writeFile(t, f.opt.ConfigPath, config)
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	logLines(f, "m")
	if got := readFile(t, filepath.Join(dir, "x")); got != "m\n" {
		t.Errorf("got %q", got)
	}
}

// TestChangeOfFiles: a new configuration keeps the files that it shares with
// the old one, closes the others, and empties none; a record that was on its
// way still reaches the old file.
func TestChangeOfFiles(t *testing.T) {
	two := func(a, b string) string {
		return "appenders:\n  a: {kind: file, path: '$ENV{DIR}/" + a +
			"', append: false, encoder: {pattern: '{m}{n}'}}\n" +
			"  b: {kind: file, path: '$ENV{DIR}/" + b +
			"', append: false, encoder: {pattern: '{m}{n}'}}\nroot: {appenders: [a, b]}\n"
	}
	f := openText(t, two("1", "2"))
	logLines(f, "one")
	old := f.current.Load()
	for i, config := range []string{two("2", "3"), two("1", "2")} {
		replaceFile(t, f.config, config)
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		logLines(f, []string{"two", "three"}[i])
	}
	if err := old.root.appenders[0].sink.write([]byte("late\n")); err != nil {
		t.Error(err)
	}
	if file := old.files[f.path("1")]; file == f.current.Load().files[f.path("1")] ||
		file.f != nil {
		t.Error("the old file is still open")
	}
	if diff := cmp.Diff(map[string]string{
		"1": "one\nthree\nlate\n", "2": "one\ntwo\nthree\n", "3": "two\n",
	}, f.logFiles(t)); diff != "" {
		t.Error(diff)
	}
	f.quiet(t)
}

// TestReloadPartial: at a reload, too, a wrong part is left out and the rest
// taken over.
func TestReloadPartial(t *testing.T) {
	f := openText(t, refreshing("", "A"))
	replaceFile(t, f.config,
		strings.Replace(refreshing("", "B"), "appenders: {", "appenders: {bad: {kind: none}, ", 1))
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	logLines(f, "m")
	if got := f.stdout.String(); got != "B m\n" ||
		!strings.Contains(f.stderr.String(),
			`left out: line 1: appender "bad": unknown kind "none"`) {
		t.Errorf("got %q, on stderr %q", got, f.stderr)
	}
}

// TestClosed: after Close, logging is dropped and nothing comes back.
func TestClosed(t *testing.T) {
	f := openText(t, fileConfigText("x.log"))
	l := f.Logger("server")
	l.Info("one")
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	l.Info("two")
	if err := f.Reload(); err != nil {
		t.Error(err)
	}
	l.Info("three")
	if got := f.read(t, "x.log"); got != "one\n" {
		t.Errorf("got %q", got)
	}
}

// TestDefault is logging without a configuration: info and above, on stderr
// and in the state directory, which only the user may enter.
func TestDefault(t *testing.T) {
	opt := testOptions(filepath.Join(t.TempDir(), "state"), nil)
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	emit(l.Logger("server::sched"), -4, "not this")
	emit(l.Logger("server::sched"), 0, "job started")
	emit(l.Logger("server"), 4, "careful")
	if got, want := opt.Stderr.(*buffer).String(),
		"2016-03-20 14:22:05.644 INFO  server::sched job started\n"+
			"2016-03-20 14:22:05.644 WARN  server careful\n"; got != want {
		t.Errorf("on stderr: %q, want %q", got, want)
	}
	if err := os.Rename(filepath.Join(opt.StateDir, "server.log"),
		filepath.Join(opt.StateDir, "old")); err != nil {
		t.Fatal(err)
	}
	if err := l.Reload(); err != nil {
		t.Fatal(err)
	}
	emit(l.Logger("server"), 0, "after SIGHUP")
	const place = "[2016-03-20T14:22:05.644420340-08:00 "
	if got, want := readFile(t, filepath.Join(opt.StateDir, "old")), place+
		"INFO] ???:??? server::sched job started\n"+
		place+"WARN] ???:??? server careful\n"; got != want {
		t.Errorf("in the file: %q, want %q", got, want)
	}
	if got, want := readFile(t, filepath.Join(opt.StateDir, "server.log")), place+
		"INFO] ???:??? server after SIGHUP\n"; got != want {
		t.Errorf("in the file: %q, want %q", got, want)
	}
	if info, err := os.Stat(opt.StateDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state directory: %v, %v", info.Mode(), err)
	}
}

// TestDefaultRotation fills server.log until it has rolled often enough.
func TestDefaultRotation(t *testing.T) {
	opt := testOptions(t.TempDir(), nil)
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 7 {
		emit(l.Logger("server"), 0, "opens the file")
		for _, file := range l.current.Load().files {
			file.size = 10 << 20 // as if it had grown to the limit
		}
		emit(l.Logger("server"), 0, "grows it over the limit")
	}
	names, err := filepath.Glob(filepath.Join(opt.StateDir, "server.log*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	if diff := cmp.Diff([]string{"server.log.1", "server.log.2", "server.log.3", "server.log.4",
		"server.log.5"}, names); diff != "" {
		t.Error(diff)
	}
}
