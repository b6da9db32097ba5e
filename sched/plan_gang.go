package sched

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"jobserver/sched/statepb"
	"jobserver/suggest"
)

// What a job may ask for of several machines.

// maxGang is how many machines one job may have.
const maxGang = 1000

// addGang completes what a job needs by the machines that it wants beside its first.
func addGang(j *statepb.Job, spec *JobSpec, axes []*statepb.Axis) error {
	n := &statepb.Needs{Each: spec.Each}
	switch {
	case spec.Machines < 0 || spec.Machines > maxGang:
		return errorf(Invalid, "a job can't have %d machines", spec.Machines).
			hint("between 1 and %d", maxGang)
	case spec.Machines > 1:
		n.Machines = int32(spec.Machines)
	}
	for _, text := range spec.With {
		w, err := parseWith(text)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(n.With, func(o *statepb.With) bool { return o.Name == w.Name }) {
			return errorf(Invalid, "--with %s is given twice", w.Name).
				hint("--with %s=%s*2 holds two machines of a class", w.Name, w.Class)
		}
		n.With = append(n.With, w)
	}
	if total := gangSize(n); total > maxGang {
		return errorf(Invalid, "a job can't have %d machines", total).
			hint("%d at the most", maxGang)
	}
	if !isGang(n) {
		if spec.Each && spec.Machines != 1 {
			return errorf(Invalid, "--each: on each of which machines?").
				hint("--machines N says how many")
		}
		return nil
	}
	j.Needs = asGang(j.Needs, n)
	return checkGangNames(j, axes)
}

// gangSize is how many machines a job has.
func gangSize(n *statepb.Needs) int {
	total := 0
	for _, l := range lots("", n) {
		total += l.count
	}
	return total
}

// checkGangNames refuses names that would mean two things in a gang.
func checkGangNames(j *statepb.Job, axes []*statepb.Axis) error {
	for _, a := range axes {
		if gangName(j.Needs, a.Name) {
			return errorf(Invalid, "{%s} is a variable of the matrix, and of a job on several "+
				"machines", a.Name).hint("choose another name")
		}
	}
	for _, w := range j.Needs.With {
		if w.Name == machinesName || w.Name == rankName || slices.ContainsFunc(j.Needs.Amounts,
			func(a *statepb.Amount) bool { return placeholder(a.Name) == w.Name }) {
			return errorf(Invalid, "--with %s: {%s} has another meaning", w.Name, w.Name).
				hint("choose another name")
		}
	}
	return nil
}

// parseWith reads NAME=CLASS or NAME=CLASS*N.
func parseWith(text string) (*statepb.With, error) {
	name, class, ok := strings.Cut(text, "=")
	if !ok || name == "" || class == "" {
		return nil, errorf(Invalid, "--with %s names no class of machines", text).
			hint("--with SERVER=CLASS holds a machine of a class, --with SERVER=CLASS*2 two; " +
				"{SERVER} is where they are")
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	w := &statepb.With{Name: name, Class: class}
	if before, number, several := strings.Cut(class, "*"); several {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > maxGang {
			return nil, errorf(Invalid, "--with %s: %q is no number of machines", text, number).
				hint("between 1 and %d: --with %s=%s*2", maxGang, name, before)
		}
		w.Class = before
		if n > 1 {
			w.Machines = int32(n)
		}
	}
	return w, checkClass(w.Class)
}

// withText writes what parseWith reads.
func withText(w *statepb.With) string {
	if w.Machines > 1 {
		return fmt.Sprintf("%s=%s*%d", w.Name, w.Class, w.Machines)
	}
	return w.Name + "=" + w.Class
}

// withTexts writes all machines of other classes that a job wants.
func withTexts(n *statepb.Needs) (all []string) {
	for _, w := range n.GetWith() {
		all = append(all, withText(w))
	}
	return all
}

// asGang gives what a job needs of each of its machines the number of machines that it had.
func asGang(n, before *statepb.Needs) *statepb.Needs {
	if !isGang(before) {
		return n
	}
	if n == nil {
		n = &statepb.Needs{}
	}
	n.Machines, n.Each, n.With = before.Machines, before.Each, before.With
	return n
}

// knownClasses refuses a gang of which a class beside its own has no machines.
func (s *State) knownClasses(class string, n *statepb.Needs) error {
	for _, w := range n.With {
		c := s.classes[w.Class]
		if c != nil && len(c.machines) > 0 || len(s.asideFrom(w.Class)) > 0 {
			continue
		}
		e := errorf(Invalid, "--with %s: no machine is in class %s", withText(w), w.Class)
		classes := s.Classes()
		if near := suggest.Closest(w.Class, classes); near != "" {
			return e.hint("did you mean %s?", near)
		}
		if len(classes) == 0 {
			return e.hint("`jobserver machine add ADDR %s` adds one", w.Class)
		}
		return e.hint("there are %s; `jobserver machine add ADDR %s` adds one",
			strings.Join(classes, ", "), w.Class)
	}
	for _, w := range n.With {
		if err := s.enough(class, w.Class, n, len(s.class(w.Class).machines)); err != nil {
			return err
		}
	}
	return nil
}

// enough refuses a gang that wants more machines of a class at once than it has. Of its own class,
// so many could run it.
func (s *State) enough(own, class string, n *statepb.Needs, could int) error {
	asked := 0
	for i, l := range lots(own, n) {
		if l.class == class && (i == 0 || could == len(s.class(class).machines)) {
			asked += l.count
		}
	}
	if !isGang(n) || asked <= could+len(s.asideFrom(class)) {
		return nil
	}
	return errorf(Invalid,
		"the job wants %d machines of class %s at once, which has %d that could do",
		asked, class, could).
		hint("`jobserver machine ls --class %s` lists them, "+
			"`jobserver machine add ADDR %s` adds one", class, class)
}
