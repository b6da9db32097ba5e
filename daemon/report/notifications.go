// Package report tells people and programs what happens: messages, metrics, and what the daemon
// looks for beside its work. All of it follows the scheduler's events at a pace of its own, so that
// the scheduler waits for nobody.
package report

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"jobserver/daemon/wire"
	"jobserver/notify"
	"jobserver/sched"
)

// The variables that say where notifications go.
const (
	slackVariable     = "SLACK_API"
	slackUserVariable = "SLACK_USER"
	webhookVariable   = "WEBHOOK"
)

// Notifications are made of the scheduler's events. What belongs to Run's goroutine is below that
// line.
type Notifications struct {
	now      func() time.Time
	log      *slog.Logger
	notifier *notify.Notifier
	wanted   map[notify.Kind]bool
	cursor   uint64 // of the events
	loop     *sched.Loop

	// Run's own:
	ended   map[uint64]bool      // matrices whose end was told
	failed  map[uint64]bool      // matrices whose first failure was told
	waiting bool                 // jobs were waiting at the last look
	accused map[string]time.Time // machines, and when it was told last that they fail
}

// NotificationOptions say what is told to whom, and when.
type NotificationOptions struct {
	Modes    map[notify.Kind]notify.Mode
	Commands []notify.Command // of --on
	Interval time.Duration    // between two summaries
	Now      func() time.Time
	Log      *slog.Logger
}

// NewNotifications checks the options. The state is looked at before anything happens to it: what
// has ended before isn't told again.
func NewNotifications(o NotificationOptions, state *sched.State) (*Notifications, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "" // messages do without it
	}
	n := &Notifications{
		now: o.Now, log: o.Log, cursor: state.Changes(),
		wanted: map[notify.Kind]bool{}, ended: map[uint64]bool{}, failed: map[uint64]bool{},
	}
	n.notifier, err = notify.New(notify.Options{
		Modes: o.Modes, Commands: o.Commands, Interval: o.Interval, Host: host, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	for kind, mode := range o.Modes {
		n.wanted[kind] = mode != notify.Off
	}
	for _, command := range o.Commands {
		n.wanted[command.Kind] = true
	}
	for _, id := range state.Matrices() {
		_, counts := state.Matrix(id)
		n.ended[id] = counts.Unfinished() == 0
		n.failed[id] = counts.By[sched.Failed]+counts.By[sched.Lost] > 0
	}
	counts := state.Counts()
	n.waiting = counts.By[sched.Waiting] > 0
	n.notifier.Direct(targets(state))
	return n, nil
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
	}
	t.Secrets = wire.Secrets(state)
	return t
}

// Stats count what was sent.
func (n *Notifications) Stats() notify.Stats { return n.notifier.Stats() }

// Wants tells whether anybody hears of events of a kind.
func (n *Notifications) Wants(kind notify.Kind) bool { return n.wanted[kind] }

// Send sends what was found to tell, until ctx ends.
func (n *Notifications) Send(ctx context.Context) { n.notifier.Run(ctx) }

// Follow follows the loop's events until ctx ends.
func (n *Notifications) Follow(ctx context.Context, loop *sched.Loop) {
	n.loop = loop
	loop.Events().Follow(ctx, n.cursor, func(events []sched.Event, gap bool) bool {
		if gap {
			n.log.Warn("events came faster than they could be told; some are left out")
			if !n.catchUp(ctx) {
				return false
			}
		}
		return n.take(ctx, events)
	})
}

// catchUp makes up for missed events, as far as the state still shows what they told: where
// messages go now, and what must not be in them, before anything is told; and in any matrix the
// last job may have ended, or the first failed. It returns false when the loop has stopped.
func (n *Notifications) catchUp(ctx context.Context) bool {
	var ids []uint64
	err := n.loop.Read(ctx, func(st *sched.State) {
		n.notifier.Direct(targets(st))
		ids = st.Matrices()
	})
	if err != nil {
		return false
	}
	forgotten := func(id uint64, _ bool) bool {
		_, known := slices.BinarySearch(ids, id)
		return !known
	}
	maps.DeleteFunc(n.ended, forgotten)
	maps.DeleteFunc(n.failed, forgotten)
	for page := range slices.Chunk(ids, sched.MaxPage) {
		var found []notify.Event
		if err := n.loop.Read(ctx,
			func(st *sched.State) {
				found = append(n.failures(st, page), n.ends(st, page)...)
			}); err != nil {
			return false
		}
		n.notifier.Add(found...)
	}
	var found []notify.Event
	err = n.loop.Read(ctx, func(st *sched.State) { found = n.queue(st) })
	n.notifier.Add(found...)
	return err == nil
}

// take tells of events; it returns false when the loop has stopped.
func (n *Notifications) take(ctx context.Context, events []sched.Event) bool {
	var matrices []uint64 // in which something has ended
	jobs, variables := false, false
	for i := range events {
		e := &events[i]
		jobs = jobs || e.Job != 0
		switch e.Kind {
		case sched.EventVariableSet, sched.EventVariableUnset:
			variables = true
		}
		if e.Matrix != 0 && e.Job != 0 && !slices.Contains(matrices, e.Matrix) {
			matrices = append(matrices, e.Matrix)
		}
	}
	var found []notify.Event
	var err error
	if variables || len(matrices) > 0 || jobs && n.wanted[notify.QueueEmpty] {
		err = n.loop.Read(ctx, func(st *sched.State) {
			if variables { // a secret is one before anything after it is told
				n.notifier.Direct(targets(st))
			}
			found = append(n.ends(st, matrices), n.queue(st)...)
		})
	}
	for i := range events {
		e := &events[i]
		n.notifier.Add(n.ofEvent(e)...)
		if e.Kind == sched.EventMatrixForgotten {
			delete(n.ended, e.Matrix)
			delete(n.failed, e.Matrix)
		}
	}
	n.notifier.Add(found...)
	return err == nil
}

// ofEvent are the notifications of one event.
func (n *Notifications) ofEvent(e *sched.Event) []notify.Event {
	about := func(kind notify.Kind) notify.Event {
		out := notify.Event{Kind: kind, At: e.At, Job: e.Job, Attempt: e.Attempt,
			Machine: e.Machine, Matrix: e.Matrix, Class: e.Class,
			Text: e.Text}
		if kind == notify.Fail || kind == notify.MatrixFail || kind == notify.MachineAway {
			out.Cause = e.Cause
		}
		if e.Status != 0 {
			out.Status = sched.StatusName(e.Status)
		}
		// A matrix that was asked for is told of as a whole.
		out.Asked = e.Notify && e.Matrix == 0 &&
			(kind == notify.Fail || kind == notify.Copied || kind == notify.Complete &&
				e.Status == sched.Done)
		return out
	}
	switch e.Kind {
	case sched.EventJobRunning:
		if e.Step == 0 {
			return []notify.Event{about(notify.Running)}
		}
	case sched.EventJobDone, sched.EventJobCopying:
		if e.Ended {
			return []notify.Event{about(notify.Complete)}
		}
	case sched.EventJobCopied:
		return []notify.Event{about(notify.Copied)}
	case sched.EventJobCopyFailed:
		return []notify.Event{about(notify.Fail)}
	case sched.EventJobFailed, sched.EventJobLost:
		return append([]notify.Event{about(notify.Fail)}, n.firstFailure(e, about)...)
	case sched.EventJobBlocked:
		return []notify.Event{about(notify.Fail)}
	case sched.EventJobHeld:
		if e.Warn { // an input can't be had
			return []notify.Event{about(notify.Fail)}
		}
	case sched.EventJobCanceled:
		if e.Uprooted || e.Cause != "" && e.Warn { // nobody asked for it
			return []notify.Event{about(notify.Fail)}
		}
	case sched.EventJobRetried:
		if e.Ended && !e.Uprooted {
			return n.firstFailure(e, about)
		}
	case sched.EventMachineBroken, sched.EventProviderResting:
		return []notify.Event{about(notify.MachineBroken)}
	case sched.EventMachineSuspect, sched.EventMachineResting:
		if n.accuse(e) {
			return []notify.Event{about(notify.MachineBroken)}
		}
	case sched.NoticeAway, sched.NoticeBack:
		return []notify.Event{about(notify.MachineAway)}
	case sched.NoticeSilent:
		return []notify.Event{about(notify.Silent)}
	case sched.NoticeDisk, sched.NoticeUnsaved:
		return []notify.Event{about(notify.DiskLow)}
	case sched.EventMatrixHeld:
		if e.Warn { // by the rule for work that fails everywhere
			return []notify.Event{about(notify.MatrixFail)}
		}
	}
	return nil
}

// accusedAgain is how long nobody is told that a machine fails who was told before: where
// bad commands can't be told from a bad machine, it becomes suspect over and over.
const accusedAgain = time.Hour

// accuse says whether to tell that a machine fails.
func (n *Notifications) accuse(e *sched.Event) bool {
	if last, told := n.accused[e.Machine]; told && e.At.Sub(last) < accusedAgain {
		return false
	}
	if n.accused == nil {
		n.accused = map[string]time.Time{}
	}
	n.accused[e.Machine] = e.At
	return true
}

// firstFailure tells of a failed attempt if it is the first of its matrix.
func (n *Notifications) firstFailure(
	e *sched.Event, about func(notify.Kind) notify.Event,
) []notify.Event {
	if e.Matrix == 0 || n.failed[e.Matrix] {
		return nil
	}
	n.failed[e.Matrix] = true
	first := about(notify.MatrixFail)
	first.Asked = e.Notify
	first.Text = fmt.Sprintf("the first failure in matrix %d: %s", e.Matrix, e.Text)
	return []notify.Event{first}
}

// failures tells of matrices in which the first job has failed, once each.
func (n *Notifications) failures(st *sched.State, matrices []uint64) []notify.Event {
	var events []notify.Event
	for _, id := range matrices {
		m, counts := st.Matrix(id)
		if m == nil || n.failed[id] || counts.By[sched.Failed]+counts.By[sched.Lost] == 0 {
			continue
		}
		n.failed[id] = true
		events = append(events,
			notify.Event{Kind: notify.MatrixFail, At: n.now(), Matrix: id, Class: m.Template.Class,
				Asked: m.Template.Notify,
				Text:  fmt.Sprintf("there are failures in matrix %d: %s", id, countsText(&counts))})
	}
	return events
}

// ends tells of matrices of which no job is left to end, once each time.
func (n *Notifications) ends(st *sched.State, matrices []uint64) []notify.Event {
	var events []notify.Event
	for _, id := range matrices {
		m, counts := st.Matrix(id)
		if m == nil {
			continue
		}
		over := counts.Unfinished() == 0
		if over && !n.ended[id] {
			name := fmt.Sprintf("matrix %d", id)
			if m.Name != "" {
				name += " (" + m.Name + ")"
			}
			events = append(events,
				notify.Event{Kind: notify.MatrixDone, At: n.now(), Matrix: id,
					Class: m.Template.Class,
					Asked: m.Template.Notify, Text: name + " has ended: " + countsText(&counts)})
		}
		n.ended[id] = over
	}
	return events
}

// queue tells when no job waits any more.
func (n *Notifications) queue(st *sched.State) []notify.Event {
	counts := st.Counts()
	before := n.waiting
	n.waiting = counts.By[sched.Waiting] > 0
	if n.waiting || !before {
		return nil
	}
	return []notify.Event{{Kind: notify.QueueEmpty, At: n.now(),
		Text: fmt.Sprintf("no job is waiting; %d still run",
			counts.By[sched.Running]+counts.By[sched.Copying])}}
}

// countsText tells how jobs ended.
func countsText(counts *sched.Counts) string {
	var parts []string
	for _, status := range []sched.Status{sched.Done, sched.Failed, sched.Canceled, sched.Lost} {
		if k := counts.By[status]; k > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", k, sched.StatusName(status)))
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
