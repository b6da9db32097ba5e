package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// stretches are how often the daemon's scheduler did one thing for how long, during which nobody
// else got in: bounds are upper ones in seconds, and below counts what took no longer. The last
// bound is infinite.
type stretches struct {
	bounds []string
	below  []float64
}

// findMetrics notes where a daemon that was started with --metrics has just said that they are.
func (d *daemon) findMetrics() error {
	_, rest, _ := strings.Cut(d.ConsoleText(), "metrics are served address=")
	addr, _, ok := strings.Cut(rest, "\n")
	if !ok {
		return errors.New("the daemon doesn't say where its metrics are")
	}
	d.metrics = "http://" + addr + "/metrics"
	return nil
}

// stretches are those since the daemon's start.
func (d *daemon) stretches(ctx context.Context) (s stretches, err error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, d.metrics, nil)
	if err != nil {
		return s, err
	}
	reply, err := http.DefaultClient.Do(ask)
	if err != nil {
		return s, err
	}
	defer reply.Body.Close()
	for lines := bufio.NewScanner(reply.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), `jobserver_loop_stretch_seconds_bucket{le="`)
		if !ok {
			continue
		}
		bound, count, _ := strings.Cut(rest, `"} `)
		n, err := strconv.ParseFloat(count, 64)
		if err != nil {
			return s, err
		}
		s.bounds, s.below = append(s.bounds, bound), append(s.below, n)
	}
	if len(s.bounds) == 0 {
		return s, fmt.Errorf("%s has no stretches of the loop", d.metrics)
	}
	return s, nil
}

// since are those after others.
func (s stretches) since(before stretches) stretches {
	more := stretches{bounds: s.bounds, below: make([]float64, len(s.below))}
	for i := range s.below {
		more.below[i] = s.below[i]
		if len(before.below) > 0 {
			more.below[i] -= before.below[i]
		}
	}
	return more
}

// plus are both.
func (s stretches) plus(more stretches) stretches {
	if len(s.below) == 0 {
		return more
	}
	sum := stretches{bounds: s.bounds, below: make([]float64, len(s.below))}
	for i := range s.below {
		sum.below[i] = s.below[i] + more.below[i]
	}
	return sum
}

// all is how many there are.
func (s stretches) all() float64 { return s.below[len(s.below)-1] }

// above is how many took longer than a bound, which has to be one of theirs.
func (s stretches) above(bound string) float64 {
	for i := range s.bounds {
		if s.bounds[i] == bound {
			return s.all() - s.below[i]
		}
	}
	panic("no bound of " + bound)
}

// text says how long the longest was, and how many were too long.
func (s stretches) text() string {
	longest := "?"
	for i := range s.below {
		if s.below[i] == s.all() {
			longest = s.bounds[i]
			break
		}
	}
	if seconds, err := strconv.ParseFloat(longest, 64); err == nil {
		longest = fmt.Sprintf("%g ms", seconds*1000)
	}
	return fmt.Sprintf("≤ %s; above 2 ms %.0f of %.0f", longest, s.above("0.002"), s.all())
}
