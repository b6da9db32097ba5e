package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/notify"
	"jobserver/sched"
)

// The variables that say where notifications go.
const (
	slackVariable     = "SLACK_API"
	slackUserVariable = "SLACK_USER"
	webhookVariable   = "WEBHOOK"
)

// teller makes notifications of the scheduler's events. It follows them at its own pace, so that the
// scheduler never waits for it. What belongs to its goroutine, run's, is below that line.
type teller struct {
	p        *daemonParts
	notifier *notify.Notifier
	wanted   map[notify.Kind]bool
	cursor   uint64 // of the events

	// run's own:
	ended   map[uint64]bool // matrices whose end was told
	failed  map[uint64]bool // matrices whose first failure was told
	waiting bool            // jobs were waiting at the last look
}

// newTeller checks the flags. The state is looked at before
// anything happens to it: what has ended before isn't told again.
func newTeller(p *daemonParts, state *sched.State) (*teller, error) {
	c := &p.settings
	commands, err := commandsOn(c.On)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // messages do without it
	}
	t := &teller{p: p, wanted: map[notify.Kind]bool{}, ended: map[uint64]bool{}, failed: map[uint64]bool{}, cursor: state.Changes()}
	modes := c.Notify.modes()
	t.notifier, err = notify.New(notify.Options{
		Modes: modes, Commands: commands, Interval: c.SummaryInterval.Duration, Host: host, Log: p.log.Logger("server::notify"),
	})
	if err != nil {
		return nil, api.Errorf(api.Usage, "%v", err)
	}
	for kind, mode := range modes {
		t.wanted[kind] = mode != notify.Off
	}
	for _, command := range commands {
		t.wanted[command.Kind] = true
	}
	for _, id := range state.Matrices() {
		_, counts := state.Matrix(id)
		t.ended[id] = counts.Unfinished() == 0
		t.failed[id] = counts.By[sched.Failed]+counts.By[sched.Lost] > 0
	}
	counts := state.Counts()
	t.waiting = counts.By[sched.Waiting] > 0
	t.notifier.Direct(targets(state))
	return t, nil
}

// targets are where messages go, and what they must not contain.
func targets(state *sched.State) notify.Targets {
	var t notify.Targets
	for _, v := range state.Vars() {
		value := strings.TrimSpace(string(v.Value))
		switch v.Name {
		case slackVariable:
			t.Slack = value
		case slackUserVariable:
			t.SlackUser = value
		case webhookVariable:
			t.Webhook = value
		}
		if v.Secret {
			t.Secrets = append(t.Secrets, value)
		}
	}
	return t
}

// run follows the events until ctx ends.
func (t *teller) run(ctx context.Context) {
	cursor := t.cursor
	for {
		events, next, gap, err := t.p.loop.Events().After(ctx, cursor, 1000)
		if err != nil || ctx.Err() != nil {
			return
		}
		if gap {
			t.p.log.Logger("server::notify").Warn("events came faster than they could be told; some are left out")
			if !t.catchUp(ctx) {
				return
			}
		}
		if !t.take(ctx, events) {
			return
		}
		cursor = next
	}
}

// catchUp makes good for events that were missed, as far as the state still shows what they told: where messages go now, and
// what must not be in them, before anything is told; and in any matrix the last job may have ended, or the first failed. It
// returns false when the loop has stopped.
func (t *teller) catchUp(ctx context.Context) bool {
	var ids []uint64
	err := t.p.loop.Read(ctx, func(st *sched.State) {
		t.notifier.Direct(targets(st))
		ids = st.Matrices()
	})
	if err != nil {
		return false
	}
	forgotten := func(id uint64, _ bool) bool {
		_, known := slices.BinarySearch(ids, id)
		return !known
	}
	maps.DeleteFunc(t.ended, forgotten)
	maps.DeleteFunc(t.failed, forgotten)
	for page := range slices.Chunk(ids, sched.MaxPage) {
		var found []notify.Event
		if err := t.p.loop.Read(ctx, func(st *sched.State) { found = append(t.failures(st, page), t.ends(st, page)...) }); err != nil {
			return false
		}
		t.notifier.Add(found...)
	}
	var found []notify.Event
	err = t.p.loop.Read(ctx, func(st *sched.State) { found = t.queue(st) })
	t.notifier.Add(found...)
	return err == nil
}

// take tells of events; it returns false when the loop has stopped.
func (t *teller) take(ctx context.Context, events []sched.Event) bool {
	var matrices []uint64 // in which something has ended
	jobs, variables := false, false
	for i := range events {
		e := &events[i]
		jobs = jobs || e.Job != 0
		switch e.Kind {
		case "variable.set", "variable.unset":
			variables = true
		}
		if e.Matrix != 0 && e.Job != 0 && !slices.Contains(matrices, e.Matrix) {
			matrices = append(matrices, e.Matrix)
		}
	}
	var found []notify.Event
	var err error
	if variables || len(matrices) > 0 || jobs && t.wanted[notify.QueueEmpty] {
		err = t.p.loop.Read(ctx, func(st *sched.State) {
			if variables { // a secret is one before anything after it is told
				t.notifier.Direct(targets(st))
			}
			found = append(t.ends(st, matrices), t.queue(st)...)
		})
	}
	for i := range events {
		e := &events[i]
		t.notifier.Add(t.told(e)...)
		if e.Kind == "matrix.forgotten" {
			delete(t.ended, e.Matrix)
			delete(t.failed, e.Matrix)
		}
	}
	t.notifier.Add(found...)
	return err == nil
}

// told are the notifications of one event.
func (t *teller) told(e *sched.Event) []notify.Event {
	about := func(kind notify.Kind) notify.Event {
		out := notify.Event{Kind: kind, At: e.At, Job: e.Job, Attempt: e.Attempt, Machine: e.Machine, Matrix: e.Matrix, Class: e.Class,
			Text: e.Text}
		if kind == notify.Fail || kind == notify.MatrixFail || kind == notify.MachineAway {
			out.Cause = e.Cause
		}
		if e.Status != 0 {
			out.Status = sched.StatusName(e.Status)
		}
		// A matrix that was asked for is told of as a whole.
		out.Asked = e.Notify && e.Matrix == 0 && (kind == notify.Fail || kind == notify.Copied || kind == notify.Complete && e.Status == sched.Done)
		return out
	}
	switch e.Kind {
	case "job.running":
		if e.Step == 0 {
			return []notify.Event{about(notify.Running)}
		}
	case "job.done", "job.copying":
		if e.Ended {
			return []notify.Event{about(notify.Complete)}
		}
	case "job.copied":
		return []notify.Event{about(notify.Copied)}
	case "job.copy-failed":
		return []notify.Event{about(notify.Fail)}
	case "job.failed", "job.lost":
		return append([]notify.Event{about(notify.Fail)}, t.firstFailure(e, about)...)
	case "job.canceled":
		if e.Uprooted {
			return []notify.Event{about(notify.Fail)}
		}
	case "job.retried":
		if e.Ended && !e.Uprooted {
			return t.firstFailure(e, about)
		}
	case "machine.broken":
		return []notify.Event{about(notify.MachineBroken)}
	case sched.NoticeAway, sched.NoticeBack:
		return []notify.Event{about(notify.MachineAway)}
	case sched.NoticeSilent:
		return []notify.Event{about(notify.Silent)}
	case sched.NoticeDisk, sched.NoticeUnsaved:
		return []notify.Event{about(notify.DiskLow)}
	case "matrix.held":
		if e.Warn { // by the rule for work that fails everywhere
			return []notify.Event{about(notify.MatrixFail)}
		}
	}
	return nil
}

// firstFailure tells of a failed attempt if it is the first of its matrix.
func (t *teller) firstFailure(e *sched.Event, about func(notify.Kind) notify.Event) []notify.Event {
	if e.Matrix == 0 || t.failed[e.Matrix] {
		return nil
	}
	t.failed[e.Matrix] = true
	first := about(notify.MatrixFail)
	first.Asked = e.Notify
	first.Text = fmt.Sprintf("the first failure in matrix %d: %s", e.Matrix, e.Text)
	return []notify.Event{first}
}

// failures tells of matrices in which the first job has failed, once each.
func (t *teller) failures(st *sched.State, matrices []uint64) []notify.Event {
	var events []notify.Event
	for _, id := range matrices {
		m, counts := st.Matrix(id)
		if m == nil || t.failed[id] || counts.By[sched.Failed]+counts.By[sched.Lost] == 0 {
			continue
		}
		t.failed[id] = true
		events = append(events, notify.Event{Kind: notify.MatrixFail, At: t.p.now(), Matrix: id, Class: m.Template.Class,
			Asked: m.Template.Notify, Text: fmt.Sprintf("there are failures in matrix %d: %s", id, countsText(&counts))})
	}
	return events
}

// ends tells of matrices of which no job is left to end, once each time.
func (t *teller) ends(st *sched.State, matrices []uint64) []notify.Event {
	var events []notify.Event
	for _, id := range matrices {
		m, counts := st.Matrix(id)
		if m == nil {
			continue
		}
		over := counts.Unfinished() == 0
		if over && !t.ended[id] {
			name := fmt.Sprintf("matrix %d", id)
			if m.Name != "" {
				name += " (" + m.Name + ")"
			}
			events = append(events, notify.Event{Kind: notify.MatrixDone, At: t.p.now(), Matrix: id, Class: m.Template.Class,
				Asked: m.Template.Notify, Text: name + " has ended: " + countsText(&counts)})
		}
		t.ended[id] = over
	}
	return events
}

// queue tells when no job waits any more.
func (t *teller) queue(st *sched.State) []notify.Event {
	counts := st.Counts()
	before := t.waiting
	t.waiting = counts.By[sched.Waiting] > 0
	if t.waiting || !before {
		return nil
	}
	return []notify.Event{{Kind: notify.QueueEmpty, At: t.p.now(),
		Text: fmt.Sprintf("no job waits any more; %d still run", counts.By[sched.Running]+counts.By[sched.Copying])}}
}

// countsText tells how jobs ended.
func countsText(counts *sched.Counts) string {
	var parts []string
	for _, status := range []sched.Status{sched.Done, sched.Failed, sched.Canceled, sched.Lost} {
		if n := counts.By[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, sched.StatusName(status)))
		}
	}
	if counts.Uncopied > 0 {
		parts = append(parts, fmt.Sprintf("the results of %d not copied", counts.Uncopied))
	}
	if parts == nil {
		return "no job is left"
	}
	return strings.Join(parts, ", ")
}
