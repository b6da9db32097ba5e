package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/view"
)

// peekOutput looks for -o json before anything is parsed, so that even a usage error is JSON.
func (e *Env) peekOutput(args []string) {
	format := e.Getenv("JOBSERVER_OUTPUT")
	for i, word := range args {
		if word == "--" {
			break
		}
		name, value, ok := strings.Cut(word, "=")
		switch {
		case name == "-o" || name == "--output":
			if !ok && i+1 < len(args) {
				value = args[i+1]
			}
			format = value
		case strings.HasPrefix(word, "-o"):
			format = word[len("-o"):]
		}
	}
	e.errJSON = format == string(view.JSON) || format == string(view.JSONL)
}

// ReportError tells the user what went wrong, why, and what to do next.
func (e *Env) ReportError(err error) {
	told := api.AsError(err)
	told = told.WithHint("%s", e.Called(told.Hint))
	if e.errJSON {
		if line, err := json.Marshal(told); err == nil {
			fmt.Fprintf(e.Stderr, "%s\n", line)
			return
		}
	}
	fmt.Fprintf(e.Stderr, "%s: error: %s\n", e.Name, told.Message)
	if told.Hint != "" {
		fmt.Fprintf(e.Stderr, "%s: hint: %s\n", e.Name, told.Hint)
	}
}

// Called puts the name that the program was called by in the place of its own, in commands that the daemon's texts name.
func (e *Env) Called(text string) string {
	return strings.ReplaceAll(text, "`jobserver ", "`"+e.Name+" ")
}
