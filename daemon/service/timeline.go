package service

import (
	"context"
	"fmt"
	"sync"
	"time"

	"jobserver/api"
	"jobserver/sched"
	"jobserver/timeline"
)

// Timelines keeps the index of all attempts while somebody looks at it: it is made when it is first
// asked for, outside of the scheduler's loop, then follows the events, and is dropped when nobody
// has asked for a while.
type Timelines struct {
	loop *sched.Loop
	now  func() time.Time
	idle time.Duration // after which it is dropped

	wanted chan struct{} // room for one: somebody asks, and there is none

	mu    sync.Mutex
	shown *indexed
	asked time.Time
}

// indexed is an index, complete or in the making.
type indexed struct {
	index *timeline.Index
	ready chan struct{} // closed when it is complete, or given up; then err says
	err   error

	mu     sync.Mutex
	share  float64 // that is made
	since  time.Time
	absent []api.Absence
	cursor uint64        // it has what happened up to here
	moved  chan struct{} // closed when cursor has moved, or won't any more
	gone   bool          // it isn't kept up to date any more
}

// moveTo says how far the index is.
func (x *indexed) moveTo(cursor uint64, gone bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cursor, x.gone = cursor, gone
	close(x.moved)
	x.moved = make(chan struct{})
}

// reaches waits until the index has what happened up to a cursor, and says whether it does.
func (x *indexed) reaches(ctx context.Context, cursor uint64) bool {
	for {
		x.mu.Lock()
		at, moved, gone := x.cursor, x.moved, x.gone
		x.mu.Unlock()
		if at >= cursor || gone {
			return at >= cursor
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// timelineIdle is how long an index of which nobody asks is kept.
const timelineIdle = 10 * time.Minute

// NewTimelines makes one. It answers while Run runs.
func NewTimelines(loop *sched.Loop, now func() time.Time) *Timelines {
	return &Timelines{loop: loop, now: now, idle: timelineIdle, wanted: make(chan struct{}, 1)}
}

// Run makes indexes when they are wanted, until ctx ends.
func (t *Timelines) Run(ctx context.Context) {
	for {
		select {
		case <-t.wanted:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		shown := t.shown
		t.mu.Unlock()
		if shown != nil {
			t.follow(ctx, shown)
		}
	}
}

// get gives the index, and has it made when there is none.
func (t *Timelines) get() *indexed {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = t.now()
	if t.shown == nil {
		t.shown = &indexed{
			index: timeline.New(),
			ready: make(chan struct{}),
			moved: make(chan struct{}),
		}
		select {
		case t.wanted <- struct{}{}:
		default:
		}
	}
	return t.shown
}

// drop forgets an index, so that the next who asks has another one made.
func (t *Timelines) drop(x *indexed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown == x {
		t.shown = nil
	}
}

// follow makes an index and keeps it up to date until nobody asks for it or ctx ends.
func (t *Timelines) follow(ctx context.Context, x *indexed) {
	cursor, err := t.build(ctx, x)
	defer func() {
		t.drop(x)
		x.moveTo(cursor, true)
	}()
	x.err = err
	x.moveTo(cursor, false)
	close(x.ready)
	for err == nil {
		wait, cancel := context.WithTimeout(ctx, t.idle)
		events, next, gap, err := t.loop.Events().After(wait, cursor, sched.MaxPage)
		cancel()
		t.mu.Lock()
		unused := t.now().Sub(t.asked) >= t.idle
		t.mu.Unlock()
		if err != nil || gap || unused || ctx.Err() != nil {
			return
		}
		cursor = next
		for i := range events {
			x.see(&events[i])
		}
		x.moveTo(cursor, false)
	}
}

// build reads the history. What it adds is of the state at the cursor that it gives.
func (t *Timelines) build(ctx context.Context, x *indexed) (cursor uint64, err error) {
	var history *sched.SpanHistory
	if err := t.loop.Read(ctx, func(st *sched.State) {
		history, cursor = st.SpanHistory(), st.Changes()
	}); err != nil {
		return 0, err
	}
	defer history.Close()
	var spans []sched.Span
	for piece := range history.Pieces() {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if spans, err = history.Piece(piece, spans[:0]); err != nil {
			return 0, err
		}
		for i := range spans {
			x.index.Add(timelineSpan(&spans[i], 0))
		}
		x.mu.Lock()
		x.share = float64(piece+1) / float64(history.Pieces())
		x.mu.Unlock()
	}
	x.absences(t.loop.Events())
	return cursor, nil
}

// absences notes when machines were away, as far back as the events tell.
func (x *indexed) absences(events *sched.Events) {
	none, cancel := context.WithCancel(context.Background())
	cancel()
	for cursor := uint64(0); ; {
		kept, next, _, err := events.After(none, cursor, sched.MaxPage)
		if err != nil || len(kept) == 0 {
			return
		}
		cursor = next
		for i := range kept {
			x.note(&kept[i])
		}
	}
}

// see takes an event that came after the index was made.
func (x *indexed) see(e *sched.Event) {
	for i := range e.Spans {
		x.index.Add(timelineSpan(&e.Spans[i], 0))
	}
	x.note(e)
}

// maxAbsences is how many are remembered.
const maxAbsences = 10_000

// note takes from an event what it says of a machine's absence.
func (x *indexed) note(e *sched.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.since.IsZero() {
		x.since = e.At
	}
	switch e.Kind {
	case sched.NoticeAway:
		x.absent = append(x.absent, api.Absence{Machine: e.Machine, From: e.At})
		if len(x.absent) > maxAbsences {
			x.absent = append([]api.Absence(nil), x.absent[maxAbsences/2:]...)
		}
	case sched.NoticeBack, "machine.removed":
		for i := len(x.absent) - 1; i >= 0; i-- {
			if a := &x.absent[i]; a.Machine == e.Machine && a.To.IsZero() {
				a.To = e.At
				break
			}
		}
	}
}

var timelineOutcomes = map[sched.Status]timeline.Outcome{
	sched.Running: timeline.Running, sched.Done: timeline.Done, sched.Failed: timeline.Failed,
	sched.Canceled: timeline.Canceled, sched.Lost: timeline.Lost,
}

// timelineSpan is an attempt as the index has it; one that runs ends now, in ms.
func timelineSpan(s *sched.Span, now int64) timeline.Span {
	start, end := s.Began/int64(time.Millisecond), s.Ended/int64(time.Millisecond)
	if s.Ended == 0 {
		end = max(now, start) + 1 // what has just begun takes some time, too
	}
	return timeline.Span{
		Job: s.Job, Attempt: s.Attempt, Machine: s.Machine, Start: start, End: end,
		Outcome: timelineOutcomes[s.Status],
	}
}

// Limits of a timeline.
const (
	maxColumns = 2_000
	maxSpans   = 5_000
)

// Timeline says when attempts ran.
func (s *service) Timeline(args *api.TimelineArgs, reply *api.TimelineReply, turn api.Turn) error {
	ctx, cancel := context.WithTimeout(s.ctx, min(max(args.Wait, 0), maxWait))
	defer cancel()
	for {
		x := s.Timelines.get()
		select {
		case <-x.ready:
		case <-ctx.Done():
			x.mu.Lock()
			reply.Ready = x.share
			x.mu.Unlock()
			return s.ctx.Err()
		}
		if x.err != nil {
			return fmt.Errorf("make the timeline: %w", x.err)
		}
		if err := turn(); err != nil {
			return err
		}
		now := s.Now().UnixMilli()
		query, running, classes, err := s.timelineRows(args, now, reply)
		if err != nil {
			return err
		}
		// What has ended by now is no longer among those that run: the index has to have it.
		if x.reaches(ctx, reply.Cursor) {
			x.draw(args, query, running, classes, now, reply)
			return nil
		}
		if ctx.Err() != nil {
			return s.ctx.Err() // Ready is 0: ask again
		}
	}
}

// draw fills in the picture.
func (x *indexed) draw(
	args *api.TimelineArgs,
	query timeline.Query,
	running []timeline.Span,
	classes map[string]string,
	now int64,
	reply *api.TimelineReply,
) {
	view := x.index.View()
	running = view.Without(running)
	first, _, known := view.Bounds()
	for i := range running {
		if !known || running[i].Start < first {
			first, known = running[i].Start, true
		}
	}
	if known {
		reply.First = time.UnixMilli(first)
	} else {
		first = now - time.Hour.Milliseconds()
	}
	query.From, query.To = first, now+1 // what has just begun is in it
	if !args.From.IsZero() {
		query.From = args.From.UnixMilli()
	}
	if !args.To.IsZero() {
		query.To = args.To.UnixMilli()
	}
	if args.Clip && known {
		query.From = max(query.From, first-(query.To-first)/50)
	}
	query.To = max(query.To, query.From+1)
	query.Columns = min(max(args.Columns, 1), maxColumns)
	query.Spans = min(max(args.Spans, 0), maxSpans)
	reply.Ready, reply.Columns = 1, query.Columns
	reply.From, reply.To = time.UnixMilli(query.From), time.UnixMilli(query.To)
	fillTimeline(reply, view.Draw(query, running), classes)
	x.mu.Lock()
	defer x.mu.Unlock()
	reply.Since = x.since
	for _, a := range x.absent {
		if a.From.Before(reply.To) && (a.To.IsZero() || a.To.After(reply.From)) {
			reply.Absent = append(reply.Absent, a)
		}
	}
}

// timelineRows are the machines that have rows, and the attempts under way.
func (s *service) timelineRows(args *api.TimelineArgs, now int64, reply *api.TimelineReply) (
	query timeline.Query, running []timeline.Span, classes map[string]string, err error,
) {
	query.Only = len(args.Machines)+len(args.Classes) > 0
	classes = map[string]string{}
	err = s.read(func(st *sched.State) error {
		reply.Cursor = st.Changes()
		addrs, err := st.SelectMachines(args.Machines, args.Classes)
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			m, _ := st.Machine(addr)
			classes[addr] = m.Class
			query.Rows = append(query.Rows, timeline.Row{Machine: addr, Slots: int(m.Slots)})
		}
		spans := st.RunningSpans()
		for i := range spans {
			running = append(running, timelineSpan(&spans[i], now))
		}
		return nil
	})
	return query, running, classes, err
}

func fillTimeline(reply *api.TimelineReply, p timeline.Picture, classes map[string]string) {
	reply.Total = p.Total
	for i := range p.Rows {
		r := &p.Rows[i]
		reply.Rows = append(reply.Rows, api.TimelineRow{
			Machine: r.Machine, Class: classes[r.Machine], Slots: r.Slots,
			Running: r.Shares[timeline.Running], Done: r.Shares[timeline.Done],
			Canceled: r.Shares[timeline.Canceled], Lost: r.Shares[timeline.Lost],
			Failed: r.Shares[timeline.Failed],
		})
	}
	numbers := map[string]int{}
	names := map[timeline.Outcome]string{}
	for status, outcome := range timelineOutcomes {
		names[outcome] = sched.StatusName(status)
	}
	for i := range p.Spans {
		s := &p.Spans[i]
		number, ok := numbers[s.Machine]
		if !ok {
			number = len(reply.Machines)
			numbers[s.Machine] = number
			reply.Machines = append(reply.Machines, s.Machine)
		}
		reply.Spans = append(reply.Spans, api.TimelineSpan{
			Machine: number, JID: s.Job, Attempt: s.Attempt, Start: s.Start, End: s.End,
			Status: names[s.Outcome],
		})
	}
}
