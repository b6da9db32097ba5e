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
}

func (p *times) title() string { return "Timeline" }

func (p *times) concerns(
	d *live.Digest,
) bool {
	return false
}                                                        // it is drawn anew by the clock
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
	list := s.panes[paneJobs].(*jobs)
	list.words, list.at, list.before = []string{"machine=" + p.reply.Rows[p.at].Machine}, 0, 0
	s.pane = paneJobs
	return one(list.fetch(s))
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
		lines = append(lines, mark+name+"  "+view.Paint(rowSpans(&r.Rows[i], r.Columns), s.Color))
	}
	return append(
		lines,
		s.spans(
			view.Span{
				Text:  strings.Repeat(" ", label+4) + "▁…█ busy   ✗ failed   ? lost   + - zoom",
				Style: view.Dim,
			},
		),
	)
}

// rowSpans draws a machine: how busy it was, and where something went wrong.
func rowSpans(row *api.TimelineRow, columns int) []view.Span {
	at := func(shares []byte, c int) int {
		if shares == nil || c >= len(shares) {
			return 0
		}
		return int(shares[c])
	}
	var spans []view.Span
	add := func(text string, style view.Style) {
		if n := len(spans); n > 0 && spans[n-1].Style == style {
			spans[n-1].Text += text
			return
		}
		spans = append(spans, view.Span{Text: text, Style: style})
	}
	for c := range columns {
		busy := at(
			row.Done,
			c,
		) + at(
			row.Running,
			c,
		) + at(
			row.Canceled,
			c,
		) + at(
			row.Failed,
			c,
		) + at(
			row.Lost,
			c,
		)
		switch {
		case at(row.Failed, c) > 0:
			add("✗", view.Red)
		case at(row.Lost, c) > 0:
			add("?", view.Red)
		case busy == 0:
			add("·", view.Grey)
		default:
			style := view.Green
			if at(row.Running, c) > at(row.Done, c) {
				style = view.Yellow
			}
			add(string(blocks[min((busy*8+14)/15, 8)]), style)
		}
	}
	return spans
}
