package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

const (
	// keptEvents is how many events of a group are kept, the first; the others are only counted.
	keptEvents = 50
	// keptCauses is how many causes of a group are told apart.
	keptCauses = 20
	// shownEvents is how many events of a group its text tells.
	shownEvents = 5
)

// Message is a group of events of one kind as programs get it: a webhook as the body of a POST, a
// command on its standard input. Text stands at the top, where Slack, Mattermost and others that
// take Slack's form look for it. When the group is a single event, its fields stand at the top as
// well.
type Message struct {
	Kind    Kind    `json:"event"`
	Count   int     `json:"count"`
	Text    string  `json:"text"`
	Host    string  `json:"host,omitempty"`
	Job     uint64  `json:"jid,omitempty"`
	Attempt int     `json:"attempt,omitempty"`
	Machine string  `json:"machine,omitempty"`
	Matrix  uint64  `json:"matrix,omitempty"`
	Class   string  `json:"class,omitempty"`
	Status  string  `json:"status,omitempty"`
	Cause   string  `json:"cause,omitempty"`
	Causes  []Tally `json:"causes,omitempty"`  // of several events, the most frequent first
	Events  []Event `json:"events"`            // the first 50
	Omitted int     `json:"omitted,omitempty"` // events that are only counted
}

// Tally says how often something was the cause.
type Tally struct {
	Cause string `json:"cause"`
	Count int    `json:"count"`
}

// group are events of one kind that are told together.
type group struct {
	kind   Kind
	count  int
	events []Event // the first ones
	causes []Tally // in the order in which they came
	asked  bool    // at least one was asked for
}

func (g *group) add(e Event) {
	g.count++
	g.asked = g.asked || e.Asked
	if len(g.events) < keptEvents {
		g.events = append(g.events, e)
	}
	if e.Cause != "" {
		g.tally(Tally{e.Cause, 1})
	}
}

func (g *group) tally(t Tally) {
	i := slices.IndexFunc(g.causes, func(o Tally) bool { return o.Cause == t.Cause })
	switch {
	case i >= 0:
		g.causes[i].Count += t.Count
	case len(g.causes) < keptCauses:
		g.causes = append(g.causes, t)
	case len(g.causes) == keptCauses:
		g.causes = append(g.causes, Tally{"other causes", t.Count})
	default:
		g.causes[keptCauses].Count += t.Count
	}
}

// join adds a later group of the kind.
func (g *group) join(later *group) {
	g.count += later.count
	g.asked = g.asked || later.asked
	g.events = append(g.events, later.events[:min(len(later.events), keptEvents-len(g.events))]...)
	for _, t := range later.causes {
		g.tally(t)
	}
}

// lines are the group in words: a sentence, and for several events the first of them.
func (g *group) lines() []string {
	if g.count == 1 {
		return []string{g.events[0].Text}
	}
	head := g.kind.headline(g.count)
	if causes := g.ranked(); len(causes) > 0 {
		var parts []string
		for _, t := range causes[:min(len(causes), shownEvents)] {
			parts = append(parts, fmt.Sprintf("%d: %s", t.Count, t.Cause))
		}
		if len(causes) > shownEvents {
			parts = append(parts, "…")
		}
		head += " (" + strings.Join(parts, "; ") + ")"
	}
	lines := []string{head}
	for _, e := range g.events[:min(len(g.events), shownEvents)] {
		lines = append(lines, "• "+e.Text)
	}
	if more := g.count - len(lines) + 1; more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	return lines
}

// ranked are the causes, the most frequent first.
func (g *group) ranked() []Tally {
	causes := slices.Clone(g.causes)
	slices.SortStableFunc(causes, func(a, b Tally) int { return cmp.Compare(b.Count, a.Count) })
	return causes
}

func (g *group) message(host string) *Message {
	m := &Message{
		Kind: g.kind, Count: g.count, Text: strings.Join(g.lines(), "\n"), Host: host,
		Events: g.events, Omitted: g.count - len(g.events),
	}
	if g.count > 1 {
		m.Causes = g.ranked()
		return m
	}
	e := &g.events[0]
	m.Job, m.Attempt, m.Machine, m.Matrix, m.Class, m.Status, m.Cause = e.Job, e.Attempt, e.Machine,
		e.Matrix, e.Class, e.Status, e.Cause
	return m
}

// outbox holds what is still to be told.
type outbox struct {
	mu     sync.Mutex
	groups map[Kind]*group // guarded by mu
}

func (o *outbox) add(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of(e.Kind).add(e)
}

// of is the group of a kind. mu is held.
func (o *outbox) of(k Kind) *group {
	if o.groups == nil {
		o.groups = map[Kind]*group{}
	}
	g := o.groups[k]
	if g == nil {
		g = &group{kind: k}
		o.groups[k] = g
	}
	return g
}

// take hands out all groups, what matters most first.
func (o *outbox) take() []*group {
	o.mu.Lock()
	defer o.mu.Unlock()
	var groups []*group
	for _, k := range kinds {
		if g := o.groups[k]; g != nil {
			groups = append(groups, g)
		}
	}
	o.groups = nil
	return groups
}

// putBack takes back what couldn't be told: it comes before what has been added since.
func (o *outbox) putBack(groups []*group) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range groups {
		if later := o.groups[g.kind]; later != nil {
			g.join(later)
		}
		o.of(g.kind)
		o.groups[g.kind] = g
	}
}
