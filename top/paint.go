package top

import (
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/view"
)

// paint makes the whole screen: exactly as many lines as it has, none wider.
func (s *screen) paint() string {
	var lines []string
	rest := s.height
	if rest > 4 {
		lines = append(lines, s.headLine())
		rest--
	}
	if rest > 4 {
		lines = append(lines, s.tabLine())
		rest--
	}
	foot := s.footLines()
	rest -= len(foot)
	switch {
	case s.help:
		lines = append(lines, fill(helpLines, rest)...)
	case s.job != 0 && rest >= 9:
		upper := max(rest/2, 4)
		lines = append(lines, fill(s.current().lines(s, s.width, upper), upper)...)
		lines = append(lines, fill(s.besideLines(s.width, rest-upper), rest-upper)...)
	case s.job != 0:
		lines = append(lines, fill(s.besideLines(s.width, rest), rest)...)
	default:
		lines = append(lines, fill(s.current().lines(s, s.width, rest), rest)...)
	}
	lines = append(lines, foot...)
	lines = lines[:min(len(lines), s.height)]
	for i, line := range lines {
		if !strings.Contains(line, "\x1b") { // what is coloured was made to fit
			lines[i] = view.Shorten(line, s.width)
		}
	}
	return strings.Join(lines, "\n")
}

// fill makes it exactly n lines.
func fill(lines []string, n int) []string {
	if n <= 0 {
		return nil
	}
	lines = append([]string(nil), lines[:min(len(lines), n)]...)
	for len(lines) < n {
		lines = append(lines, "")
	}
	return lines
}

// spans paints spans to at most the width of the screen.
func (s *screen) spans(parts ...view.Span) string {
	left := s.width
	var fit []view.Span
	for _, p := range parts {
		p.Text = view.Clean(p.Text)
		if w := view.Width(p.Text); w > left {
			p.Text = view.Shorten(p.Text, left)
		}
		if left -= view.Width(p.Text); p.Text != "" {
			fit = append(fit, p)
		}
		if left <= 0 {
			break
		}
	}
	return view.Paint(fit, s.Color)
}

// short is a number in few characters: 1.0M.
func short(n int) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	case n >= 100_000:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}

var blocks = []rune(" ▁▂▃▄▅▆▇█")

// headLine says what the daemon has.
func (s *screen) headLine() string {
	parts := []view.Span{{Text: "jobserver", Style: view.Bold}, {Text: " " + s.Name + "  "}}
	if s.live.Version == 0 {
		return s.spans(append(parts, view.Span{Text: "connecting"})...)
	}
	if !s.live.Online {
		return s.spans(
			append(parts, view.Span{Text: "reconnecting: " + s.live.Error, Style: view.Red})...)
	}
	c := s.live.Status.Jobs
	if s.width < 60 {
		return s.spans(append(parts[1:], viewCounts(c).Short()...)...)
	}
	counts := []struct {
		n      int
		status string
		always bool
	}{
		{
			c.Running,
			"running",
			true,
		},
		{c.Copying, "copying", false},
		{c.Waiting, "waiting", true},
		{c.Held, "held", false},
		{
			c.Done,
			"done",
			true,
		},
		{c.Failed, "failed", true},
		{c.Lost, "lost", false},
		{c.Canceled, "canceled", false},
	}
	for _, k := range counts {
		if k.n == 0 && !k.always {
			continue
		}
		style := view.Plain
		if k.n > 0 {
			style = view.StatusStyle(k.status, true)
		}
		parts = append(
			parts,
			view.Span{Text: fmt.Sprintf("%s %s", short(k.n), k.status), Style: style},
			view.Span{Text: "  "},
		)
	}
	most := 1
	for _, n := range s.live.Rate.Recent {
		most = max(most, n)
	}
	bars := ""
	for _, n := range s.live.Rate.Recent {
		bars += string(blocks[(n*8+most-1)/most])
	}
	return s.spans(
		append(parts, view.Span{Text: fmt.Sprintf("%.0f/min %s", s.live.Rate.PerMinute, bars)})...)
}

// tabLine names the panes.
func (s *screen) tabLine() string {
	var parts []view.Span
	for i, p := range s.panes {
		name := fmt.Sprintf(" %d %s ", i+1, p.title())
		style := view.Plain
		if s.width < 60 { // the numbers, and where we are
			name = fmt.Sprintf(" %d ", i+1)
		}
		if i == s.pane {
			name, style = fmt.Sprintf("[%d %s]", i+1, p.title()), view.Bold
		}
		parts = append(parts, view.Span{Text: name, Style: style})
	}
	list := s.panes[paneJobs].(*jobs)
	if text := list.marks.text(); text != "" && s.pane == paneJobs {
		parts = append(parts, view.Span{Text: "  + " + text, Style: view.Bold})
	}
	if len(list.words) > 0 {
		parts = append(parts,
			view.Span{Text: "  sel: " + strings.Join(list.words, " "), Style: view.Cyan})
	}
	return s.spans(parts...)
}

// footLines draws the foot: a question, a message, or the keys.
func (s *screen) footLines() []string {
	switch {
	case s.question != nil:
		return s.questionLines()
	case s.prompt != nil:
		return []string{
			s.spans(
				view.Span{Text: s.prompt.label, Style: view.Bold},
				view.Span{Text: s.prompt.text + "▏"},
			),
		}
	case s.said != "":
		return []string{s.spans(view.Span{Text: s.said, Style: view.Bold})}
	}
	return []string{s.spans(view.Span{
		Text:  "? help  / select  ⏎ open  l log  w why  c cancel  h hold  r restart  q quit",
		Style: view.Dim,
	})}
}

var helpLines = []string{
	"1 … 5, Tab      the panes",
	"j k ↓ ↑ g G     move; PgUp and PgDn by pages",
	"/               a selector, as on the command line: :failed %sweep @tag class=gpu 3..9",
	":               a job by its id, or a pane by its name",
	"Enter           open: a job's log, a matrix's cells, a machine's jobs",
	"l e w           the log, what went to stderr, why",
	"                in a log ↑ stops following, G goes on",
	"t               the machine's time",
	"Space *         mark a job; all that match the selector",
	"c h u r         cancel, hold, unhold, restart what is marked, the job, or the matrix",
	"p P             pause a job that runs, let it go on",
	"d D             drain a machine, resume it",
	"+ -             in the timeline: zoom",
	"m               a matrix's cells by status, by each metric; its table",
	"Esc q           close, leave",
}

// fixed is a column of plain text.
func fixed[T any](title string, text func(T) string) view.Column[T] {
	return view.Column[T]{Title: title, Cell: view.Text(text)}
}

func viewCounts(c api.Counts) view.Counts {
	return view.Counts{
		Waiting:  c.Waiting,
		Held:     c.Held,
		Running:  c.Running,
		Copying:  c.Copying,
		Done:     c.Done,
		Failed:   c.Failed,
		Canceled: c.Canceled,
		Lost:     c.Lost,
	}
}
