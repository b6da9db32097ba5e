package sched

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"jobserver/sched/statepb"
)

// Where a job begins, what it reads, and what the user calls it.

// maxLabel is how long a label, or the reason of a cancel, may be, in bytes.
const maxLabel = 500

// setPlace takes over where a job begins, its standard input and its label.
func (p *planner) setPlace(j *statepb.Job, spec *JobSpec, own []string) error {
	if strings.IndexByte(spec.Cwd, 0) >= 0 || !utf8.ValidString(spec.Cwd) {
		return errorf(Invalid, "--cwd %q can't be a directory", spec.Cwd)
	}
	if err := p.capture(j, spec.Cwd, "working directory", own, true); err != nil {
		return err
	}
	if err := checkLabel("--label", spec.Label); err != nil {
		return err
	}
	j.Cwd, j.Stdin, j.StdinName, j.Label = spec.Cwd, spec.Stdin, spec.StdinName, spec.Label
	return nil
}

// checkLabel refuses what is no short text.
func checkLabel(flag, text string) error {
	switch {
	case len(text) > maxLabel:
		return errorf(Invalid, "%s has %d bytes; at most %d are possible", flag, len(text),
			maxLabel)
	case !utf8.ValidString(text):
		return errorf(Invalid, "%s %q is not valid UTF-8", flag, text)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errorf(Invalid, "%s %q has control characters in it", flag, text).
			hint("it is one line, for people to read")
	}
	return nil
}

// cwdOf is where an attempt of a job begins on its machine: below the login directory unless it is
// absolute, or in the home directory.
func (s *State) cwdOf(j *statepb.Job, a *statepb.Attempt) string {
	dir, _ := Expand(j.Cwd, MaxPath, s.lookup(j, a))
	return dir
}

// canceledFor is how an event says why.
func canceledFor(text, reason string) string {
	if reason == "" {
		return text
	}
	return fmt.Sprintf("%s: %s", text, reason)
}
