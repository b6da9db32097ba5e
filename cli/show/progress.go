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
	drawn bool
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
	fmt.Fprintf(p.e.Stderr, "\r%s\x1b[K", view.Paint(bar.Bar(max(p.e.Screen.Width-1, 0)), p.e.Screen.Color))
	p.drawn = true
}

// Clear takes the bar away, so that what follows begins a line.
func (p *Progress) Clear() {
	if p.drawn {
		fmt.Fprint(p.e.Stderr, "\r\x1b[K")
		p.drawn = false
	}
}
