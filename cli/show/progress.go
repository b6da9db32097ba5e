package show

import (
	"fmt"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// Progress is the bar that a waiting command shows on a terminal's stderr.
type Progress struct {
	e     *cli.Env
	on    bool
	drawn int // columns of the bar that is on the screen
	began time.Time
	ended int // jobs that had ended when it began
	known bool
	Left  *api.TimeLeft // as the daemon has worked it out, or nil
}

// NewProgress makes a bar. It stays silent with -q, and where nobody looks.
func NewProgress(e *cli.Env) *Progress {
	return &Progress{e: e, on: e.Screen.Terminal && !e.Globals.Quiet, began: e.Now()}
}

// Show draws the bar anew.
func (p *Progress) Show(c api.Counts) {
	if !p.on {
		return
	}
	ended := c.Total() - c.Unfinished()
	if !p.known {
		p.ended, p.known = ended, true
	}
	bar := view.Progress{
		Done: c.Done, Failed: c.Failed + c.Canceled + c.Lost,
		Running: c.Running + c.Copying, Waiting: c.Waiting + c.Held,
	}
	if p.Left != nil {
		bar.Left = LeftText(p.Left)
	}
	if passed := p.e.Now().Sub(p.began).Seconds(); passed > 0 {
		bar.Rate = float64(ended-p.ended) / passed
	}
	p.Clear()
	p.e.Resized()
	spans := bar.Bar(max(p.e.Screen.Width-1, 0))
	fmt.Fprint(p.e.Stderr, view.Paint(spans, p.e.Screen.Color))
	p.drawn = view.Width(view.Paint(spans, false))
}

// Clear takes the bar away, so that what follows begins a line. On a terminal that has become
// narrower meanwhile it takes several lines.
func (p *Progress) Clear() {
	if p.drawn == 0 {
		return
	}
	p.e.Resized()
	if width := p.e.Screen.Width; width > 0 {
		if rows := (p.drawn - 1) / width; rows > 0 {
			fmt.Fprintf(p.e.Stderr, "\x1b[%dA", rows)
		}
	}
	fmt.Fprint(p.e.Stderr, "\r\x1b[J")
	p.drawn = 0
}
