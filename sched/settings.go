package sched

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	"jobserver/sched/statepb"
)

// What did the cells of a matrix run? The record of a job has the code and the daemon's variables
// that it was made with, but of many that have ended it can't be asked. So the matrix keeps a
// number for each of its jobs, as soon as they are not all alike: it is set aside with its template
// when another comes, for those that have a record by then, and with a job that runs a cell again.

// settingsOf gives the settings of a job of the matrix, or of its template.
func (m *matrix) settingsOf(j *statepb.Job) *statepb.Settings {
	out := &statepb.Settings{Code: j.Code}
	for _, v := range j.Vars {
		own := v.Name == "REPEAT" || v.Name == seedName ||
			slices.ContainsFunc(m.Axes, func(a *statepb.Axis) bool {
				return a.Name == v.Name
			})
		if !own {
			out.Vars = append(out.Vars, v)
		}
	}
	return out
}

// sameSettings compares code by what is in it: a commit that changes none of it is no other code.
func sameSettings(a, b *statepb.Settings) bool {
	return a.Code.GetHash() == b.Code.GetHash() &&
		slices.EqualFunc(a.Vars, b.Vars, func(x, y *statepb.Var) bool {
			return x.Name == y.Name && x.Secret == y.Secret && bytes.Equal(x.Value, y.Value)
		})
}

// settingsNumber is 0 for those of the template, and else their place in Ran, from 1.
func (m *matrix) settingsNumber(is *statepb.Settings) uint32 {
	if sameSettings(is, m.settingsOf(m.Template)) {
		return 0
	}
	return m.keep(is)
}

// keep is the place of settings in Ran, from 1.
func (m *matrix) keep(is *statepb.Settings) uint32 {
	for i, known := range m.Ran {
		if sameSettings(is, known) {
			return uint32(i) + 1
		}
	}
	m.Ran = append(m.Ran, is)
	return uint32(len(m.Ran))
}

// keepSettings notes what the jobs that have a record were made with, before the matrix gets
// another template.
func (m *matrix) keepSettings(next *statepb.Job) {
	old := m.settingsOf(m.Template)
	if sameSettings(old, m.settingsOf(next)) {
		return
	}
	number := uint32(0) // until one needs it: it stays
	numbered := func() uint32 {
		if number == 0 {
			number = m.keep(old)
		}
		return number
	}
	m.RanBy = append(m.RanBy, make([]uint32, int(m.Cells)-len(m.RanBy))...)
	for c := range m.RanBy {
		if m.RanBy[c] == 0 && m.isTouched(uint32(c)) {
			m.RanBy[c] = numbered()
		}
	}
	for _, r := range m.Restarted {
		if r.Ran == 0 {
			r.Ran = numbered()
		}
	}
}

// ranBy is the number of what the job that counts for a cell was made with.
func (m *matrix) ranBy(c uint32) uint32 {
	if len(m.again[c]) > 0 {
		job := m.counting(c)
		return m.Restarted[sort.Search(len(m.Restarted), func(i int) bool {
			return m.Restarted[i].Job >= job
		})].Ran
	}
	if int(c) < len(m.RanBy) {
		return m.RanBy[c]
	}
	return 0
}

// ran tells what cells that are done were made with.
type ran struct {
	*statepb.Settings
	cells int
}

// ranOf tells it in the order in which it came, the template's last.
func (s *State) ranOf(m *matrix) []ran {
	cells := make([]int, len(m.Ran)+1)
	for c := range m.Cells {
		if s.Status(m.counting(c)) == Done {
			cells[m.ranBy(c)]++
		}
	}
	var out []ran
	for i, is := range m.Ran {
		out = append(out, ran{is, cells[i+1]})
	}
	return append(out, ran{m.settingsOf(m.Template), cells[0]})
}

// otherSettings warns when cells that are done ran with other code than those to come, or with
// another value of a variable.
func (p *planner) otherSettings(m *matrix, want *statepb.Matrix) {
	done := p.s.ranOf(m)
	code := newTally(want.Template.Code.GetHash(), codeName(want.Template.Code))
	for _, r := range done {
		code.add(r.Code.GetHash(), codeName(r.Code), r.cells)
	}
	if code.differs() {
		p.warn("the code is not what it was: cells that are done ran: %s; now it is %s", code,
			code.now())
	}
	for _, v := range want.Template.Vars {
		if v.Secret {
			continue
		}
		name := func(value []byte) string { return v.Name + "=" + oneLine(string(value), 60) }
		values := newTally(string(v.Value), name(v.Value))
		for _, r := range done {
			for _, old := range r.Vars {
				if old.Name == v.Name && !old.Secret {
					values.add(string(old.Value), name(old.Value), r.cells)
				}
			}
		}
		if values.differs() {
			p.warn("the variable %s is not what it was: cells that are done ran with: %s; now it "+
				"is %s", v.Name, values, values.now())
		}
	}
}

// tally counts the cells that are done by something that they ran with. The first is what cells are
// to run with now.
type tally struct {
	keys, names []string
	cells       []int
}

func newTally(key, name string) *tally {
	return &tally{keys: []string{key}, names: []string{name}, cells: []int{0}}
}

func (t *tally) add(key, name string, cells int) {
	i := slices.Index(t.keys, key)
	if i < 0 {
		i = len(t.keys)
		t.keys, t.names, t.cells = append(t.keys, key), append(t.names, name), append(t.cells, 0)
	}
	t.cells[i] += cells
}

func (t *tally) differs() bool {
	return slices.ContainsFunc(t.cells[1:], func(n int) bool { return n > 0 })
}

// maxTold is how many sorts of cells a warning names.
const maxTold = 8

// String lists them, as "3 commit 0d33…, 1 commit 0d33… with changes"; those that ran with what is
// wanted now come last.
func (t *tally) String() string {
	var parts []string
	rest := 0
	for i := range t.keys {
		i = (i + 1) % len(t.keys)
		switch {
		case t.cells[i] == 0:
		case len(parts) == maxTold:
			rest += t.cells[i]
		default:
			parts = append(parts, fmt.Sprintf("%d %s", t.cells[i], t.name(i)))
		}
	}
	if rest > 0 {
		parts = append(parts, fmt.Sprintf("%d others", rest))
	}
	return strings.Join(parts, ", ")
}

func (t *tally) now() string { return t.name(0) }

// name tells those apart that have the same name, as two changes of one commit.
func (t *tally) name(i int) string {
	for k, name := range t.names {
		if k != i && name == t.names[i] {
			return fmt.Sprintf("%s (%s)", name,
				strings.ToValidUTF8(t.keys[i][:min(len(t.keys[i]), 12)], ""))
		}
	}
	return t.names[i]
}

// codeName names code for messages.
func codeName(c *statepb.Code) string {
	switch {
	case c == nil:
		return "no code of their own"
	case c.Commit == "":
		return "the code " + c.Hash[:min(len(c.Hash), 12)]
	case c.Diff != "":
		return "commit " + c.Commit[:min(len(c.Commit), 12)] + " with changes"
	}
	return "commit " + c.Commit[:min(len(c.Commit), 12)]
}
