package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// A row is one comparison of the table.
type row struct {
	name    string // as "1a"
	what    string
	ours    string // the figures, with their units
	theirs  string
	ratio   float64 // as the target has it
	low     float64 // the spread of the single turns' ratios; 0 for a count
	high    float64
	target  string
	reached bool
	ourCmd  string // how each was run; "" where there is nothing to run
	peerCmd string
	note    string
	missing string // why there are no figures; then there is nothing but a name
}

// header is the head of the table that is printed.
var header = fmt.Sprintf("%-4s %-50s %-22s %-22s %8s %-15s %-13s %s", "", "FIGURE", "OURS",
	"THEIRS", "RATIO", "SPREAD", "TARGET", "")

// String is the row as it is printed.
func (r row) String() string {
	if r.missing != "" {
		return fmt.Sprintf("%-4s missing: %s", r.name, r.missing)
	}
	verdict := "missed"
	if r.reached {
		verdict = "ok"
	}
	s := fmt.Sprintf("%-4s %-50s %-22s %-22s %8s %-15s %-13s %s", r.name, r.what, r.ours, r.theirs,
		r.ratioText(), r.spread(), r.target, verdict)
	if r.note != "" {
		s += "\n     (" + r.note + ")"
	}
	return s
}

func (r row) ratioText() string {
	if r.ratio == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", r.ratio)
}

func (r row) spread() string {
	if r.low == 0 && r.high == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f … %.2f", r.low, r.high)
}

// samples are the times of one side, in the order of the turns.
type samples []time.Duration

func (s samples) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

func (s samples) sum() (sum time.Duration) {
	for _, took := range s {
		sum += took
	}
	return sum
}

// inTurn runs ours and theirs after each other, again and again; the first turn isn't counted. What
// each returns is its time, which need not be all of the time that it took.
func inTurn(
	ctx context.Context, turns int, sides ...func() (time.Duration, error),
) ([]samples, error) {
	all := make([]samples, len(sides))
	for turn := range turns + 1 {
		for i, side := range sides {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			took, err := side()
			if err != nil {
				return nil, err
			}
			if turns <= 10 {
				fmt.Fprintf(os.Stderr, "  turn %d, side %d: %s\n", turn, i+1, show(took))
			}
			if turn > 0 {
				all[i] = append(all[i], took)
			}
		}
	}
	return all, nil
}

// faster fills in a row whose target is how many times ours is faster than theirs, at least.
func (r row) faster(ours, theirs samples, least float64) row {
	return r.compare(theirs, ours, theirs.median(), ours.median(), fmt.Sprintf("≥ %.2g×", least),
		func(x float64) bool {
			return x >= least
		})
}

// slower fills in a row whose target is how many times as long as theirs ours may take, at most.
func (r row) slower(ours, theirs samples, most float64) row {
	return r.compare(ours, theirs, theirs.median(), ours.median(), fmt.Sprintf("≤ %.2g×", most),
		func(x float64) bool {
			return x <= most
		})
}

// compare divides the medians of over and under, and gives the spread of the turns.
func (r row) compare(
	over, under samples, theirs, ours time.Duration, target string, reached func(float64) bool,
) row {
	r.ratio = float64(over.median()) / float64(under.median())
	var each []float64
	for i := range over {
		each = append(each, float64(over[i])/float64(under[i]))
	}
	r.low, r.high = quartiles(each)
	r.target, r.reached = target, reached(r.ratio)
	if r.ours == "" {
		r.ours, r.theirs = show(ours), show(theirs)
	}
	return r
}

// quartiles are between which values the middle half lies; of a few, all lie.
func quartiles(x []float64) (low, high float64) {
	slices.Sort(x)
	cut := 0
	if len(x) >= 8 {
		cut = len(x) / 4
	}
	return x[cut], x[len(x)-1-cut]
}

// show is a duration with three digits.
func show(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.0f µs", d.Seconds()*1e6)
}

// perSecond is a rate, as things a second.
func perSecond(n int, d time.Duration, unit string) string {
	return fmt.Sprintf("%.0f %s/s", float64(n)/d.Seconds(), unit)
}

// megabytes is a rate of bytes.
func megabytes(n int64, d time.Duration) string {
	return fmt.Sprintf("%.0f MB/s", float64(n)/1e6/d.Seconds())
}

// timed is how long f took.
func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// commandLine is how a command is shown: files below the work directory by their names alone.
func commandLine(dir string, words ...string) string {
	shown := make([]string, len(words))
	for i, word := range words {
		word = strings.ReplaceAll(word, dir+"/", "")
		if strings.ContainsAny(word, " *{}$>;|&") {
			word = "'" + word + "'"
		}
		shown[i] = word
	}
	return strings.Join(shown, " ")
}
