package logging

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a console that remembers, and counts its writes.
type buffer struct {
	mu     sync.Mutex
	b      bytes.Buffer
	writes int
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// fixture is a Log with consoles that remember, in a directory of its own, to
// which $ENV{DIR} in a configuration points.
type fixture struct {
	*Log
	dir            string
	config         string
	stdout, stderr *buffer
}

// someTime has all digits different, in a zone that isn't UTC.
var someTime = time.Date(2016, 3, 20, 14, 22, 5, 644_420_340, time.FixedZone("", -8*3600))

func testOptions(dir string, env map[string]string) Options {
	return Options{
		StateDir: dir, Stdout: &buffer{}, Stderr: &buffer{},
		Now:      func() time.Time { return someTime },
		Location: someTime.Location(),
		LookupEnv: func(name string) (string, bool) {
			if name == "DIR" {
				return dir, true
			}
			v, ok := env[name]
			return v, ok
		},
	}
}

// openText opens a Log with the given configuration, and closes it at the
// test's end.
func openText(t testing.TB, config string) *fixture {
	t.Helper()
	return openWith(t, config, nil)
}

func openWith(t testing.TB, config string, change func(*Options)) *fixture {
	t.Helper()
	dir := t.TempDir()
	opt := testOptions(dir, nil)
	opt.ConfigPath = filepath.Join(dir, "log.yml")
	writeFile(t, opt.ConfigPath, config)
	if change != nil {
		change(&opt)
	}
	l, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{Log: l, dir: dir, config: opt.ConfigPath}
	f.stdout, _ = opt.Stdout.(*buffer)
	f.stderr, _ = opt.Stderr.(*buffer)
	return f
}

// openConsole opens a Log that writes everything to stdout with a pattern.
func openConsole(t testing.TB, pattern string) *fixture {
	t.Helper()
	return openText(t, consoleConfig(pattern))
}

func consoleConfig(pattern string) string {
	return "appenders: {out: {kind: console, encoder: {pattern: '" +
		strings.ReplaceAll(pattern, "'", "''") + "'}}}\n" +
		"root: {level: trace, appenders: [out]}\n"
}

// path gives the path of a file in the fixture's directory.
func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fixture) read(t testing.TB, name string) string {
	t.Helper()
	return readFile(t, f.path(name))
}

// quiet fails the test if something was said on stderr.
func (f *fixture) quiet(t testing.TB) {
	t.Helper()
	if s := f.stderr.String(); s != "" {
		t.Errorf("on stderr: %s", s)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replaceFile puts a new file in the place of an old one, as editors do.
func replaceFile(t testing.TB, path, text string) {
	t.Helper()
	writeFile(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// emit hands a record with a fixed time to the logger.
func emit(l *slog.Logger, level slog.Level, message string, attrs ...slog.Attr) {
	emitAt(l, 0, level, message, attrs...)
}

func emitAt(l *slog.Logger, pc uintptr, level slog.Level, message string, attrs ...slog.Attr) {
	r := slog.NewRecord(someTime, level, message, pc)
	r.AddAttrs(attrs...)
	_ = l.Handler().Handle(context.Background(), r) // is always nil
}
