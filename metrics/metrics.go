// Package metrics serves numbers in Prometheus' text format, version 0.0.4:
// https://prometheus.io/docs/instrumenting/exposition_formats/.
//
// Counters and histograms collect what happens, from any goroutine; gauges are made when somebody
// asks. A Page puts both in one reply, families by name and samples by labels, so that two replies
// can be compared.
package metrics

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Label is a name and a value of a sample.
type Label struct{ Name, Value string }

// Sample is one number of a family.
type Sample struct {
	Labels []Label
	Value  float64
}

// Family is a gauge or a counter, with all its samples.
type Family struct {
	Name, Help string
	Counter    bool // else a gauge
	Samples    []Sample
}

// Gauge is a family of one sample without labels.
func Gauge(name, help string, value float64) Family {
	return Family{Name: name, Help: help, Samples: []Sample{{Value: value}}}
}

// Counter counts by the values of its labels. It is made with NewCounter.
type Counter struct {
	name, help string
	labels     []string

	mu     sync.Mutex
	counts map[string]float64  // guarded by mu, as is values; by the joined values
	values map[string][]string // of the labels
}

// maxSeries bounds the samples of one counter: what comes beyond is counted under values of
// "other".
const maxSeries = 1000

// NewCounter makes a counter with labels of these names.
func NewCounter(name, help string, labels ...string) *Counter {
	return &Counter{name: name, help: help, labels: labels, counts: map[string]float64{},
		values: map[string][]string{}}
}

// Add counts n, of which there are as many label values as the counter has names.
func (c *Counter) Add(n float64, values ...string) {
	if len(values) != len(c.labels) || n < 0 {
		panic(fmt.Sprintf("metrics: counter %s takes %d labels and never falls", c.name,
			len(c.labels)))
	}
	key := strings.Join(values, "\xff")
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.counts[key]; !known {
		if len(c.counts) >= maxSeries {
			values = slices.Repeat([]string{"other"}, len(values))
			key = strings.Join(values, "\xff")
		}
		c.values[key] = slices.Clone(values)
	}
	c.counts[key] += n
}

// Family gives what the counter has at present.
func (c *Counter) Family() Family {
	f := Family{Name: c.name, Help: c.help, Counter: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(c.counts)) {
		s := Sample{Value: c.counts[key]}
		for i, value := range c.values[key] {
			s.Labels = append(s.Labels, Label{c.labels[i], value})
		}
		f.Samples = append(f.Samples, s)
	}
	return f
}

// Histogram counts observations by size. It is made with NewHistogram.
type Histogram struct {
	name, help string
	bounds     []float64

	mu sync.Mutex
	// guarded by mu, as are all below; not cumulative, the last is for what exceeds all bounds
	buckets []uint64
	sum     float64
}

// Seconds are bounds for durations from 100 µs to 5 min.
func Seconds() []float64 {
	return []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
		0.5, 1, 2.5, 5, 10, 30, 60, 300}
}

// NewHistogram makes a histogram with these upper bounds, ascending; +Inf follows by itself.
func NewHistogram(name, help string, bounds []float64) *Histogram {
	return &Histogram{name: name, help: help, bounds: bounds,
		buckets: make([]uint64, len(bounds)+1)}
}

// Observe counts a value. NaN is ignored.
func (h *Histogram) Observe(v float64) {
	if math.IsNaN(v) {
		return
	}
	i, _ := slices.BinarySearch(h.bounds, v) // le: a bound belongs to its own bucket
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buckets[i]++
	h.sum += v
}

// Page is one reply.
type Page struct {
	Families   []Family
	Histograms []*Histogram
}

// WriteTo writes the page.
func (p *Page) WriteTo(w io.Writer) (int64, error) {
	type part struct{ name, text string }
	var parts []part
	for i := range p.Families {
		parts = append(parts, part{p.Families[i].Name, p.Families[i].text()})
	}
	for _, h := range p.Histograms {
		parts = append(parts, part{h.name, h.text()})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.name, b.name) })
	var all strings.Builder
	for _, part := range parts {
		all.WriteString(part.text)
	}
	n, err := io.WriteString(w, all.String())
	return int64(n), err
}

func header(b *strings.Builder, name, help, kind string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, strings.NewReplacer(`\`, `\\`, "\n", `\n`).
		Replace(help), name, kind)
}

func (f *Family) text() string {
	var b strings.Builder
	kind := "gauge"
	if f.Counter {
		kind = "counter"
	}
	header(&b, f.Name, f.Help, kind)
	lines := make([]string, len(f.Samples))
	for i, s := range f.Samples {
		lines[i] = f.Name + labels(s.Labels) + " " + number(s.Value) + "\n"
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	return b.String()
}

func (h *Histogram) text() string {
	var b strings.Builder
	header(&b, h.name, h.help, "histogram")
	h.mu.Lock()
	defer h.mu.Unlock()
	var below uint64
	for i, n := range h.buckets {
		below += n
		bound := math.Inf(1)
		if i < len(h.bounds) {
			bound = h.bounds[i]
		}
		fmt.Fprintf(&b, "%s_bucket{le=%q} %d\n", h.name, number(bound), below)
	}
	fmt.Fprintf(&b, "%s_sum %s\n%s_count %d\n", h.name, number(h.sum), h.name, below)
	return b.String()
}

func labels(list []Label) string {
	if len(list) == 0 {
		return ""
	}
	parts := make([]string, len(list))
	for i, l := range list {
		parts[i] = l.Name + `="` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).
			Replace(strings.ToValidUTF8(l.Value, "\uFFFD")) + `"`
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// number is a value as the format has it: +Inf, -Inf and NaN are spelt as Go's ParseFloat takes
// them.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
