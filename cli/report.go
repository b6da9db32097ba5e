package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/view"
)

// asksJSON tells whether errors are to be JSON. It looks at the words as they were given, since
// they may be what is wrong.
func (e *Env) asksJSON() bool {
	format, ok := readGlobals(e.args).value("output")
	if !ok {
		format = e.Getenv("JOBSERVER_OUTPUT")
	}
	return format == string(view.JSON) || format == string(view.JSONL)
}

// ReportError tells the user what went wrong, why, and what to do next.
func (e *Env) ReportError(err error) {
	told := api.AsError(err)
	told = told.WithHint("%s", e.Called(told.Hint))
	if e.asksJSON() {
		if line, err := json.Marshal(told); err == nil {
			fmt.Fprintf(e.Stderr, "%s\n", line)
			return
		}
	}
	fmt.Fprintf(e.Stderr, "%s: error: %s\n", e.Name, cleanLines(told.Message))
	if told.Hint != "" {
		fmt.Fprintf(e.Stderr, "%s: hint: %s\n", e.Name, cleanLines(told.Hint))
	}
}

// cleanLines cleans each line of a text of several.
func cleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = view.Clean(line)
	}
	return strings.Join(lines, "\n")
}

// Called puts the name that the program was called by in the place of its own, in commands that the
// daemon's texts name.
func (e *Env) Called(text string) string {
	return strings.ReplaceAll(text, "`jobserver ", "`"+e.Name+" ")
}
