package job

import (
	"path"
	"strings"

	"jobserver/api"
	"jobserver/cli"
)

// InputFlags say what a job, or each job of a matrix, is given of the daemon's host.
type InputFlags struct {
	Input []string `name:"input" sep:"none" placeholder:"PATH[=NAME]" predictor:"file" onhost:"" help:"Give the job a file or directory of the daemon's host, which it finds as $JOBSERVER_INPUTS/NAME (the last part of PATH by default). {NAME} in PATH stands for a variable, {AFTER_RESULTS} for the results of the job that it waited for (repeatable)."`
}

// Put puts them into what is submitted.
func (f *InputFlags) Put(e *cli.Env, spec *api.JobSpec) {
	spec.Inputs = nil
	for _, word := range f.Input {
		in := ParseInput(word)
		in.Path = e.InputPath(in.Path)
		spec.Inputs = append(spec.Inputs, in)
	}
}

// ParseInput reads PATH or PATH=NAME. What stands behind the last = is a name, unless it has a
// slash.
func ParseInput(word string) api.Input {
	if i := strings.LastIndexByte(word, '='); i > 0 && !strings.Contains(word[i:], "/") {
		return api.Input{Path: word[:i], Name: word[i+1:]}
	}
	return api.Input{Path: word, Name: nameOf(word)}
}

// nameOf is the name of an input that has none of its own: of a path that ends with a variable the
// daemon says that it wants one.
func nameOf(word string) string {
	base := path.Base(path.Clean(word))
	if strings.ContainsAny(base, "{}") || base == ".." || base == "." || base == "/" {
		return ""
	}
	return base
}
