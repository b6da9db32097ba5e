package api

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// What several faces say of a record, the command line, the page and `top`, in the same words.

// String says what a job needs beside one slot, "" for nothing.
func (n *Needs) String() string {
	if n == nil {
		return ""
	}
	var parts []string
	switch {
	case n.Exclusive:
		parts = append(parts, "its machine to itself")
	case n.Slots > 1:
		parts = append(parts, fmt.Sprintf("%d slots", n.Slots))
	}
	for _, a := range n.Resources {
		parts = append(parts, a.Name+"="+a.Text)
	}
	if n.Pin {
		parts = append(parts, "pinned to cores of its own")
	}
	switch {
	case n.Machines > 1 && n.Each:
		parts = append(parts, fmt.Sprintf("%d machines, running on each", n.Machines))
	case n.Machines > 1:
		parts = append(parts, fmt.Sprintf("%d machines", n.Machines))
	}
	for _, w := range n.With {
		text := w.Name + "=" + w.Class
		if w.Machines > 1 {
			text = fmt.Sprintf("%s*%d", text, w.Machines)
		}
		parts = append(parts, "with "+text)
	}
	return strings.Join(parts, ", ")
}

// GivenText says what an attempt was given of resources: of items their indexes.
func GivenText(given []Grant) string {
	var parts []string
	for _, g := range given {
		text := g.Text
		if len(g.Items) > 0 {
			text = NumbersText(g.Items)
		}
		switch {
		case g.Pool:
			text += " of the pool"
		case g.Enforced:
			text += " (enforced)"
		case g.Name == "mem":
			text += " (accounted)"
		}
		parts = append(parts, g.Name+"="+text)
	}
	return strings.Join(parts, ", ")
}

// NumbersText is "0,1,3".
func NumbersText(numbers []int) string {
	var words []string
	for _, n := range numbers {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}

// Values are the variables of a job as they are written on a command line, "LR=0.1", by name; what
// the program adds to those of a matrix comes last.
func (j *Job) Values() []string {
	own := func(name string) int { return slices.Index([]string{"REPEAT", "SEED"}, name) }
	var words []string
	for _, name := range slices.SortedFunc(maps.Keys(j.Vars), func(a, b string) int {
		return cmp.Or(cmp.Compare(own(a), own(b)), cmp.Compare(a, b))
	}) {
		words = append(words, name+"="+j.Vars[name])
	}
	return words
}

// Remarks tell what a job's status doesn't tell by itself.
func (j *Job) Remarks() []string {
	var remarks []string
	if j.Canceling {
		remarks = append(remarks, "canceling")
	} else if j.Pause != "" {
		remarks = append(remarks, j.Pause)
	}
	if j.Suspended {
		remarks = append(remarks, "suspended")
	}
	if j.Blocked {
		remarks = append(remarks, "blocked")
	}
	if j.Unneeded {
		remarks = append(remarks, "not needed")
	}
	if j.Status == StatusWaiting && j.Attempt > 0 {
		remarks = append(remarks, "retry")
	}
	return remarks
}

// Remarks tell what a machine's state doesn't tell by itself: what else keeps it from work, and
// what
// is left on it.
func (m *Machine) Remarks() []string {
	var remarks []string
	if m.Draining {
		remarks = append(remarks, "draining")
	}
	switch {
	case m.Verdict != "" && m.HomeClass != "":
		remarks = append(remarks, "set aside")
	case m.Resting:
		remarks = append(remarks, "resting")
	case m.Verdict != "":
		remarks = append(remarks, "on trial")
	}
	if m.Provider != nil {
		if text := m.Provider.Summary(); text != "" {
			remarks = append(remarks, text)
		}
	}
	if p := m.Pilot; p != nil && m.State == "connected" && p.State != "" && p.State != "RUNNING" {
		remarks = append(remarks, strings.ToLower(p.State)) // its agent may not be missed yet
	}
	if n := max(m.OrphanCount, len(m.Orphans)); n > 0 {
		remarks = append(remarks, counted(n, "orphan", "orphans"))
	}
	return append(remarks, Left(m.Ending, len(m.Unremoved))...)
}

// Left are the runs that a machine has still to end, and the directories that it has still to
// remove.
func Left(ending, unremoved int) []string {
	var left []string
	if ending > 0 {
		left = append(left, counted(ending, "run", "runs")+" to end")
	}
	if unremoved > 0 {
		left = append(left, counted(unremoved, "directory", "directories")+" to remove")
	}
	return left
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Ranks is how many logs an attempt of the job has, one for each machine on which it runs.
func (j *Job) Ranks() int {
	if j.Needs == nil || !j.Needs.Each {
		return 1
	}
	return max(j.Needs.Machines, 1)
}

// MachineText is where a job is: its machine, and how many it has beside.
func (j *Job) MachineText() string {
	if len(j.Machines) > 1 {
		return fmt.Sprintf("%s +%d", j.Machine, len(j.Machines)-1)
	}
	return j.Machine
}
