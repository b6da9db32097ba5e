package top

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/view"
)

// change is something that the user may want to be done.
type change struct {
	kind  string // job, machine or cell: what is counted
	op    string
	what  string // in words
	names []string
}

// question asks before anything is changed: it knows how much would be.
type question struct {
	change
	request        string // of the call: asked for once, done once
	total, changes int
	tried, busy    bool
	typed          string
}

// typedAbove is above how many the number has to be typed.
const typedAbove = 20

// The smallest screen on which a question can be read; none is asked on a smaller one.
const (
	questionWidth  = 40
	questionHeight = 5
)

// ask tries a change, and then asks.
func (s *screen) ask(key string) []effect {
	c, err := s.current().change(s, key)
	switch {
	case err != nil:
		s.failed(err)
		return nil
	case c == nil:
		return nil
	case s.ReadOnly:
		s.said = "nothing can be changed: it was started with --read-only"
		return nil
	case s.width < questionWidth || s.height < questionHeight:
		s.said = "too small to ask"
		return nil
	}
	q := &question{change: *c, request: rand.Text()}
	s.question = q
	return one(s.call(q, true))
}

// call tries a change, or does it.
func (s *screen) call(q *question, dry bool) effect {
	f := s.Follower
	return func(ctx context.Context) news {
		var total, changed int
		var err error
		switch q.kind {
		case "job":
			args, reply := &api.ChangeJobsArgs{Op: q.op, Selectors: q.names, DryRun: dry},
				api.ChangeJobsReply{}
			args.SetRequestID(q.request)
			err = f.Do(ctx, api.ChangeJobs, args, &reply)
			total, changed = reply.Total, reply.Changed
		case "machine":
			args, reply := &api.ChangeMachinesArgs{Op: q.op, DryRun: dry}, api.ChangeMachinesReply{}
			args.Addrs = q.names
			args.SetRequestID(q.request)
			err = f.Do(ctx, "ChangeMachines", args, &reply)
			total, changed = len(reply.Machines), len(reply.Machines)
		case "cell":
			args := &api.ChangeMatrixArgs{
				Op:     q.op,
				Matrix: q.names[0],
				Failed: q.op == api.MatrixRerun,
				DryRun: dry,
			}
			reply := api.ChangeMatrixReply{}
			args.SetRequestID(q.request)
			err = f.Do(ctx, "ChangeMatrix", args, &reply)
			total, changed = reply.Matrix.Cells, reply.Changed
		}
		return func(s *screen) []effect {
			switch {
			case s.question != q: // it was closed
			case err != nil:
				s.question = nil
				s.failed(err)
			case dry:
				q.tried, q.total, q.changes = true, total, changed
			default:
				s.question = nil
				s.panes[paneJobs].(*jobs).marks = marks{}
				s.said = fmt.Sprintf(
					"%s %s: %s changed",
					q.op,
					q.what,
					view.Counted(changed, q.kind),
				)
				return one(s.current().fetch(s))
			}
			return nil
		}
	}
}

// answer takes a key while something is asked. Only y, or the number, does it.
func (s *screen) answer(key string) []effect {
	q := s.question
	mustType := q.changes > typedAbove
	switch {
	case key == "esc" || key == "n" || key == "q":
		s.question, s.said = nil, "nothing was changed"
	case !q.tried || q.busy || q.changes == 0 || s.width < questionWidth ||
		s.height < questionHeight:
	case mustType && key == "backspace":
		q.typed = q.typed[:max(len(q.typed)-1, 0)]
	case mustType && len(key) == 1 && strings.Contains("0123456789", key):
		q.typed += key
	case !mustType && key == "y", mustType && key == "enter" && q.typed == fmt.Sprint(q.changes):
		q.busy = true
		return one(s.call(q, false))
	}
	return nil
}

func (s *screen) questionLines() []string {
	q := s.question
	verb := strings.ToUpper(q.op[:1]) + q.op[1:]
	lines := []string{
		s.spans(view.Span{Text: fmt.Sprintf("%s %s?", verb, q.what), Style: view.Bold}),
	}
	text := ""
	switch {
	case q.busy:
		text = "…"
	case !q.tried:
		text = "looking what would change"
	case q.changes == 0:
		text = fmt.Sprintf(
			"%s, and none would change. n closes this",
			view.Counted(q.total, q.kind),
		)
	case q.changes > typedAbove:
		text = fmt.Sprintf(
			"%s, %d change. Type %d and ⏎, or n: %s▏",
			view.Counted(q.total, q.kind),
			q.changes,
			q.changes,
			q.typed,
		)
	default:
		text = fmt.Sprintf(
			"%s, %d change. y does it, n keeps it as it is",
			view.Counted(q.total, q.kind),
			q.changes,
		)
	}
	return append(lines, s.spans(view.Span{Text: text}))
}
