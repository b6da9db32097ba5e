package show

import (
	"fmt"
	"io"
	"strings"

	"jobserver/view"
)

// Fields is a two-column text: names, and values where there are any.
type Fields struct {
	W     io.Writer
	Width int
}

// Add adds a line, unless the value is empty.
func (f Fields) Add(name, value string) {
	if value != "" {
		fmt.Fprintf(f.W, "%-*s %s\n", f.Width, name, view.Clean(value))
	}
}

// list adds one line for each value, the name before the first.
func (f Fields) list(name string, values []string) {
	for _, value := range values {
		f.Add(name, value)
		name = ""
	}
}

// Join adds a line with those of the values that are not empty.
func (f Fields) Join(name string, values ...string) {
	var parts []string
	for _, value := range values {
		if value != "" {
			parts = append(parts, value)
		}
	}
	f.Add(name, strings.Join(parts, ", "))
}
