package top

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"jobserver/view"
)

// marks say which jobs a change is about when it isn't only the current one: some, or all that the
// selector matches, also those that are not on the screen.
type marks struct {
	ids map[uint64]bool
	all bool
}

// toggle marks a job, or no longer.
func (m *marks) toggle(id uint64) {
	if m.all = false; m.ids[id] {
		delete(m.ids, id)
		return
	}
	if m.ids == nil {
		m.ids = map[uint64]bool{}
	}
	m.ids[id] = true
}

// has says whether a job is marked.
func (m *marks) has(id uint64) bool { return m.all || m.ids[id] }

// text says what is marked.
func (m *marks) text() string {
	switch {
	case m.all:
		return "all that match"
	case len(m.ids) > 0:
		return fmt.Sprintf("%d marked", len(m.ids))
	}
	return ""
}

// chosen are the selectors of what a change is about, and what it is in words.
func (p *jobs) chosen() (selectors []string, what string) {
	switch id := p.selected(); {
	case p.all:
		return p.words, "all that match " + strings.Join(p.words, " ")
	case len(p.ids) > 0:
		for _, id := range slices.Sorted(maps.Keys(p.ids)) {
			selectors = append(selectors, fmt.Sprint(id))
		}
		if len(selectors) == 1 {
			return selectors, "job " + selectors[0]
		}
		return selectors, view.Counted(len(selectors), "marked job")
	case id != 0:
		return []string{fmt.Sprint(id)}, fmt.Sprintf("job %d", id)
	}
	return nil, ""
}

// mark marks the current job and goes on to the next one.
func (s *screen) mark() []effect {
	p, ok := s.current().(*jobs)
	if !ok || p.selected() == 0 {
		return nil
	}
	p.toggle(p.selected())
	p.set(p.at + 1)
	return nil
}

// markAll marks all jobs that the selector matches, or no longer.
func (s *screen) markAll() []effect {
	p, ok := s.current().(*jobs)
	switch {
	case !ok:
	case len(p.words) == 0:
		s.said = "all jobs can't be marked: / takes a selector first, as :waiting or class=gpu"
	default:
		p.marks = marks{all: !p.all}
	}
	return nil
}

// showJobs shows the jobs that selectors match, from the newest with an id below before (0: of all)
// down.
func (s *screen) showJobs(words []string, before uint64) []effect {
	s.close()
	list := s.panes[paneJobs].(*jobs)
	*list = jobs{words: words, before: before}
	s.pane = paneJobs
	return one(list.fetch(s))
}
