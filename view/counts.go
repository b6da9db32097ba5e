package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Counts is how many jobs are in each status.
type Counts struct {
	Waiting, Held, Running, Copying, Done, Failed, Canceled, Lost int
}

// each gives the counts in the order in which a job may go through them.
func (c Counts) each() []struct {
	n             int
	status, short string
} {
	return []struct {
		n             int
		status, short string
	}{
		{c.Waiting, "waiting", "W"}, {c.Held, "held", "H"}, {c.Running, "running", "R"},
		{c.Copying, "copying", "P"},
		{c.Done, "done", "D"}, {c.Failed, "failed", "F"}, {c.Canceled, "canceled", "C"},
		{c.Lost, "lost", "L"},
	}
}

// Total is the number of jobs.
func (c Counts) Total() int {
	total := 0
	for _, part := range c.each() {
		total += part.n
	}
	return total
}

// Line is the first line of a listing: "274 jobs: 0 waiting, 0 held, 1 running, 257 done, 4 failed,
// 12 canceled". Copying and lost, which are rare, appear only when there are any. done is green:
// with or without results, it is what was wanted.
func (c Counts) Line() []Span {
	noun := " jobs: "
	if c.Total() == 1 {
		noun = " job: "
	}
	spans := []Span{{strconv.Itoa(c.Total()) + noun, Plain}}
	for _, part := range c.each() {
		if part.n == 0 && (part.status == "copying" || part.status == "lost") {
			continue
		}
		if len(spans) > 1 {
			spans = append(spans, Span{", ", Plain})
		}
		style := StatusStyle(part.status, true)
		if part.n == 0 {
			style = Plain
		}
		spans = append(spans, Span{fmt.Sprintf("%d %s", part.n, part.status), style})
	}
	return spans
}

// Short is the same for a cell of a table: "248D 4F 12C", without what is 0. P is copying.
func (c Counts) Short() []Span {
	var spans []Span
	for _, part := range c.each() {
		if part.n == 0 {
			continue
		}
		if len(spans) > 0 {
			spans = append(spans, Span{" ", Plain})
		}
		spans = append(spans,
			Span{strconv.Itoa(part.n) + part.short, StatusStyle(part.status, true)})
	}
	return spans
}

// Progress is how far a set of jobs is.
type Progress struct {
	Done, Failed, Running, Waiting int     // failed: all that ended in another way than done
	Rate                           float64 // jobs that end per second; 0: unknown
	// how long the rest takes, when more is known of that than the rate tells
	Left string
}

const (
	minBar = 10 // columns, without its frame
	maxBar = 40
)

// Bar draws progress as one line of at most width columns, 80 when width is 0: a bar, and then as
// many of these as fit: how many of all have ended, the failed, the running, the waiting, the time
// left, the rate.
func (p Progress) Bar(width int) []Span {
	if width <= 0 {
		width = defaultWidth
	}
	words := fitting(p.words(), width)
	const frame = len("[] ")
	room := min(width-spansWidth(words)-frame, maxBar)
	if room < minBar || p.total() == 0 {
		return words
	}
	return append(p.bar(room), words...)
}

func (p Progress) ended() int { return p.Done + p.Failed }
func (p Progress) total() int { return p.ended() + p.Running + p.Waiting }

// words stand beside the bar, the most important first.
func (p Progress) words() []Span {
	words := []Span{{fmt.Sprintf("%d/%d", p.ended(), p.total()), Plain}}
	add := func(wanted bool, style Style, format string, args ...any) {
		if wanted {
			words = append(words, Span{fmt.Sprintf(format, args...), style})
		}
	}
	add(p.Failed > 0, Red, "%d failed", p.Failed)
	add(p.Running > 0, Yellow, "%d running", p.Running)
	add(p.Waiting > 0, Blue, "%d waiting", p.Waiting)
	add(p.Left != "", Plain, "%s left", p.Left)
	if left := float64(p.Running+p.Waiting) / p.Rate; p.Left == "" && left > 0 &&
		left < math.MaxInt64/float64(time.Second) {
		add(true, Plain, "%s left", FormatDuration(time.Duration(left)*time.Second))
	}
	add(p.Rate > 0 && !math.IsInf(p.Rate, 0), Plain, "%s", formatRate(p.Rate))
	return words
}

// fitting are as many of the texts as fit into width, with commas between them.
func fitting(texts []Span, width int) []Span {
	const separator = ", "
	var spans []Span
	used := 0
	for i, text := range texts {
		if i > 0 {
			text.Text = separator + text.Text
		}
		if used += Width(text.Text); used > width {
			break
		}
		if i > 0 {
			spans = append(spans, Span{separator, Plain})
		}
		spans = append(spans, texts[i])
	}
	return spans
}

// bar is the bar, of room columns between its brackets. Each part ends where all up to it
// would, so that they add up to the whole.
func (p Progress) bar(room int) []Span {
	cells := func(n int) int { return int(int64(n) * int64(room) / int64(p.total())) }
	done, failed, running := cells(p.Done), cells(p.ended()), cells(p.ended()+p.Running)
	return []Span{
		{"[", Plain},
		{strings.Repeat("█", done), Green},
		{strings.Repeat("█", failed-done), Red},
		{strings.Repeat("▒", running-failed), Yellow},
		{strings.Repeat("░", room-running), Grey},
		{"] ", Plain},
	}
}

// formatRate takes the unit in which there is something before the point.
func formatRate(perSecond float64) string {
	switch {
	case perSecond >= 1:
		return fmt.Sprintf("%.1f/s", perSecond)
	case perSecond*60 >= 1:
		return fmt.Sprintf("%.1f/min", perSecond*60)
	default:
		return fmt.Sprintf("%.1f/h", perSecond*3600)
	}
}

// Counted is a number of things in words: "1 job", "3 jobs".
func Counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
