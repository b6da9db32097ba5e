package logging

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

// TestReferenceConfiguration runs the configuration that the original's
// README recommends, unchanged but for the path of its log file.
func TestReferenceConfiguration(t *testing.T) {
	config := readFile(t, "testdata/reference.yml")
	if n := strings.Count(config, "/nobackup/scratch/jobserver.log"); n != 1 {
		t.Fatalf("the path is there %d times", n)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "made", "on", "the", "way", "jobserver.log")
	f := openText(t, strings.Replace(config, "/nobackup/scratch/jobserver.log", path, 1))
	f.quiet(t)
	if got := f.current.Load().refresh; got != 30*time.Second {
		t.Errorf("refresh rate: %v", got)
	}

	l := f.Logger("server::sched")
	l.Debug("a debug line")
	l.Info("an info line", "job", 17)
	f.Logger("expjobserver").Warn("from the old name")
	f.Logger("elsewhere").Error("not from the server")

	place := regexp.MustCompile(`\[\S+ (\w+)\] logging/config_test\.go:\d+ `)
	console := place.ReplaceAllString(f.stdout.String(), "$1 ")
	want := "DEBUG a debug line\nINFO an info line job=17\nWARN from the old name\n"
	if console != want {
		t.Errorf("on the console: %q, want %q", console, want)
	}
	file := place.ReplaceAllString(readFile(t, path), "$1 ")
	if want := "INFO an info line job=17\nWARN from the old name\n"; file != want {
		t.Errorf("in the file: %q, want %q", file, want)
	}
}

// TestLoggerTree has the cases of log4rs's own test of names and levels.
func TestLoggerTree(t *testing.T) {
	f := openText(t, `
appenders: {out: {kind: console, encoder: {pattern: "x"}}}
root: {level: debug, appenders: [out]}
loggers:
  foo::bar: {level: trace}
  foo::bar::baz: {level: off}
  foo::baz::buz: {level: ERROR}
`)
	tests := []struct {
		logger string
		level  slog.Level
		want   bool
	}{
		{"bar", slog.LevelWarn, true},
		{"bar", LevelTrace, false},
		{"foo", slog.LevelDebug, true},
		{"foo::bar", LevelTrace, true},
		{"foo::bar::baz", slog.LevelError, false},
		{"foo::bar::bazbuz", slog.LevelDebug, true},
		{"foo::bar::baz::buz", slog.LevelError, false},
		{"foo::baz::buz", slog.LevelWarn, false},
		{"foo::baz::buz::bar", slog.LevelWarn, false},
		{"foo::baz::buz::bar", slog.LevelError, true},
		{"", slog.LevelDebug, true},
		{"::", slog.LevelDebug, true},
	}
	for _, test := range tests {
		f.stdout.b.Reset()
		l := f.Logger(test.logger)
		if got := l.Enabled(t.Context(), test.level); got != test.want {
			t.Errorf("%q at %s: enabled %v, want %v", test.logger, levelName(test.level), got,
				test.want)
		}
		emit(l, test.level, "m") // even without asking
		if got := f.stdout.String() == "x"; got != test.want {
			t.Errorf("%q at %s: logged %v, want %v", test.logger, levelName(test.level), got,
				test.want)
		}
	}
}

func TestLevels(t *testing.T) {
	levels := []slog.Level{LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn,
		slog.LevelError}
	for passing, name := range []string{"Off", "error", "WARN", "Info", "debug", "trace"} {
		f := openText(t, "appenders: {out: {kind: console, encoder: {pattern: x}}}\nroot: {level: "+
			name+", appenders: [out]}\n")
		for _, level := range levels {
			emit(f.Logger("a"), level, "m")
		}
		if got := len(f.stdout.String()); got != passing {
			t.Errorf("%s lets %d of 5 levels pass, want %d", name, got, passing)
		}
	}
}

func TestRootDefaults(t *testing.T) {
	// A root that isn't there has level debug and no appenders.
	f := openText(t, "appenders: {out: {kind: console}}\nloggers: {a: {level: info}}\n")
	f.Logger("b").Error("m")
	if got := f.stdout.String(); got != "" {
		t.Errorf("got %q", got)
	}
	if got := f.current.Load().root.level; got != slog.LevelDebug {
		t.Errorf("level %v", got)
	}
}

// TestAdditivity shows which appenders a logger inherits; an appender that
// it names again gets each line twice.
func TestAdditivity(t *testing.T) {
	f := openText(t, `
appenders:
  r: {kind: console, encoder: {pattern: "r"}}
  a: {kind: console, encoder: {pattern: "a"}}
  b: {kind: console, encoder: {pattern: "b"}}
root: {appenders: [r]}
loggers:
  a::b::c: {level: info, appenders: [b]}
  a: {level: info, appenders: [a]}
  only: {level: info, appenders: [b], additive: false}
  only::child: {level: info, appenders: [a]}
  silent: {level: info, additive: false}
  twice: {level: info, appenders: [r]}
`)
	for name, want := range map[string]string{
		"x": "r", "a": "ar", "a::b": "ar", "a::b::c": "bar", "only": "b", "only::child": "ab",
		"silent": "", "twice": "rr",
	} {
		f.stdout.b.Reset()
		emit(f.Logger(name), slog.LevelInfo, "m")
		if got := f.stdout.String(); got != want {
			t.Errorf("%s goes to %q, want %q", name, got, want)
		}
	}
	f.quiet(t)
}

// TestOldName: configurations of the original name its binary.
func TestOldName(t *testing.T) {
	f := openText(t, `
appenders: {out: {kind: console, encoder: {pattern: "{t} "}}}
loggers:
  expjobserver: {level: info, appenders: [out]}
  expjobserver::sched: {level: error}
  expjobserverx: {level: off}
`)
	for _, name := range []string{"server", "server::api", "server::sched", "expjobserver"} {
		f.Logger(name).Warn("m")
	}
	if got, want := f.stdout.String(), "server server::api expjobserver "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestThresholds(t *testing.T) {
	f := openText(t, `
appenders:
  all: {kind: console, encoder: {pattern: "a"}}
  warn: {kind: console, encoder: {pattern: "w"}, filters: [{kind: threshold, level: Warn}]}
  odd:
    kind: console
    encoder: {pattern: "o"}
    filters:
      - compact:
        kind: threshold
        level: info
        whatever: [1, 2]
  both: {kind: console, encoder: {pattern: "b"}, filters: [{kind: threshold, level: debug}, {kind: threshold, level: error}]}
  never: {kind: console, encoder: {pattern: "n"}, filters: [{kind: threshold, level: off}]}
root: {level: trace, appenders: [all, warn, odd, both, never]}
`)
	for _, level := range []slog.Level{LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn,
		slog.LevelError} {
		emit(f.Logger("a"), level, "m")
	}
	if got, want := f.stdout.String(), "a"+"a"+"ao"+"awo"+"awob"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.quiet(t)
}

// TestConsole shows the targets, each line in one write, and the default
// pattern.
func TestConsole(t *testing.T) {
	f := openText(t, `
appenders:
  default: {kind: console}
  err: {kind: console, target: stderr, tty_only: false, encoder: {kind: pattern, pattern: "{l} {m}{n}"}}
  tty: {kind: console, target: stdout, tty_only: true}
root: {appenders: [default, err, tty]}
`)
	emit(f.Logger("server"), slog.LevelInfo, "one")
	emit(f.Logger("server"), slog.LevelInfo, "two")
	if got, want := f.stdout.String(), "2016-03-20T14:22:05.644420340-08:00 INFO server - one\n"+
		"2016-03-20T14:22:05.644420340-08:00 INFO server - two\n"; got != want {
		t.Errorf("on stdout: %q, want %q", got, want)
	}
	if got, want := f.stderr.String(), "INFO one\nINFO two\n"; got != want {
		t.Errorf("on stderr: %q, want %q", got, want)
	}
	if f.stdout.writes != 2 || f.stderr.writes != 2 {
		t.Errorf("%d and %d writes for 2 lines", f.stdout.writes, f.stderr.writes)
	}
}

// TestColorEnvironment shows what the environment says to colours without a
// terminal; TestTerminal has the rest.
func TestColorEnvironment(t *testing.T) {
	tests := []struct {
		env  map[string]string
		tty  bool
		want bool
	}{
		{nil, false, false},
		{nil, true, true},
		{map[string]string{"CLICOLOR_FORCE": "1"}, false, true},
		{map[string]string{"CLICOLOR_FORCE": "0"}, false, false},
		{map[string]string{"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, true, false},
		{map[string]string{"NO_COLOR": "0"}, true, true},
		{map[string]string{"CLICOLOR": "0"}, true, false},
		{map[string]string{"CLICOLOR": "1"}, true, true},
	}
	for _, test := range tests {
		c := console{tty: test.tty}
		got := c.colors(func(name string) (string, bool) { v, ok := test.env[name]; return v, ok })
		if got != test.want {
			t.Errorf("%v, terminal %v: %v, want %v", test.env, test.tty, got, test.want)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "kept.log"), "before\n")
	writeFile(t, filepath.Join(dir, "emptied.log"), "before\n")
	f := openWith(t, `
appenders:
  kept: {kind: file, path: "$ENV{LOGS}/kept.log", encoder: {pattern: "{m}{n}"}}
  emptied: {kind: file, path: "$ENV{LOGS}/emptied.log", append: false, encoder: {pattern: "{m}{n}"}}
  dated: {kind: file, path: "$ENV{LOGS}/$TIME{%Y-%m}/log-$TIME{%d}", append: true, encoder: {pattern: "{m}{n}"}}
  state: {kind: file, path: "$ENV{JOBSERVER_STATE}/state.log", encoder: {pattern: "{m}{n}"}}
root: {appenders: [kept, emptied, dated, state]}
`, func(o *Options) {
		o.LookupEnv = func(name string) (string, bool) { return dir, name == "LOGS" }
	})
	f.Logger("server").Info("after")
	for name, want := range map[string]string{
		filepath.Join(dir, "kept.log"):          "before\nafter\n",
		filepath.Join(dir, "emptied.log"):       "after\n",
		filepath.Join(dir, "2016-03", "log-20"): "after\n",
		f.path("state.log"):                     "after\n",
	} {
		if got := readFile(t, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	f.quiet(t)
}

// TestSharedFile: appenders that name the same file share it.
func TestSharedFile(t *testing.T) {
	f := openText(t, `
appenders:
  a: {kind: file, path: "$ENV{DIR}/x.log", encoder: {pattern: "a {m}{n}"}}
  b: {kind: rolling_file, path: "$ENV{DIR}/sub/../x.log", encoder: {pattern: "b {m}{n}"}, policy: {trigger: {kind: size, limit: 1 kb}, roller: {kind: delete}}}
root: {appenders: [a, b]}
`)
	f.Logger("server").Info("m")
	if got, want := f.read(t, "x.log"), "a m\nb m\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := len(f.current.Load().files); n != 1 {
		t.Errorf("%d files are open", n)
	}
}

// TestBadConfiguration has the errors of a whole file: each says the line.
func TestBadConfiguration(t *testing.T) {
	tests := []struct{ config, want string }{
		{"", "the file is empty"},
		{"# only a comment\n", "the file is empty"},
		{"root:\n  level: info\n levle: x\n", "line 2: did not find expected key"},
		{"- a\n", "line 1: top level: expected a mapping"},
		{"root: {}\n---\nroot: {}\n", "line 2: only one document is allowed"},
		{"rooot: {}\n", `line 1: top level: unknown key "rooot"`},
		{"refresh_rate: 30\n",
			`line 1: top level: refresh_rate: "30" needs a unit such as seconds, m or 2h`},
		{"refresh_rate: [a]\n", "line 1: top level: refresh_rate has to be a single value"},
		{"root: 1\n", "line 1: root: expected a mapping"},
		{"root: {level: loud}\n",
			`line 1: root: level: unknown level "loud" (off, error, warn, info, debug or trace)`},
		{"root: {additive: true}\n", `line 1: root: unknown key "additive"`},
		{"root: {appenders: a}\n", "line 1: root: appenders has to be a list"},
		{"root: {appenders: [[a]]}\n", "line 1: root: appenders has to be a list of names"},
		{"root: {}\nroot: {}\n", `line 2: top level: key "root" is there twice`},
		{"[a]: 1\n", "line 1: top level: a key has to be a word"},
		{"loggers:\n  a: {appenders: []}\n", `line 2: logger "a": level is missing`},
		{"loggers:\n  a: {level: info, levle: 1}\n", `line 2: logger "a": unknown key "levle"`},
		{"loggers:\n  a: {level: info, additive: yes}\n",
			`line 2: logger "a": additive: expected true or false, not "yes"`},
		{"loggers: [a]\n", "line 1: loggers: expected a mapping"},
		{"loggers:\n  a: info\n", `line 2: logger "a": expected a mapping`},
		{"appenders:\n  a: {path: x}\n", `line 2: appender "a": kind is missing`},
		{"appenders:\n  a: {kind: [x]}\n", `line 2: appender "a": kind has to be a string`},
		{"appenders:\n  a: {kind: console, filters: {}}\n",
			`line 2: appender "a": filters has to be a list`},
		{"appenders:\n  a: {kind: console, filters: [x]}\n",
			`line 2: filter of appender "a": expected a mapping`},
		{"appenders:\n  a: {kind: console, filters: [{level: info}]}\n",
			`line 2: filter of appender "a": kind is missing`},
		{"appenders:\n  a:\n", `line 2: appender "a": expected a mapping`},
	}
	for _, test := range tests {
		opt := testOptions(t.TempDir(), nil)
		opt.ConfigPath = filepath.Join(opt.StateDir, "log.yml")
		writeFile(t, opt.ConfigPath, test.config)
		_, err := Open(opt)
		want := fmt.Sprintf("log configuration %s: %s; correct it, or start without a log "+
			"configuration to log to stderr and %s/server.log",
			opt.ConfigPath, test.want, opt.StateDir)
		if err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", test.config, err, want)
		}
	}
}

func TestMissingConfiguration(t *testing.T) {
	opt := testOptions(t.TempDir(), nil)
	opt.ConfigPath = filepath.Join(opt.StateDir, "none.yml")
	if _, err := Open(opt); !os.IsNotExist(unwrapAll(err)) ||
		!strings.Contains(err.Error(), "start without") {
		t.Errorf("got %v", err)
	}
	writeFile(t, opt.ConfigPath, "# "+strings.Repeat("x", maxConfigSize))
	if _, err := Open(opt); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
	if _, err := Open(Options{}); err == nil {
		t.Error("opened from nothing")
	}
}

func unwrapAll(err error) error {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = inner.Unwrap()
	}
}

// TestLeftOut has the errors that cost a part of the configuration: they are
// said on stderr, the part is left out, and the appender "ok" goes on.
func TestLeftOut(t *testing.T) {
	rolling := func(policy string) string {
		return "{kind: rolling_file, path: $ENV{DIR}/x, policy: " + policy + "}"
	}
	roller := func(roller string) string {
		return rolling("{trigger: {kind: size, limit: 1}, roller: " + roller + "}")
	}
	trigger := func(trigger string) string {
		return rolling("{trigger: " + trigger + ", roller: {kind: delete}}")
	}
	tests := []struct{ appender, want string }{
		{"{kind: syslog}", `appender "bad": unknown kind "syslog" (console, file or rolling_file)`},
		{"{kind: console, colour: red}", `appender "bad": unknown key "colour"`},
		{"{kind: console, target: stdlog}",
			`appender "bad": target: unknown target "stdlog" (stdout or stderr)`},
		{"{kind: console, tty_only: 1}",
			`appender "bad": tty_only: expected true or false, not "1"`},
		{"{kind: console, encoder: x}", `encoder of appender "bad": expected a mapping`},
		{"{kind: console, encoder: {kind: xml}}",
			`encoder of appender "bad": unknown kind "xml" (pattern or json)`},
		{"{kind: console, encoder: {patern: x}}",
			`encoder of appender "bad": unknown key "patern"`},
		{"{kind: console, encoder: {kind: json, pattern: x}}",
			`encoder of appender "bad": unknown key "pattern"`},
		{"{kind: file}", `appender "bad": path is missing`},
		{"{kind: file, path: $ENV{DIR}/x, apend: true}", `appender "bad": unknown key "apend"`},
		{"{kind: file, path: $ENV{DIR}/x, append: maybe}",
			`appender "bad": append: expected true or false, not "maybe"`},
		{"{kind: file, path: \"$ENV{DIR}/$TIME{%Q}\"}",
			"appender \"bad\": path: unknown date specifier `%Q`"},
		{"{kind: file, path: $ENV{DIR}}", `appender "bad": open the log: open `},
		{"{kind: file, path: $ENV{DIR}/log.yml/x}",
			`appender "bad": make the directory of the log: mkdir `},
		{"{kind: rolling_file, path: $ENV{DIR}/x}", `appender "bad": policy is missing`},
		{rolling("{kind: simple}"), `policy of appender "bad": unknown kind "simple" (compound)`},
		{rolling("{trigger: {kind: size, limit: 1}}"),
			`policy of appender "bad": roller is missing`},
		{rolling("{roller: {kind: delete}}"), `policy of appender "bad": trigger is missing`},
		{rolling("{trigger: {kind: size, limit: 1}, roller: {kind: delete}, x: 1}"),
			`policy of appender "bad": unknown key "x"`},
		{trigger("{limit: 1}"), `trigger of policy of appender "bad": kind is missing`},
		{trigger("{kind: daily}"),
			`trigger of policy of appender "bad": unknown kind "daily" (size, time or onstartup)`},
		{trigger("{kind: size}"), `trigger of policy of appender "bad": limit is missing`},
		{trigger("{kind: size, limit: -1}"),
			`trigger of policy of appender "bad": limit: expected a number, not "-1"`},
		{trigger("{kind: size, limit: 1, x: 1}"),
			`trigger of policy of appender "bad": unknown key "x"`},
		{trigger("{kind: time}"), `trigger of policy of appender "bad": interval is missing`},
		{trigger("{kind: time, interval: 5 das}"),
			`trigger of policy of appender "bad": interval: unknown unit "das"`},
		{trigger("{kind: time, interval: 1 day, modulate: 2}"),
			`modulate: expected true or false, not "2"`},
		{trigger("{kind: time, interval: 1 day, max_random_delay: -2}"),
			`max_random_delay: "-2" is out of range`},
		{trigger("{kind: onstartup, min_size: 1 kb}"),
			`min_size: expected a whole number, not "1 kb"`},
		{roller("{kind: keep}"),
			`roller of policy of appender "bad": unknown kind "keep" (delete or fixed_window)`},
		{roller("{kind: delete, count: 1}"),
			`roller of policy of appender "bad": unknown key "count"`},
		{roller("{kind: fixed_window, count: 1}"), `pattern is missing`},
		{roller("{kind: fixed_window, pattern: x, count: 1}"),
			`pattern: "x" has no {} for the number`},
		{roller("{kind: fixed_window, pattern: \"x{}.zst\", count: 1}"),
			`archives can be compressed with gzip`},
		{roller("{kind: fixed_window, pattern: \"x{}\"}"), `count is missing`},
		{roller("{kind: fixed_window, pattern: \"x{}\", count: many}"),
			`count: expected a whole number, not "many"`},
		{roller("{kind: fixed_window, pattern: \"x{}\", count: 1, base: -1}"),
			`base: "-1" is out of range`},
		{roller("{kind: fixed_window, pattern: \"x{}\", count: 4294967295, base: 4294967295}"),
			`base and count are too large`},
	}
	for _, test := range tests {
		f := openText(t, "appenders:\n  ok: {kind: console, encoder: {pattern: \"{m}\"}}\n  bad: "+
			quoteEnv(test.appender)+"\nroot: {appenders: [ok, bad]}\n")
		f.Logger("server").Info("goes on")
		if got := f.stdout.String(); got != "goes on" {
			t.Errorf("%s: logged %q", test.appender, got)
		}
		said := f.stderr.String()
		if !strings.HasPrefix(said, "jobserver: logging: left out: line 3: ") ||
			!strings.Contains(said, test.want) {
			t.Errorf("%s:\ngot  %swant %s", test.appender, said, test.want)
		}
		if !strings.Contains(said, `line 4: logger "root": there is no appender "bad"`) {
			t.Errorf("%s: nothing about the logger: %s", test.appender, said)
		}
	}
}

// quoteEnv quotes the paths, because braces mean something to YAML.
func quoteEnv(s string) string {
	return regexp.MustCompile(`path: (\$ENV\{DIR\}[\w./]*)`).ReplaceAllString(s, `path: "$1"`)
}

// TestFilterLeftOut: an appender goes on without a filter that can't be used.
func TestFilterLeftOut(t *testing.T) {
	for filter, want := range map[string]string{
		"{kind: regex}":                   `unknown kind "regex" (threshold)`,
		"{kind: threshold}":               "level is missing",
		"{kind: threshold, level: quiet}": `unknown level "quiet"`,
	} {
		f := openText(t, "appenders: {out: {kind: console, encoder: {pattern: x}, filters: ["+
			filter+"]}}\nroot: {appenders: [out]}\n")
		f.Logger("server").Debug("m")
		if got, said := f.stdout.String(), f.stderr.String(); got != "x" ||
			!strings.Contains(said, want) {
			t.Errorf("%s: %q, on stderr: %q", filter, got, said)
		}
	}
}

func TestLoggerLeftOut(t *testing.T) {
	for config, want := range map[string]string{
		`{"": {level: off}}`:                                  `invalid logger name ""`,
		`{"::": {level: off}}`:                                `invalid logger name "::"`,
		`{"a::": {level: off}}`:                               `invalid logger name "a::"`,
		`{"a:b": {level: off}}`:                               `invalid logger name "a:b"`,
		`{"a:::b": {level: off}}`:                             `invalid logger name "a:::b"`,
		`{server: {level: info}, expjobserver: {level: off}}`: `logger "server" is there twice`,
		`{a: {level: info, appenders: [none]}}`:               `logger "a": there is no appender "none"`,
	} {
		f := openText(t, "appenders: {out: {kind: console, encoder: {pattern: x}}}\nroot: "+
			"{appenders: [out]}\nloggers: "+config+"\n")
		for _, name := range []string{"a", "server"} {
			f.Logger(name).Info("m")
		}
		if got, said := f.stdout.String(), f.stderr.String(); got != "xx" ||
			!strings.Contains(said, "left out: line 3: "+want) {
			t.Errorf("%s: %q, on stderr: %q", config, got, said)
		}
	}
}

// TestYAML shows that anchors work, and that null stands for what isn't there.
func TestYAML(t *testing.T) {
	f := openText(t, `
refresh_rate: ~
appenders:
  out: {kind: console, encoder: &plain {pattern: "{m}"}, filters: ~}
  err: {kind: console, target: stderr, encoder: *plain}
  dflt: {kind: console, target: null, encoder: {kind: ~, pattern: "{l}"}}
root: {appenders: [out, err, dflt]}
loggers:
`)
	f.Logger("server").Info("m")
	if diff := cmp.Diff([]string{"mINFO", "m"},
		[]string{f.stdout.String(), f.stderr.String()}); diff != "" {
		t.Error(diff)
	}
}

func FuzzConfig(f *testing.F) {
	for _, name := range []string{"testdata/reference.yml", "default.yml", "../example.log.yml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("appenders: {a: &a {kind: console, filters: [*a]}}\nloggers: {a::b: {level: off, " +
		"appenders: [a], additive: false}}\n")
	f.Add("appenders: {a: {kind: rolling_file, path: x, policy: {trigger: {kind: time, interval: " +
		"1 day}, roller: {kind: fixed_window, pattern: 'x{}.gz', count: 2}}}}")
	f.Fuzz(func(t *testing.T, text string) {
		defer budget.Hold(t, 1<<20+64*len(text))()
		conf, err := parseConfig([]byte(text))
		if err != nil {
			return
		}
		// Every path leads into a directory that doesn't exist, so that
		// nothing is made; all else is built.
		opt := testOptions(t.TempDir(), nil)
		writeFile(t, filepath.Join(opt.StateDir, "file"), "")
		l := &Log{opt: opt, stdout: newConsole(opt.Stdout), stderr: newConsole(opt.Stderr),
			known: map[string]bool{}}
		l.current.Store(emptyConfig())
		for i := range conf.appenders {
			for j, f := range conf.appenders[i].body.left {
				if f.key == "path" {
					conf.appenders[i].body.left[j].value.Value = filepath.Join(opt.StateDir, "file",
						"x")
				}
			}
		}
		built := l.build(conf)
		for _, lc := range conf.loggers {
			built.find(lc.name)
		}
	})
}
