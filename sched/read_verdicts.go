package sched

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what the system holds against a machine or a matrix, for which it may get no work:
// what, why, when it is tried again by itself, and what ends it at once.
type Verdict struct {
	Machine string
	Matrix  uint64
	Class   string // whose jobs it concerns
	Text    string
	Undo    string    // a command
	Again   time.Time // when it is tried next; zero: as soon as there is a job for it
	Stops   bool      // it gets no work meanwhile
}

// Verdicts lists them, machines first, by class and address, then matrices.
func (s *State) Verdicts(now time.Time) (all []Verdict) {
	for _, addr := range s.Machines() {
		if v := s.machineVerdict(s.machines[addr], now); v.Text != "" {
			all = append(all, v)
		}
	}
	for _, m := range s.order {
		if v := s.matrixVerdict(m); v.Text != "" {
			all = append(all, v)
		}
	}
	return all
}

// machineVerdict tells what is held against a machine; its Text is empty when that is nothing.
func (s *State) machineVerdict(m *machine, now time.Time) Verdict {
	v := Verdict{Machine: m.Addr, Class: m.Class, Undo: resumeCommand(m.Addr)}
	until := Time(m.restsUntil())
	if v.Stops = until.After(now); v.Stops {
		v.Again = until
	}
	switch {
	case m.aside():
		v.Class, v.Again, v.Stops = m.HomeClass, Time(m.TrialAt), true
		v.Text = fmt.Sprintf("set aside from class %s: %s; %s", m.HomeClass, m.LastError,
			triedAt(v.Again, now, "a job that has retries left"))
	case m.Own > 0 && v.Stops:
		v.Text = fmt.Sprintf("at rest, as %s; %s", m.LastError, triedAt(v.Again, now, "one job"))
	case m.suspect() && v.Stops:
		v.Text = fmt.Sprintf("suspect, as %d jobs in a row failed there, the last: %s; %s",
			m.blamed(), m.LastError, triedAt(v.Again, now, "one job"))
	case m.suspect():
		v.Text = fmt.Sprintf("suspect, as %d jobs in a row failed there, the last: %s; it gets "+
			"one job at a time until one succeeds",
			m.blamed(), m.LastError)
	case m.Own > 0:
		v.Text = fmt.Sprintf("tried with one job, as %s", m.LastError)
	}
	return v
}

// triedAt says when something is tried again.
func triedAt(at, now time.Time, with string) string {
	if !at.After(now) {
		return "it is tried with " + with
	}
	return fmt.Sprintf("it is tried with %s at %s", with, at.Format(time.TimeOnly))
}

// matrixVerdict tells what is held against a matrix; its Text is empty when that is nothing.
func (s *State) matrixVerdict(m *matrix) Verdict {
	if !m.faulty() {
		return Verdict{}
	}
	return Verdict{
		Matrix: m.Id, Class: m.Template.Class,
		Undo: fmt.Sprintf("jobserver matrix unhold %d", m.Id), Again: Time(m.TrialAt), Stops: true,
		Text: fmt.Sprintf("held by the system: %s; it is tried with one cell at %s", m.HeldWhy,
			clockTime(m.TrialAt)),
	}
}

// MatrixVerdict tells what the system holds against a matrix; ok is false when that is nothing.
func (s *State) MatrixVerdict(id uint64) (v Verdict, ok bool) {
	if m := s.matrices[id]; m != nil {
		v = s.matrixVerdict(m)
	}
	return v, v.Text != ""
}

// asideFrom lists the machines that were set aside from a class.
func (s *State) asideFrom(class string) (aside []*machine) {
	for _, m := range s.class(class + brokenSuffix).machines {
		if m.HomeClass == class {
			aside = append(aside, m)
		}
	}
	return aside
}

// Blocked says why the jobs of a class don't run though machines of it are in the pool, as far as
// that is a verdict: nil when one of its machines can be given work.
func (s *State) Blocked(class string, now time.Time) (verdicts []Verdict) {
	c := s.classes[class]
	if c == nil {
		return nil
	}
	for _, m := range slices.Concat(c.machines, s.asideFrom(class)) {
		v := s.machineVerdict(m, now)
		if m.open() && !v.Stops {
			return nil
		}
		if v.Text != "" {
			verdicts = append(verdicts, v)
		}
	}
	return verdicts
}

// warnBlocked warns whoever submits to a class of which no machine gets work because of verdicts.
func (p *planner) warnBlocked(class string) {
	for _, v := range p.s.Blocked(class, Time(p.s.looked)) {
		p.warn("%s is %s (`%s` ends that)", v.Machine, v.Text, v.Undo)
	}
}

// heldWhy says why a job of a matrix that is held doesn't go on, and what ends that.
func (s *State) heldWhy(m *matrix) Reasoning {
	r := Reasoning{Summary: fmt.Sprintf("its matrix %d is held", m.Id),
		Hint: fmt.Sprintf("`jobserver matrix unhold %d` lets it go on", m.Id)}
	if v := s.matrixVerdict(m); v.Text != "" {
		r.Summary = fmt.Sprintf("its matrix %d is %s", m.Id, v.Text)
		r.Hint = fmt.Sprintf("`%s` lets it go on at once", v.Undo)
	}
	return r
}

// resumeHint is the command that ends what keeps several machines from getting jobs, "" for none.
func resumeHint(machines []*machine) string {
	var words []string
	for _, m := range machines {
		words = append(words, "-m "+m.Addr)
	}
	if len(words) == 0 {
		return ""
	}
	return fmt.Sprintf("`jobserver machine resume %s` gives them work at once",
		strings.Join(words, " "))
}
