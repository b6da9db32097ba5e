package logging

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"jobserver/tests/budget"
)

// TestFormatters is the golden output of every formatter, by each of its
// names.
func TestFormatters(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	pc, _, line, _ := runtime.Caller(0)
	line2 := strconv.Itoa(line)
	tests := []struct{ pattern, want string }{
		{"{d}", "2016-03-20T14:22:05.644420340-08:00"},
		{"{date}", "2016-03-20T14:22:05.644420340-08:00"},
		{"{d(%+)(utc)}", "2016-03-20T22:22:05.644420340+00:00"},
		{"{d(%Y-%m-%d %H:%M:%S)}", "2016-03-20 14:22:05"},
		{"{d(%Y-%m-%d %H:%M:%S)(local)}", "2016-03-20 14:22:05"},
		{"{d(%Y-%m-%d %H:%M:%S %Z)(utc)}", "2016-03-20 22:22:05 UTC"},
		{"{d(%H:%M:%S%.3f):>15}", "   14:22:05.644"},
		{"{l}", "WARN"},
		{"{level}", "WARN"},
		{"{m}", "the message job=17 name=x"},
		{"{message}", "the message job=17 name=x"},
		{"{M}", "jobserver/logging"},
		{"{module}", "jobserver/logging"},
		{"{f}", "logging/pattern_test.go"},
		{"{file}", "logging/pattern_test.go"},
		{"{L}", line2},
		{"{line}", line2},
		{"{t}", "server::sched"},
		{"{target}", "server::sched"},
		{"{T}", "unnamed"},
		{"{thread}", "unnamed"},
		{"{P}", pid},
		{"{pid}", pid},
		{"a{n}b", "a\nb"},
		{"{h({l})}", "WARN"}, // stdout is no terminal here
		{"{highlight({l} {t})}", "WARN server::sched"},
		{"{D(debug)}{R(release)}", "release"},
		{"{debug(debug)}{release({l})}", "WARN"},
		{"{X(job)}", "17"},
		{"{mdc(job)(none)}", "17"},
		{"{X(name)}", "x"},
		{"{X(other)(no mapping)}", "no mapping"},
		{"[{X(other)}]", "[]"},
		{"{K(name)}", "x"},
		{"{key_value(name)(none)}", "x"},
		{"{K(job)}", "17"},
		{"{K(other)(none)}", "none"},
		{"{({l} {t})}", "WARN server::sched"},
		{"{({l} {({t}):.6}):>20}", "         WARN server"},

		// Doubled and escaped special characters.
		{"{{{l}(())}}", "{WARN()}"},
		{`\{\({l}\)\}\\`, `{(WARN)}\`},
		{"ü{l}ß", "üWARNß"},
	}
	for _, test := range tests {
		t.Run(test.pattern, func(t *testing.T) {
			f := openConsole(t, test.pattern)
			l := f.Logger("server::sched").With("job", 17)
			emitAt(l, pc, slog.LevelWarn, "the message", slog.String("name", "x"))
			if got := f.stdout.String(); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			f.quiet(t)
		})
	}
}

func TestThreadFormatters(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, pattern := range []string{"{i}", "{tid}", "{I}", "{thread_id}"} {
		f := openConsole(t, pattern)
		emit(f.Logger("server"), slog.LevelInfo, "m")
		if got, want := f.stdout.String(), strconv.Itoa(threadID()); got != want {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
}

// TestUnknownPlace shows a record that doesn't know where it was made.
func TestUnknownPlace(t *testing.T) {
	f := openConsole(t, "{f} {L} {M}")
	emit(f.Logger("server"), slog.LevelInfo, "m")
	if got, want := f.stdout.String(), "??? ??? ???"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFormatSpecs(t *testing.T) {
	tests := []struct{ pattern, message, want string }{
		{"{m:5}|", "foo", "foo  |"},
		{"{m:<5}|", "foo", "foo  |"},
		{"{m:>5}|", "foo", "  foo|"},
		{"{m:~<5.6}", "foo", "foo~~"},
		{"{m:~<5.6}", "foobar!", "foobar"},
		{"{m:~>5.6}", "foo", "~~foo"},
		{"{m:~>5.6}", "foobar!", "foobar"},
		{"{m:.3}", "foobar", "foo"},
		{"{m:.0}|", "foobar", "|"},
		{"{m:0}|", "foobar", "foobar|"},
		{"{m:>10.15}", "hello", "     hello"},
		{"{m:>10.15}", "hello there, world!", "hello there, wo"},
		{"{({l} {m}):15.15}|", "hello", "INFO hello     |"},
		{"{({l} {m}):15.15}|", "hello, world!", "INFO hello, wor|"},
		{"{({l} {m}):>15}", "foobar!", "   INFO foobar!"},
		{"{m:<<4}", "ab", "ab<<"},
		{"{m:é>4}", "äö", "ééäö"},
		{"{m:.2}", "äöü", "äö"},
		{"{m:}", "foo", "foo"},
		{"{m:.}", "foo", "foo"},
	}
	for _, test := range tests {
		f := openConsole(t, test.pattern)
		emit(f.Logger("server"), slog.LevelInfo, test.message)
		if got := f.stdout.String(); got != test.want {
			t.Errorf("%s with %q: got %q, want %q", test.pattern, test.message, got, test.want)
		}
	}
}

// TestHighlight shows the colours, byte for byte as log4rs writes them, and
// that they count for no width.
func TestHighlight(t *testing.T) {
	tests := []struct {
		pattern string
		level   slog.Level
		want    string
	}{
		{"{h({l})}", slog.LevelError, "\x1b[0;31;1mERROR\x1b[0m"},
		{"{h({l})}", slog.LevelWarn, "\x1b[0;33mWARN\x1b[0m"},
		{"{h({l})}", slog.LevelInfo, "\x1b[0;32mINFO\x1b[0m"},
		{"{h({l})}", slog.LevelDebug, "DEBUG"},
		{"{h({l})}", LevelTrace, "\x1b[0;36mTRACE\x1b[0m"},
		{"{h({l}):>6}|", slog.LevelInfo, "  \x1b[0;32mINFO\x1b[0m|"},
		{"{h({l}):6}|", slog.LevelInfo, "\x1b[0;32mINFO\x1b[0m  |"},
		{"{h({l}):.2}|", slog.LevelInfo, "\x1b[0;32mIN\x1b[0m|"},
		{"{h({l}):.0}|", slog.LevelInfo, "\x1b[0;32m\x1b[0m|"},
	}
	for _, test := range tests {
		f := openWith(t, consoleConfig(test.pattern), func(o *Options) {
			o.LookupEnv = func(name string) (string, bool) { return "1", name == "CLICOLOR_FORCE" }
		})
		emit(f.Logger("server"), test.level, "m")
		if got := f.stdout.String(); got != test.want {
			t.Errorf("%s at %v: got %q, want %q", test.pattern, test.level, got, test.want)
		}
	}
}

func TestLevelNames(t *testing.T) {
	want := map[slog.Level]string{
		-100: "TRACE", LevelTrace: "TRACE", -5: "TRACE", slog.LevelDebug: "DEBUG", -1: "DEBUG",
		slog.LevelInfo: "INFO", 3: "INFO", slog.LevelWarn: "WARN", 7: "WARN",
		slog.LevelError: "ERROR", 12: "ERROR",
	}
	for level, name := range want {
		if got := levelName(level); got != name {
			t.Errorf("level %d: got %s, want %s", level, got, name)
		}
	}
}

// TestPatternErrors shows that a mistake is printed in its place, and also
// said on stderr.
func TestPatternErrors(t *testing.T) {
	tests := []struct{ pattern, want string }{
		{"a {x} b", "a {ERROR: unknown formatter `x`} b"},
		{"{l(x)}", "{ERROR: unexpected arguments}"},
		{"{d(%Y)(utc)(x)}", "{ERROR: expected at most two arguments}"},
		{"{d(%Y)(mars)}", "{ERROR: invalid timezone `mars`}"},
		{"{d(%Y)()}", "{ERROR: invalid timezone}"},
		{"{d(%Q)}", "{ERROR: unknown date specifier `%Q`}"},
		{"{d({l})}", "{ERROR: unexpected formatter in a date format}"},
		{"{d(%Y-%m-%d)", "{ERROR: expected '}'}"},
		{"{d(%Y-%m-%d", "{ERROR: expected '}'}"},
		{"{h}", "{ERROR: expected exactly one argument}"},
		{"{R(a)(b)}", "{ERROR: expected exactly one argument}"},
		{"{}", "{ERROR: expected exactly one argument}"},
		{"{X}", "{ERROR: missing MDC key}"},
		{"{X()}", "{ERROR: invalid MDC key}"},
		{"{X({l})}", "{ERROR: invalid MDC key}"},
		{"{X(a)({l})}", "{ERROR: invalid MDC default}"},
		{"{X(a)(b)(c)}", "{ERROR: expected at most two arguments}"},
		{"{K}", "{ERROR: missing key_value key}"},
		{"{K()}", "{ERROR: invalid key_value key}"},
		{"a}b", "a{ERROR: unmatched '}'}b"},
		{"(hi)", "{ERROR: unexpected '('}hi{ERROR: unexpected ')'}"},
		{`\n`, `{ERROR: unexpected '\'}n`},
		{"{h({x})}", "{ERROR: unknown formatter `x`}"},
		{"{m:99999}", "{ERROR: width over 10000}"},
		{"{m", "{ERROR: expected '}'}"},
		{strings.Repeat("{(", 51), "{ERROR: expected '}'}"},
	}
	for _, test := range tests {
		f := openConsole(t, test.pattern)
		emit(f.Logger("server"), slog.LevelInfo, "m")
		if got := f.stdout.String(); got != test.want {
			t.Errorf("%s: got %q, want %q", test.pattern, got, test.want)
		}
		if said := f.stderr.String(); !strings.Contains(said, "pattern: ") ||
			!strings.Contains(said, "line 1") {
			t.Errorf("%s: on stderr: %q", test.pattern, said)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{
		defaultPattern, "[{d} {h({l})}] {f}:{L} {m}{n}",
		"{d(%Y-%m-%dT%H:%M:%S%.6f)} {h({l}):<5.5} {M}",
		"{({l} {m}):~>15.15}", `\{{{}}((`, "{X(a)(b)}{K(c)}", "{d(%:::z)(utc)", "{m:é<5.6}",
	} {
		f.Add(s)
	}
	ev := event{time: someTime, level: slog.LevelInfo, name: "server", message: "m"}
	f.Fuzz(func(t *testing.T, s string) {
		defer budget.Hold(t, 1<<20+64*len(s))()
		p, problems := newPattern(s, time.UTC)
		line := p.append(nil, &ev, true)
		if strings.Contains(string(line), "{ERROR: ") && len(problems) == 0 &&
			!strings.Contains(s, "ERROR") {
			t.Errorf("%q prints %q and reports nothing", s, line)
		}
		if utf8.ValidString(s) && !utf8.Valid(line) {
			t.Errorf("%q prints invalid UTF-8: %q", s, line)
		}
		// A pattern that is escaped prints itself.
		quoted := strings.NewReplacer("{", "{{", "}", "}}", "(", `\(`, ")", "))", `\`, `\\`).
			Replace(s)
		p, _ = newPattern(quoted, time.UTC)
		if got := string(p.append(nil, &ev, true)); got != s {
			t.Errorf("%q prints %q, not %q", quoted, got, s)
		}
	})
}

func BenchmarkPattern(b *testing.B) {
	ev := event{time: someTime, level: slog.LevelInfo, name: "server", message: "m",
		source: source{file: "a.go", line: 7}}
	for _, s := range []string{"{d}", "{l}", "{m}", "{f}:{L}", "{h({l}):>6}"} {
		p, _ := newPattern(s, time.UTC)
		b.Run(fmt.Sprint(s), func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = p.append(buf[:0], &ev, false)
			}
		})
	}
}
