package sched

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"jobserver/sched/statepb"
)

// A job may be given files and directories of the host, its inputs, which it finds on its machine
// in $JOBSERVER_INPUTS. What their paths stand for is decided when an attempt is dispatched, and
// they are read when its machine is about to get them: the fleet says what it has read, that
// becomes durable, and only then the run is started. So the record says what a run was given, also
// when the daemon dies in between. What can't be read is nobody's failure: the job is held.

// AfterList is the name of the list of what a job has waited for, among its inputs.
const AfterList = "after.jsonl"

// Limits of inputs.
const (
	maxInputs    = 100 // of a job
	maxInputName = 255 // bytes: what Linux takes as a name
)

// InputSpec is an input that is asked for: a path on the host, in which variables are put in, and
// its name in $JOBSERVER_INPUTS; "" is the last element of the path.
type InputSpec struct{ Name, Path string }

// inputs checks the inputs of a job that is submitted.
func (p *planner) inputs(j *statepb.Job, specs []InputSpec, own []string) error {
	if len(specs) > maxInputs {
		return errorf(Invalid, "a job can't have %d inputs; at most %d are possible", len(specs),
			maxInputs).hint("name a directory that has them")
	}
	for _, spec := range specs {
		in := &statepb.Input{Name: spec.Name, Path: spec.Path}
		switch {
		case !utf8.ValidString(in.Path) || strings.IndexByte(in.Path, 0) >= 0:
			return errorf(Invalid, "the input %q is not valid UTF-8, or has a zero byte in it",
				in.Path)
		case len(in.Path) > MaxPath:
			return errorf(Invalid, "the path of an input has %d bytes; at most %d are possible",
				len(in.Path), MaxPath)
		case in.Path == "" || !startsAbsolute(in.Path) && parse(in.Path)[0].text != "":
			return errorf(Invalid, "the input %q is not an absolute path", in.Path)
		}
		if vars := Names(in.Name); len(vars) > 0 {
			return errorf(Invalid, "the name of an input is the same for all jobs: {%s} can't be "+
				"in %q", vars[0], in.Name).hint("variables are put into PATH: --input '%s=NAME'",
				in.Path)
		}
		if in.Name == "" {
			in.Name = path.Base(path.Clean(in.Path))
			if len(Names(in.Name)) > 0 || in.Name == "/" || in.Name == ".." {
				return errorf(Invalid, "the input %s has no name of its own", in.Path).
					hint("name it: --input '%s=NAME'; the job finds it as $JOBSERVER_INPUTS/NAME",
						in.Path)
			}
		}
		if err := checkInputName(in.Name); err != nil {
			return err
		}
		if slices.ContainsFunc(j.Inputs, func(o *statepb.Input) bool { return o.Name == in.Name }) {
			return errorf(Invalid, "two inputs have the name %s", in.Name).
				hint("name one of them otherwise: --input '%s=NAME'", in.Path)
		}
		j.Inputs = append(j.Inputs, in)
		if err := p.capture(j, in.Path, "input", own, true); err != nil {
			return err
		}
	}
	return nil
}

// checkInputName refuses what can't be the name of an input.
func checkInputName(name string) error {
	switch {
	case name == AfterList:
		return errorf(Invalid, "no input can be called %s: that is the list of what a job has "+
			"waited for", name).hint("name it otherwise: PATH=NAME")
	case name == "" || name == "." || name == ".." || len(name) > maxInputName ||
		!utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return r == '/' || unicode.IsControl(r) }):
		return errorf(Invalid, "%q can't be the name of an input", name).
			hint("it is a file name: at most %d bytes, and no slash or control character",
				maxInputName)
	}
	return nil
}

// inputPaths are the templates of the paths of a job's inputs.
func inputPaths(j *statepb.Job) []string {
	paths := make([]string, len(j.Inputs))
	for i, in := range j.Inputs {
		paths[i] = in.Path
	}
	return paths
}

// inputsOf are the inputs of an attempt that is about to be dispatched. why says what is missing so
// that one of them can't be known; "" for nothing.
func (s *State) inputsOf(j *statepb.Job, a *statepb.Attempt) (inputs []*statepb.Input, why string) {
	value := s.lookup(j, a)
	for _, in := range j.Inputs {
		if slices.Contains(Names(in.Path), afterResultsName) &&
			s.afterValue(j, afterResultsName) == "" {
			return nil, "the input " + in.Name + " is to be among the results of the job that it " +
				"waited for, which has left none on this host"
		}
		text, _ := Expand(in.Path, MaxPath, value) // its length was looked at before
		if !filepath.IsAbs(text) {                 // it begins with a variable
			text = filepath.Join(j.Dir, text)
		}
		if !filepath.IsAbs(text) || !utf8.ValidString(text) {
			return nil, fmt.Sprintf("the path %q of its input %s is not absolute", text, in.Name)
		}
		inputs = append(inputs, &statepb.Input{Name: in.Name, Path: filepath.Clean(text)})
	}
	return inputs, ""
}

// holdBack has a job wait until somebody has seen to what it lacks.
func holdBack(j *statepb.Job, why string) {
	j.Status, j.HeldWhy, j.Error, j.NotBefore = Held, why, why, 0
}

// InputsOf gives the inputs of an attempt, on the first of its machines when it has several.
func InputsOf(a *statepb.Attempt) []*statepb.Input { return runsOf(a)[0].Inputs }

// isRead says that all inputs of an attempt were read, and may be given to its run.
func isRead(a *statepb.Attempt) bool {
	return !slices.ContainsFunc(a.Inputs, func(in *statepb.Input) bool { return in.Hash == "" })
}

// heldBack is why the daemon holds a job, for a reason of its own; "" when it doesn't.
func (s *State) heldBack(id uint64) string {
	if j := s.live[id]; j != nil && j.Status == Held {
		return j.HeldWhy
	}
	return ""
}

// noteHeldBack keeps the list of a matrix's jobs that the daemon holds.
func (s *State) noteHeldBack(j *statepb.Job) {
	m := s.matrices[j.Matrix]
	switch {
	case m == nil:
	case j.Status == Held && j.HeldWhy != "":
		if m.heldBack == nil {
			m.heldBack = map[uint64]bool{}
		}
		m.heldBack[j.Id] = true
	case m.heldBack != nil:
		delete(m.heldBack, j.Id)
	}
}

// sameInput says that two inputs were asked for alike.
func sameInput(a, b *statepb.Input) bool { return a.Name == b.Name && a.Path == b.Path }

// inputsText writes what a job is given.
func inputsText(j *statepb.Job) string {
	words := make([]string, len(j.Inputs))
	for i, in := range j.Inputs {
		words[i] = InputText(in)
	}
	return "[" + strings.Join(words, " ") + "]"
}

// InputText writes an input as it was asked for.
func InputText(in *statepb.Input) string {
	if path.Base(path.Clean(in.Path)) == in.Name && !strings.Contains(in.Name, "=") {
		return in.Path
	}
	return in.Path + "=" + in.Name
}
