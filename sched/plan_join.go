package sched

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A matrix may have commands that a machine needs to have run before its cells do. The machines
// that are in its class when it is submitted are set up then. One that is to join the class while
// it has cells left runs them first, and joins when they have succeeded, as after any setup.

// wanted are the commands that the matrices of a class want of a machine that is to join it, as far
// as neither its last setup nor the steps of one that it is to have before are the same.
func (p *planner) wanted(addr, class string, before []string) (steps []string) {
	var names []string
	var seen [][]byte // hashes
	if before != nil {
		seen = append(seen, hashOf(before))
	}
	for _, m := range p.s.order {
		if len(m.Setup) == 0 || m.Template.Class != class || m.left() == 0 || before == nil &&
			p.s.isSetUp(addr, m.steps()) {
			continue
		}
		names = append(names, fmt.Sprint(m.Id))
		hash := stepsHash(m.Setup)
		if slices.ContainsFunc(seen, func(other []byte) bool { return bytes.Equal(hash, other) }) {
			continue
		}
		seen = append(seen, hash)
		steps = append(steps, m.steps()...)
	}
	if len(steps) > 0 {
		p.warn("%s runs the setup of matrix %s before it joins class %s", addr,
			strings.Join(names, ", "), class)
	}
	return steps
}

// joinSetUp has a machine join a class by a setup, if its matrices want one. It says whether they
// do. The setup makes no id of the plan: nobody has asked for it.
func (p *planner) joinSetUp(spec MachineSpec, now time.Time) (bool, error) {
	steps := p.wanted(spec.Addr, spec.Class, nil)
	if len(steps) == 0 {
		return false, nil
	}
	ids := p.IDs
	err := p.setup(SetupSpec{Class: spec.Class, Slots: spec.Slots, Until: spec.Until,
		Resources: spec.Resources, Needed: true}, steps, spec.Addr, 0, now)
	p.IDs = ids
	return true, err
}

// steps are the commands of its setup.
func (m *matrix) steps() (steps []string) {
	for _, step := range m.Setup {
		steps = append(steps, string(step))
	}
	return steps
}

// left is how many of its cells haven't ended.
func (m *matrix) left() int {
	by := m.counts.By
	return by[Waiting] + by[Held] + by[Running] + by[Copying]
}
