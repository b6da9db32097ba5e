package logging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

type shout string

func (s shout) LogValue() slog.Value { return slog.StringValue(strings.ToUpper(string(s))) }

type broken struct{ n int }

func (b *broken) MarshalText() ([]byte, error) { return []byte{byte(b.n)}, nil }

type unwilling struct{}

func (unwilling) MarshalText() ([]byte, error) { return nil, errors.New("no") }

// TestAttributes shows what stands after the message.
func TestAttributes(t *testing.T) {
	tests := []struct {
		attr slog.Attr
		want string
	}{
		{slog.Int("job", 17), " job=17"},
		{slog.Uint64("u", 1<<63), " u=9223372036854775808"},
		{slog.Float64("f", 0.25), " f=0.25"},
		{slog.Bool("ok", true), " ok=true"},
		{slog.Duration("d", 1500*time.Millisecond), " d=1.5s"},
		{slog.Time("t", someTime), " t=2016-03-20T14:22:05.64442034-08:00"},
		{slog.String("s", "plain"), " s=plain"},
		{slog.String("s", ""), ` s=""`},
		{slog.String("s", "two words"), ` s="two words"`},
		{slog.String("s", "a=b"), ` s="a=b"`},
		{slog.String("s", `say "x"`), ` s="say \"x\""`},
		{slog.String("s", `C:\x`), ` s="C:\\x"`},
		{slog.String("s", "häßlich"), " s=häßlich"},
		{slog.String("a key", "v"), ` "a key"=v`},
		{slog.String("", "v"), ` ""=v`},
		{slog.Any("err", errors.New("no such file")), ` err="no such file"`},
		{slog.Any("s", shout("loud")), " s=LOUD"},
		{slog.Any("b", []byte("bytes")), " b=bytes"},
		{slog.Any("nil", nil), " nil=<nil>"},
		{slog.Any("nil", (*broken)(nil)), " nil=<nil>"},
		{slog.Any("u", unwilling{}), ` u="!ERROR: no"`},
		{slog.Any("v", struct{ A int }{1}), " v={A:1}"},
		{slog.Group("g", "a", 1, slog.Group("h", "b", 2)), " g.a=1 g.h.b=2"},
		{slog.Group("", "a", 1), " a=1"},
		{slog.Group("g"), ""},
		{slog.Attr{}, ""},
	}
	for _, test := range tests {
		f := openConsole(t, "{m}")
		emit(f.Logger("server"), slog.LevelInfo, "m", test.attr)
		emit(slog.New(f.Logger("server").Handler().WithAttrs([]slog.Attr{test.attr})),
			slog.LevelInfo, "m")
		if got, want := f.stdout.String(), "m"+test.want+"m"+test.want; got != want {
			t.Errorf("%v: got %q, want %q", test.attr, got, want)
		}
	}
}

func TestAttributeOrderAndGroups(t *testing.T) {
	f := openConsole(t, "{m}{n}")
	l := f.Logger("server").With("job", 1).WithGroup("run").With("attempt", 2)
	l.Info("started", "machine", "gpu 3")
	l.WithGroup("").WithGroup("more").Info("ended", "code", 0)
	want := "started job=1 run.attempt=2 run.machine=\"gpu 3\"\nended job=1 run.attempt=2 " +
		"run.more.code=0\n"
	if got := f.stdout.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestLookUpOrder: X takes the logger's attributes first, K the record's.
func TestLookUpOrder(t *testing.T) {
	f := openConsole(t, "{X(k)} {K(k)} {X(only)} {K(mine)}")
	l := f.Logger("server").With("k", "old", "k", "logger", "mine", 1)
	emit(l, slog.LevelInfo, "m", slog.String("k", "record"), slog.Int("only", 2))
	if got, want := f.stdout.String(), "logger record 2 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNoInjection: what comes from machines and jobs can neither start a
// line nor reach the terminal, wherever it stands.
func TestNoInjection(t *testing.T) {
	evil := "a\nERROR fake\r\x1b[2J\x07\x00\x7f\u009b31m\u202egnp\xff\U000e0041\tb"
	escaped := `a\nERROR fake\r\x1b[2J\x07\x00\x7f\u009b31m\u202egnp\xff\U000e0041\tb`
	for _, encoder := range []string{"{pattern: '{m}|{t}|{X(k)}|{K(k)(d)}|{h({m}):.500}{n}'}",
		"{kind: json}"} {
		f := openWith(t, "appenders: {out: {kind: console, encoder: "+encoder+
			"}}\nroot: {appenders: [out]}\n", nil)
		l := f.Logger(evil).With("k", evil)
		l.Info(evil, evil, evil, "k", errors.New(evil))
		got := f.stdout.String()
		body := strings.TrimSuffix(got, "\n")
		if i := strings.IndexFunc(body, func(r rune) bool {
			return !unicode.IsPrint(r) ||
				r == unicode.ReplacementChar
		}); i >= 0 {
			t.Errorf("%s: not printable at %d: %q", encoder, i, got)
		}
		if strings.Contains(encoder, "{m}") && !strings.HasPrefix(got, escaped+` k="`) {
			t.Errorf("got  %s\nwant %s …", got, escaped)
		}
	}
	// Nor may an error of the logging itself, which quotes the configuration.
	f := openText(t, "appenders: {\"a\\e[2J\\nb\": {kind: console, x: 1}}\n")
	if said := f.stderr.String(); !strings.Contains(said, `\x1b[2J\nb`) &&
		!strings.Contains(said, `\\x1b[2J\\nb`) {
		t.Errorf("on stderr: %q", said)
	}
}

func TestJSONEncoder(t *testing.T) {
	f := openText(t, "appenders: {out: {kind: console, encoder: {kind: json}}}\nroot: {level: "+
		"trace, appenders: [out]}\n")
	l := f.Logger("server::sched").With("job", 17).WithGroup("g").With("s", "a \"b\"\\\n")
	emitAt(l, 0, slog.LevelWarn, "no place")
	got := f.stdout.String()
	want := fmt.Sprintf(`{"time":"2016-03-20T14:22:05.644420340-08:00","level":"WARN","message":"no place",`+
		`"target":"server::sched","thread":null,"thread_id":%s,"mdc":{"job":"17","g.s":"a \"b\"\\\n"}}`+"\n", between(got, `"thread_id":`, ","))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	f.stdout.b.Reset()
	l.Log(context.Background(), LevelTrace, "tag \U000e0041 \u009b", "n", 1, "u", uint64(2), "f",
		0.5, "nan", nan(), "b", true, "d", time.Second)
	var fields map[string]any
	if err := json.Unmarshal([]byte(f.stdout.String()), &fields); err != nil {
		t.Fatal(err)
	}
	for _, unstable := range []string{"time", "thread_id", "line"} {
		if fields[unstable] == nil {
			t.Errorf("no %s", unstable)
		}
		delete(fields, unstable)
	}
	if diff := cmp.Diff(map[string]any{
		"level": "TRACE", "message": "tag \U000e0041 \u009b", "module_path": "jobserver/logging",
		"file":   "logging/handler_test.go",
		"target": "server::sched", "thread": nil,
		"mdc": map[string]any{"job": "17", "g.s": "a \"b\"\\\n"},
		"attributes": map[string]any{"g.n": 1., "g.u": 2., "g.f": 0.5, "g.nan": "NaN", "g.b": true,
			"g.d": "1s"},
	}, fields); diff != "" {
		t.Error(diff)
	}
}

func nan() float64 { zero := 0.; return zero / zero }

// between is the text after open and before end.
func between(s, open, end string) string {
	_, s, _ = strings.Cut(s, open)
	s, _, _ = strings.Cut(s, end)
	return s
}

// TestSlogContract runs the standard library's tests of a handler on lines
// of the json encoder, whose dotted keys are put back into groups.
func TestSlogContract(t *testing.T) {
	var out *buffer
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		f := openText(t,
			"appenders: {out: {kind: console, encoder: {kind: json}}}\nroot: {appenders: [out]}\n")
		out = f.stdout
		return f.Logger("server").Handler()
	}, func(t *testing.T) map[string]any {
		var fields map[string]any
		if err := json.Unmarshal([]byte(out.String()), &fields); err != nil {
			t.Fatal(err)
		}
		result := map[string]any{slog.LevelKey: fields["level"], slog.MessageKey: fields["message"],
			slog.TimeKey: fields["time"]}
		// A log line always has a time: that of the writing, if need be.
		if fields["time"] == someTime.Format("2006-01-02T15:04:05.000000000-07:00") {
			delete(result, slog.TimeKey)
		}
		for _, part := range []string{"mdc", "attributes"} {
			attrs, _ := fields[part].(map[string]any)
			for key, v := range attrs {
				into := result
				path := strings.Split(key, ".")
				for _, group := range path[:len(path)-1] {
					if into[group] == nil {
						into[group] = map[string]any{}
					}
					into = into[group].(map[string]any)
				}
				into[path[len(path)-1]] = v
			}
		}
		return result
	})
}

// referencePattern stands in the configuration in testdata/reference.yml.
const referencePattern = "[{d} {h({l})}] {f}:{L} {m}{n}"

// openDiscard opens a Log that throws away what it has written.
func openDiscard(t testing.TB, level string) *slog.Logger {
	f := openWith(t, "appenders: {out: {kind: console, encoder: {pattern: '"+referencePattern+
		"'}}}\n"+
		"loggers: {server: {level: "+level+", appenders: [out]}}\n", func(o *Options) {
		o.Stdout = io.Discard
	})
	return f.Logger("server::sched")
}

// countAllocations gives the allocations of one debug line.
func countAllocations(t *testing.T, l *slog.Logger) float64 {
	return testing.AllocsPerRun(200, func() {
		l.LogAttrs(t.Context(), slog.LevelDebug, "job started", slog.Int("job", 17),
			slog.String("machine", "gpu3:22"))
	})
}

func TestDisabledAllocations(t *testing.T) {
	if n := countAllocations(t, openDiscard(t, "info")); n != 0 {
		t.Errorf("a disabled line allocates %v times", n)
	}
}

func BenchmarkLine(b *testing.B) {
	text := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, bench := range []struct {
		name string
		log  *slog.Logger
	}{{"disabled", openDiscard(b, "info")}, {"enabled", openDiscard(b, "debug")},
		{"slog.TextHandler", text}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			ctx := context.Background()
			l := bench.log.With("attempt", 1)
			for b.Loop() {
				l.LogAttrs(ctx, slog.LevelDebug, "job started", slog.Int("job", 17),
					slog.String("machine", "gpu3:22"))
			}
		})
	}
}
