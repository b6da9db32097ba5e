package main

import (
	"fmt"
	"time"

	"jobserver/api"
	"jobserver/view"
)

// progress is the bar that a waiting command shows on a terminal's stderr.
type progress struct {
	e     *env
	on    bool
	drawn bool
	began time.Time
	ended int // jobs that had ended when it began
	known bool
	left  *api.TimeLeft // as the daemon has worked it out, or nil
}

// newProgress makes a bar. It stays silent with -q, and where nobody looks.
func newProgress(e *env) *progress {
	return &progress{e: e, on: e.screen.Terminal && !e.globals.Quiet, began: e.now()}
}

// show draws the bar anew.
func (p *progress) show(c api.Counts) {
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
	if p.left != nil {
		bar.Left = leftText(p.left)
	}
	if passed := p.e.now().Sub(p.began).Seconds(); passed > 0 {
		bar.Rate = float64(ended-p.ended) / passed
	}
	fmt.Fprintf(p.e.stderr, "\r%s\x1b[K", view.Paint(bar.Bar(max(p.e.screen.Width-1, 0)), p.e.screen.Color))
	p.drawn = true
}

// clear takes the bar away, so that what follows begins a line.
func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.e.stderr, "\r\x1b[K")
		p.drawn = false
	}
}
