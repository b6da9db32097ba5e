package sched

import (
	"fmt"
	"strings"

	"jobserver/sched/statepb"
)

// A command grows when its variables are put in: one of 100 kB that is named a thousand times makes
// 100 MB. What would be longer than Linux can start is refused when it is submitted, and ends a job
// that is dispatched with it. Both only add lengths up.

// refused begins the error of a job that was ended when it was to be dispatched.
const refused = "could not be started: "

// shorterHint helps against a command, a value or a path that is too long.
const shorterHint = "put the text into a file that the job reads"

// varPrefix begins the names that a job's variables have in its environment.
const varPrefix = "JOBSERVER_"

// envLen is how long an environment variable is.
func envLen[V string | []byte](
	name string, value V,
) int {
	return len(name) + len("=") + len(value)
}

// expandedLen is how long a template becomes, given how long the value of each variable that is
// known is.
func expandedLen(template string, size func(name string) (int, bool)) int {
	if strings.IndexByte(template, '{') < 0 {
		return len(template)
	}
	total := 0
	for _, p := range parse(template) {
		n, ok := 0, false
		if p.name != "" {
			n, ok = size(p.name)
		}
		if !ok {
			n = len(p.text)
		}
		total += n
	}
	return total
}

// tooLong says what of a job is longer than any machine could start it with, "" when nothing is.
// Before it is dispatched, without an attempt, what then becomes of the daemon's own variables
// counts as nothing.
func (s *State) tooLong(j *statepb.Job, a *statepb.Attempt) string {
	size := s.sizes(j, a)
	commands := [][]byte{j.Cmd}
	if j.Setup != nil {
		commands = j.Setup.Steps
	}
	longest := 0
	for _, cmd := range commands {
		longest = max(longest, expandedLen(string(cmd), size))
	}
	if longest > MaxCommand {
		return fmt.Sprintf("the command has %d bytes when its variables are put in; at most %d "+
			"are possible", longest, MaxCommand)
	}
	if n := expandedLen(j.CpPath, size); n > MaxPath {
		return fmt.Sprintf("CP_PATH has %d bytes when its variables are put in; at most %d are "+
			"possible", n, MaxPath)
	}
	if n := expandedLen(j.Cwd, size); n > MaxPath {
		return fmt.Sprintf("--cwd has %d bytes when its variables are put in; at most %d are "+
			"possible", n, MaxPath)
	}
	for _, path := range inputPaths(j) {
		if n := expandedLen(path, size); n > MaxPath {
			return fmt.Sprintf("the path of an input has %d bytes when its variables are put in; "+
				"at most %d are possible", n, MaxPath)
		}
	}
	total, why := longest, ""
	countLen := func(name string, value int) {
		n := envLen(name, "") + value
		if total += n; n > MaxCommand {
			why = fmt.Sprintf("%s=VALUE has %d bytes; at most %d are possible in a job's "+
				"environment", name, n, MaxCommand)
		}
	}
	for _, v := range j.Vars {
		value := v.Value
		if v.Secret {
			value = s.vars[v.Name].GetValue()
		}
		countLen(varPrefix+v.Name, len(value))
	}
	for _, v := range j.Env {
		if literal(v) {
			countLen(v.Name, len(v.Value))
			continue
		}
		n := expandedLen(string(v.Value), func(name string) (int, bool) {
			if secret := s.secretVar(j, name); secret != nil {
				return len(secret.Value), true
			}
			return size(name)
		})
		countLen(v.Name, n)
	}
	if why == "" && total > MaxStart {
		why = fmt.Sprintf("the command and its environment have %d bytes; at most %d are possible",
			total, MaxStart)
	}
	return why
}

// sizes gives the length of each variable's value that a job may use, of the daemon's own in an
// attempt.
func (s *State) sizes(j *statepb.Job, a *statepb.Attempt) func(name string) (int, bool) {
	known := make(map[string]int, len(j.Vars))
	for i := len(j.Vars) - 1; i >= 0; i-- { // the first of a name counts, as in lookup
		v := j.Vars[i]
		known[v.Name] = len(v.Value)
		if v.Secret {
			known[v.Name] = len("${" + varPrefix + v.Name + "}")
		}
	}
	return func(name string) (int, bool) {
		if n, ok := known[name]; ok {
			return n, true
		}
		if a == nil {
			return 0, builtins[name] || needed(j, name)
		}
		v, ok := s.builtin(j, a, name)
		if ok {
			known[name] = len(v)
		}
		return len(v), ok
	}
}

// longestCell is a job that has the longest value of each variable of a matrix: no cell of it is
// longer.
func longestCell(j *statepb.Job, axes []*statepb.Axis) *statepb.Job {
	if len(axes) == 0 {
		return j
	}
	longest := shallow(j)
	longest.Vars = nil // what the matrix gives wins
	for _, a := range axes {
		value := ""
		for _, v := range a.Values {
			if len(v) > len(value) {
				value = v
			}
		}
		longest.Vars = append(longest.Vars, &statepb.Var{Name: a.Name, Value: []byte(value)})
	}
	longest.Vars = append(longest.Vars, j.Vars...)
	return longest
}
