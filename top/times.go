package top

import (
	"fmt"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/live"
	"jobserver/view"
)

// times is the pane of machines against time.
type times struct {
	hours float64
	reply *api.TimelineReply
	at    int

	wanted string // the machine whose row is to be the current one
}

func (p *times) title() string { return "Timeline" }

// concerns is never so: it is drawn anew by the clock.
func (p *times) concerns(*live.Digest) bool              { return false }
func (p *times) selected() uint64                        { return 0 }
func (p *times) change(*screen, string) (*change, error) { return nil, nil }

// labelWidth is the room for the machines' names.
func (p *times) labelWidth(width int) int { return min(24, width/3) }

func (p *times) fetch(s *screen) effect {
	now := s.Now().Truncate(5 * time.Second).Add(5 * time.Second)
	args := &api.TimelineArgs{
		From: now.Add(-time.Duration(p.hours * float64(time.Hour))), To: now, Clip: true,
		Columns: max(s.width-p.labelWidth(s.width)-4, 10), Wait: 2 * time.Second,
	}
	return fetched(s, "Timeline", args, func(s *screen, r *api.TimelineReply) []effect {
		p.reply = r
		p.at = clampRow(p.at, len(r.Rows))
		for i := range r.Rows {
			if r.Ready == 1 && r.Rows[i].Machine == p.wanted {
				p.at, p.wanted = i, ""
			}
		}
		return nil
	})
}

func (p *times) move(_ *screen, by int) []effect {
	if p.reply != nil {
		p.at = clampRow(p.at+by, len(p.reply.Rows))
	}
	return nil
}

func (p *times) zoom(s *screen, key string) []effect {
	if key == "+" {
		p.hours = max(p.hours/2, 1.0/12)
	} else {
		p.hours = min(p.hours*2, 24*366)
	}
	return one(p.fetch(s))
}

func (p *times) open(s *screen) []effect {
	if p.reply == nil || len(p.reply.Rows) == 0 {
		return nil
	}
	return s.showJobs([]string{"machine=" + p.reply.Rows[p.at].Machine}, 0)
}

func (p *times) lines(s *screen, width, height int) []string {
	r := p.reply
	switch {
	case r == nil:
		return []string{"", "  looking"}
	case r.Ready < 1:
		return []string{"", fmt.Sprintf("  reading the history: %.0f %%", 100*r.Ready)}
	case len(r.Rows) == 0:
		return []string{"", "  no machine, and nothing has run"}
	}
	label := p.labelWidth(width)
	from, to := view.FormatTime(r.From, s.Now(), true), view.FormatTime(r.To, s.Now(), true)
	gap := max(r.Columns-view.Width(from)-view.Width(to), 1)
	lines := []string{
		s.spans(
			view.Span{
				Text:  strings.Repeat(" ", label+4) + from + strings.Repeat(" ", gap) + to,
				Style: view.Bold,
			},
		),
	}
	room := height - 2
	first := min(max(p.at-room/2, 0), max(len(r.Rows)-room, 0))
	for i := first; i < len(r.Rows) && len(lines) <= room; i++ {
		name := view.Shorten(view.Clean(r.Rows[i].Machine), label)
		name += strings.Repeat(" ", label-view.Width(name))
		mark := "  "
		if i == p.at {
			mark = view.Bold.Paint("▸ ", s.Color)
		}
		lines = append(lines, mark+name+"  "+view.Paint(rowSpans(r, i), s.Color))
	}
	return append(
		lines,
		s.spans(
			view.Span{
				Text: strings.Repeat(" ", label+4) +
					"▁…█ busy  ✗ failed  ? lost  ╌ away  + - zoom",
				Style: view.Dim,
			},
		),
	)
}

// rowSpans draws a machine: how busy it was, where something went wrong, and when it was away.
func rowSpans(r *api.TimelineReply, row int) []view.Span {
	shares := &r.Rows[row]
	at := func(shares []byte, c int) int {
		if c >= len(shares) {
			return 0
		}
		return int(shares[c])
	}
	away := awayColumns(r, shares.Machine)
	var spans []view.Span
	add := func(text string, style view.Style) {
		if n := len(spans); n > 0 && spans[n-1].Style == style {
			spans[n-1].Text += text
			return
		}
		spans = append(spans, view.Span{Text: text, Style: style})
	}
	for c := range r.Columns {
		busy := at(shares.Done, c) + at(shares.Running, c) + at(shares.Canceled, c) +
			at(shares.Failed, c) + at(shares.Lost, c)
		switch {
		case at(shares.Failed, c) > 0:
			add("✗", view.Red)
		case at(shares.Lost, c) > 0:
			add("?", view.Red)
		case busy == 0 && away[c]:
			add("╌", view.Red)
		case busy == 0:
			add("·", view.Grey)
		default:
			style := view.Green
			if at(shares.Running, c) > at(shares.Done, c) {
				style = view.Yellow
			}
			add(string(blocks[min((busy*8+14)/15, 8)]), style)
		}
	}
	return spans
}

// awayColumns says in which columns a machine was away for some time.
func awayColumns(r *api.TimelineReply, machine string) []bool {
	away := make([]bool, r.Columns)
	all := r.To.Sub(r.From)
	for i := range r.Absent {
		a := &r.Absent[i]
		if a.Machine != machine || all <= 0 {
			continue
		}
		to := a.To
		if to.IsZero() {
			to = r.To
		}
		first := int(float64(a.From.Sub(r.From)) / float64(all) * float64(r.Columns))
		last := int(float64(to.Sub(r.From)) / float64(all) * float64(r.Columns))
		for c := max(first, 0); c <= min(last, r.Columns-1); c++ {
			away[c] = true
		}
	}
	return away
}
