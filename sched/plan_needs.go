package sched

import (
	"fmt"
	"slices"
	"strings"

	"jobserver/sched/statepb"
	"jobserver/suggest"
)

// needed says that a placeholder names what a job needs a share of.
func needed(j *statepb.Job, name string) bool {
	return gangName(j.Needs, name) || j.Needs.GetPin() && name == placeholder(coresName) ||
		slices.ContainsFunc(
			j.Needs.GetAmounts(),
			func(a *statepb.Amount) bool { return placeholder(a.Name) == name },
		)
}

// canEver refuses what no machine of a class, as they are now, could ever give. A class without
// machines may get some that can.
func (s *State) canEver(class string, n *statepb.Needs) error {
	if n == nil {
		return nil
	}
	if err := s.knownClasses(class, n); err != nil {
		return err
	}
	if why := s.poolNeverHas(n); why != "" {
		return errorf(Invalid, "the job needs %s, and %s", NeedsText(n), why).
			hint("`jobserver resource ls` shows what the pool has; `jobserver resource set " +
				"NAME=AMOUNT` changes it")
	}
	if err := s.gangOfPilots(class, n); err != nil {
		return err
	}
	var machines []*machine
	if c := s.classes[class]; c != nil {
		machines = c.machines
	}
	providers := s.providersOf(class)
	if len(machines)+len(providers) == 0 {
		return nil
	}
	if err := s.checkNames(class, machines, n); err != nil {
		return err
	}
	var whys []string
	fit := 0
	for _, p := range providers {
		if isGang(n) && nodesFor(n) == 0 {
			continue
		}
		lacks := p.offer.lacks(s, p.Provider, n)
		if lacks == "" {
			return nil
		}
		whys = append(whys, fmt.Sprintf("an allocation of %s has %s", p.Addr, lacks))
	}
	for _, m := range machines {
		if m.isPilot() {
			continue
		}
		why := s.neverHas(n, m)
		if why == "" {
			fit++
			continue
		}
		whys = append(whys, why)
	}
	if fit > 0 {
		return s.enough(class, class, n, fit)
	}
	if len(whys) > maxTold {
		whys = append(whys[:maxTold], fmt.Sprintf("%d more", len(whys)-maxTold))
	}
	return errorf(
		Invalid,
		"no machine of class %s could ever run this: it needs %s, but %s",
		class,
		NeedsText(n),
		strings.Join(whys, ", "),
	).
		hint("ask for less, or say what a machine has: `jobserver machine add ADDR %s --slots N "+
			"--resource NAME=…`", class)
}

// checkNames refuses a need that is the name of no resource.
func (s *State) checkNames(class string, machines []*machine, n *statepb.Needs) error {
	known := append(sorted(s.resources), memoryName, coresName)
	if len(s.providersOf(class)) > 0 {
		known = append(known, gpuName)
	}
	for _, m := range machines {
		for _, r := range m.Resources {
			known = append(known, r.Name)
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	for _, a := range n.Amounts {
		if slices.Contains(known, a.Name) {
			continue
		}
		e := errorf(
			Invalid,
			"no machine of class %s has a resource %q, nor has the pool",
			class,
			a.Name,
		)
		near := otherResource(a.Name)
		if !slices.Contains(known, near) {
			near = suggest.Closest(a.Name, known)
		}
		if near != "" {
			return e.hint("did you mean %s? There are %s", near, strings.Join(known, ", "))
		}
		return e.hint(
			"there are %s; `jobserver machine add ADDR %s --resource %s=…` or `jobserver "+
				"resource set %s=…` adds it",
			strings.Join(known, ", "),
			class,
			a.Name,
			a.Name,
		)
	}
	return nil
}
