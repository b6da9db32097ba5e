package sched

import (
	"strings"

	"jobserver/sched/statepb"
)

// Notice is what the daemon sees when it looks at intervals, since nothing that happens tells of
// it: a machine that stays away, a job that prints nothing, a disk that fills up. It is a change
// that changes nothing, so that it has its place among the events, and everybody who follows these
// hears of it.
type Notice struct {
	Kind    string // NoticeAway, …
	Machine string // "" : this host, or none
	Job     uint64
	Text    string
	Cause   string
	Warn    bool
}

// The kinds of notices, which are those of their events.
const (
	NoticeAway   = "machine.away"
	NoticeBack   = "machine.back"
	NoticeSilent = "job.silent"
	NoticeDisk   = "disk.low"
	// the loop's own: the journal grows, and each start takes longer
	NoticeUnsaved = "snapshot.failed"
)

// PlanNotice announces.
func PlanNotice(n Notice) Plan {
	return Plan{Changes: []*Change{{Noticed: &statepb.Noticed{
		Kind: n.Kind, Machine: n.Machine, Job: n.Job, Warn: n.Warn,
		Text: strings.ToValidUTF8(n.Text, "\uFFFD"), Cause: strings.ToValidUTF8(n.Cause, "\uFFFD"),
	}}}}
}

func (s *State) aboutNotice(e Event, n *statepb.Noticed) Event {
	if n.Job != 0 {
		e = s.aboutJob(e, n.Job, "%s", n.Text)
	}
	if m := s.machines[n.Machine]; m != nil && e.Class == "" {
		e.Class = m.Class
	}
	e.Kind, e.Machine, e.Text, e.Cause, e.Warn = n.Kind, n.Machine, n.Text, n.Cause, n.Warn
	return e
}
