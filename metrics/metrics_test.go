package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"jobserver/tests/budget"
)

// parse reads a page with Prometheus' own parser, and gives each sample by its name and labels.
func parse(t testing.TB, text string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "|" + l.GetName() + "=" + l.GetValue()
			}
			switch {
			case m.Counter != nil:
				got[name+" counter"] = m.Counter.GetValue()
			case m.Histogram != nil:
				got[name+" count"], got[name+" sum"] = float64(m.Histogram.GetSampleCount()),
					m.Histogram.GetSampleSum()
				for _, b := range m.Histogram.Bucket {
					got[name+" le "+number(b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			default:
				got[name] = m.Gauge.GetValue()
			}
		}
	}
	return got
}

func samplePage() *Page {
	copies := NewCounter("copies_total", "Copies by outcome.", "outcome", "class")
	copies.Add(2, "copied", "a\"b\\c\nd")
	copies.Add(1, "copied", "a\"b\\c\nd")
	copies.Add(5, "failed", "日本\xff")
	h := NewHistogram("commit_seconds", "A help with a \\ and\na second line.", []float64{0.1, 1})
	for _, v := range []float64{0.05, 0.1, 0.5, 7, math.NaN()} {
		h.Observe(v)
	}
	return &Page{
		Families: []Family{
			Gauge("up", "It is.", 1),
			copies.Family(),
			{Name: "age_seconds", Help: "Odd values.", Samples: []Sample{
				{Labels: []Label{{"class", "x"}}, Value: math.Inf(1)},
				{Labels: []Label{{"class", "b"}}, Value: 1e-9},
				{Labels: []Label{{"class", "a"}}, Value: 1 << 60}}},
			{Name: "empty", Help: "No sample."},
		},
		Histograms: []*Histogram{h},
	}
}

func TestFormat(t *testing.T) {
	var b strings.Builder
	if _, err := samplePage().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"up": 1,
		"copies_total|outcome=copied|class=a\"b\\c\nd counter": 3,
		"copies_total|outcome=failed|class=日本\uFFFD counter":   5,
		"age_seconds|class=a": 1 << 60, "age_seconds|class=b": 1e-9,
		"age_seconds|class=x":  math.Inf(1),
		"commit_seconds count": 4, "commit_seconds sum": 7.65,
		"commit_seconds le 0.1": 2, "commit_seconds le 1": 3, "commit_seconds le +Inf": 4,
	}
	if diff := cmp.Diff(want, parse(t, b.String())); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, b.String())
	}
}

func TestManySeries(t *testing.T) {
	c := NewCounter("c", "Many.", "machine")
	for i := range 3 * maxSeries {
		c.Add(1, number(float64(i)))
	}
	f := c.Family()
	if len(f.Samples) != maxSeries+1 {
		t.Errorf("%d series are kept", len(f.Samples))
	}
	sum := 0.0
	for _, s := range f.Samples {
		sum += s.Value
	}
	if sum != 3*maxSeries {
		t.Errorf("they count %g", sum)
	}
}

func TestServe(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Listen(ctx, "0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Errorf("a port alone listens at %s", addr)
	}
	var failure error
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, slog.New(slog.DiscardHandler), func(context.Context) (*Page, error) {
			return samplePage(), failure
		})
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string, status int) string {
		t.Helper()
		reply, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		body, err := io.ReadAll(reply.Body)
		if err != nil || reply.StatusCode != status {
			t.Errorf("GET %s: %s, %v", path, reply.Status, err)
		}
		if format := expfmt.ResponseFormat(reply.Header); status == 200 &&
			format.FormatType() != expfmt.TypeTextPlain {
			t.Errorf("the content type is %q", reply.Header.Get("Content-Type"))
		}
		return string(body)
	}
	if got := parse(t, get("/metrics", 200)); got["up"] != 1 {
		t.Errorf("got %v", got)
	}
	get("/other", 404)
	failure = errors.New("the daemon is stopping, with a secret path")
	if body := get("/metrics", 503); strings.Contains(body, "secret") {
		t.Errorf("the answer is %q", body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	for _, addr := range []string{"", "x", "1.2.3.4", "127.0.0.1:99999", "70000",
		"no.such.host.invalid:1"} {
		if l, err := Listen(t.Context(), addr); err == nil {
			l.Close()
			t.Errorf("%q is accepted", addr)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("class", "with \"quotes\"", 1.5)
	f.Add("\\n\n", "\xff}", math.NaN())
	f.Fuzz(func(t *testing.T, help, value string, number float64) {
		defer budget.Hold(t, 1<<20+64*(len(help)+len(value)))()
		var b strings.Builder
		p := Page{Families: []Family{{Name: "m", Help: "x" + help,
			Samples: []Sample{{Labels: []Label{{"l", value}}, Value: number}}}}}
		if _, err := p.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		got, ok := parse(t, b.String())["m|l="+strings.ToValidUTF8(value, "\uFFFD")]
		if !ok || got != number && !math.IsNaN(number) {
			t.Errorf("%q %g became %g, %v in\n%s", value, number, got, ok, b.String())
		}
	})
}
