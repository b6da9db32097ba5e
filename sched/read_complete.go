package sched

import (
	"slices"
	"strconv"
	"strings"

	"jobserver/sched/statepb"
)

// completeMatrix gives the selectors of matrices that begin like the prefix: by name and by id, and
// behind a comma the variables of the one that is named, with their values.
func (s *State) completeMatrix(prefix string, add func(value, description string)) {
	if i := strings.LastIndexByte(prefix, ','); i >= 0 {
		s.completeCells(prefix[:i+1], add)
		return
	}
	for i := len(s.order) - 1; i >= 0; i-- {
		m := s.order[i]
		what := oneLine(string(m.Template.Cmd), 60)
		if m.Name != "" {
			add("%"+m.Name, what)
		}
		add("%"+strconv.FormatUint(m.Id, 10), what)
	}
}

// completeCells gives the values of variables of a matrix; before is %NAME, and what the line has
// behind it already.
func (s *State) completeCells(before string, add func(value, description string)) {
	name, _, _ := strings.Cut(strings.TrimPrefix(before, "%"), ",")
	for _, m := range s.order {
		if m.Name != name && strconv.FormatUint(m.Id, 10) != name {
			continue
		}
		for _, axis := range m.Axes {
			if strings.Contains(before, ","+axis.Name+"=") {
				continue
			}
			for _, value := range axis.Values {
				add(before+axis.Name+"="+value, "")
			}
		}
		return
	}
}

// completeAxes gives names of variables of matrices, the newest first, as --rows and --x take them:
// the last of a list with commas is completed.
func (s *State) completeAxes(prefix string, add func(value, description string)) {
	before := prefix[:strings.LastIndexByte(prefix, ',')+1]
	seen := map[string]bool{}
	for i := len(s.order) - 1; i >= 0; i-- {
		m := s.order[i]
		for _, axis := range m.Axes {
			if !seen[axis.Name] && !strings.Contains(","+before, ","+axis.Name+",") {
				seen[axis.Name] = true
				add(before+axis.Name, strconv.Itoa(len(axis.Values))+" values in %"+
					strconv.FormatUint(m.Id, 10))
			}
		}
	}
	for _, name := range []string{"machine", "REPEAT"} {
		add(before+name, "")
	}
}

// completeNeeds gives what jobs may need, as --needs takes it: of a list with commas the last one
// is completed, with the least amount of it that makes sense.
func (s *State) completeNeeds(prefix string, add func(value, description string)) {
	before := prefix[:strings.LastIndexByte(prefix, ',')+1]
	seen := map[string]bool{}
	offer := func(r *statepb.Resource, what string) {
		if seen[r.Name] || strings.Contains(","+before, ","+r.Name+"=") {
			return
		}
		seen[r.Name] = true
		least := "=1"
		if r.Bytes {
			least = "=1G"
		}
		add(before+r.Name+least, what)
	}
	for _, r := range s.Resources() {
		offer(r.Resource, "the pool has "+ResourceText(r.Resource))
	}
	for _, addr := range s.Machines() {
		for _, r := range s.machines[addr].Resources {
			offer(r, addr+" has "+ResourceText(r))
		}
	}
	offer(&statepb.Resource{Name: coresName}, "the processors of a machine")
	offer(&statepb.Resource{Name: memoryName, Bytes: true}, "the memory of a machine")
}

// completeEquipment gives what machines may have, as --resource takes it: a name, and behind its =
// what other machines have of it.
func (s *State) completeEquipment(prefix string, add func(value, description string)) {
	of := map[string][]string{gpuName: {"auto"}}
	for _, addr := range s.Machines() {
		for _, r := range s.machines[addr].Resources {
			if text := ResourceText(r); !slices.Contains(of[r.Name], text) {
				of[r.Name] = append(of[r.Name], text)
			}
		}
	}
	name, _, valued := strings.Cut(prefix, "=")
	if valued {
		for _, text := range of[name] {
			add(name+"="+text, "")
		}
		return
	}
	for _, known := range []string{memoryName, coresName} {
		of[known] = append(of[known], "")
	}
	for _, name := range sorted(of) {
		add(name+"=", strings.TrimPrefix(strings.Join(of[name], "; "), "; "))
	}
}

// completeWith gives the classes behind NAME=, as --with takes them.
func (s *State) completeWith(prefix string, add func(value, description string)) {
	name, _, ok := strings.Cut(prefix, "=")
	if !ok {
		return // the name is the user's to choose
	}
	for _, class := range s.Classes() {
		n := 0
		if c := s.classes[class]; c != nil {
			n = len(c.machines)
		}
		add(name+"="+class, strconv.Itoa(n)+" machines")
	}
}

// completeStages gives the stages of experiments that were submitted, the newest first: those are
// matrices named NAME.STAGE.
func (s *State) completeStages(add func(value, description string)) {
	seen := map[string]bool{}
	for i := len(s.order) - 1; i >= 0; i-- {
		m := s.order[i]
		of, stage, ok := strings.Cut(m.Name, ".")
		if ok && !seen[stage] {
			seen[stage] = true
			add(stage, "of "+of+": "+oneLine(string(m.Template.Cmd), 60))
		}
	}
}
