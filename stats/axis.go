package stats

import (
	"math"
	"strconv"
)

// axis is one direction of a chart.
type axis struct {
	label    string
	log      bool
	names    []string // of an axis without numbers: what stands at 0, 1, 2, …
	min, max float64
	known    bool
	ticks    []tick
}

type tick struct {
	value float64
	text  string
}

// cover makes room for a value.
func (a *axis) cover(v float64) {
	if !a.known {
		a.min, a.max, a.known = v, v, true
	}
	a.min, a.max = min(a.min, v), max(a.max, v)
}

// at is where a value stands between two ends.
func (a *axis) at(v float64, from, to float64) float64 {
	low, high := a.min, a.max
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return from + (v-low)/(high-low)*(to-from)
}

// settle rounds the range and chooses the ticks.
func (a *axis) settle() {
	switch {
	case a.names != nil:
		a.min, a.max = -0.5, float64(len(a.names))-0.5
		for i, name := range a.names {
			a.ticks = append(a.ticks, tick{float64(i), name})
		}
	case a.log:
		a.logTicks()
	default:
		a.linearTicks()
	}
}

// linearTicks are multiples of 1, 2 or 5 times a power of ten, about five of them; the range grows
// to the outermost.
func (a *axis) linearTicks() {
	if a.max-a.min <= 1e-9*max(math.Abs(a.min), math.Abs(a.max)) { // nothing to tell apart
		room := max(math.Abs(a.max)/10, 1e-9)
		a.min, a.max = a.min-room, a.max+room
	}
	raw := (a.max - a.min) / 5
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw {
			step = m * power
			break
		}
	}
	first, last := math.Floor(a.min/step+1e-9), math.Ceil(a.max/step-1e-9)
	a.min, a.max = first*step, last*step
	for i := first; i <= last && len(a.ticks) < 20; i++ {
		// A multiple of the step has no more digits than it, whatever the product in binary says.
		a.ticks = append(
			a.ticks,
			tick{i * step, strconv.FormatFloat(roundTo(i*step, step), 'g', -1, 64)},
		)
	}
}

// roundTo takes away the digits behind those of a step.
func roundTo(v, step float64) float64 {
	text := strconv.FormatFloat(v, 'f', max(0, -int(math.Floor(math.Log10(step)+1e-9))), 64)
	out, err := strconv.ParseFloat(text, 64)
	if err != nil || out == 0 {
		return 0 // never -0
	}
	return out
}

// logTicks are powers of ten, or of two where there are few of these.
func (a *axis) logTicks() {
	if a.min == a.max {
		a.min, a.max = a.min/2, a.max*2
	}
	base := 10.0
	if math.Log10(a.max/a.min) < 2 {
		base = 2
	}
	low, high := math.Floor(
		math.Log(a.min)/math.Log(base)+1e-9,
	), math.Ceil(
		math.Log(a.max)/math.Log(base)-1e-9,
	)
	a.min, a.max = math.Pow(base, low), math.Pow(base, high)
	skip := math.Ceil((high - low) / 10)
	for e := low; e <= high; e += skip {
		v := math.Pow(base, e)
		a.ticks = append(a.ticks, tick{v, strconv.FormatFloat(v, 'g', 6, 64)})
	}
}
