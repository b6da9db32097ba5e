package live

import (
	"time"

	"jobserver/api"
)

// Rate says how fast jobs end.
type Rate struct {
	PerMinute float64 `json:"per_minute"` // over the last minute, or since it is looked at
	Recent    []int   `json:"recent"`     // how many ended in each of the last twelve times of 10 s
}

const (
	paceStep  = 10 * time.Second
	paceSteps = 12
)

// pace counts the jobs that have ended while somebody followed.
type pace struct {
	began time.Time
	step  int64 // of the newest count
	ended int   // in all, when last seen
	count [paceSteps]int
}

// note takes the counts of all jobs.
func (p *pace) note(now time.Time, c api.Counts) {
	ended := c.Done + c.Failed + c.Canceled + c.Lost
	if p.began.IsZero() {
		p.began, p.step, p.ended = now, now.UnixNano()/int64(paceStep), ended
	}
	p.move(now)
	p.count[p.step%paceSteps] += max(ended-p.ended, 0) // fewer, when jobs were forgotten
	p.ended = ended
}

// move lets the time go by.
func (p *pace) move(now time.Time) {
	for step := now.UnixNano() / int64(paceStep); p.step < step; {
		if step-p.step > paceSteps {
			p.step = step - paceSteps
		}
		p.step++
		p.count[p.step%paceSteps] = 0
	}
}

func (p *pace) rate(now time.Time) Rate {
	if p.began.IsZero() {
		return Rate{}
	}
	p.move(now)
	r := Rate{Recent: make([]int, paceSteps)}
	minute := 0
	for i := range r.Recent {
		r.Recent[i] = p.count[(p.step+1+int64(i))%paceSteps]
		if i >= paceSteps-int(time.Minute/paceStep) {
			minute += r.Recent[i]
		}
	}
	// Of the newest step only a part has gone by.
	seen := min(
		now.Sub(p.began),
		time.Minute-paceStep+time.Duration(now.UnixNano()%int64(paceStep)),
	)
	r.PerMinute = float64(minute) / max(seen, paceStep).Minutes()
	return r
}
