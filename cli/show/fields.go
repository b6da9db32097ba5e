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
		fmt.Fprintf(f.W, "%-*s %s\n", f.Width, view.Clean(name), view.Clean(value))
	}
}

// Text adds a value that may have several lines: then they stand below the name, indented, as they
// are.
func (f Fields) Text(name, value string) {
	lines := strings.Split(strings.Trim(value, "\n"), "\n")
	if len(lines) == 1 {
		f.Add(name, lines[0])
		return
	}
	fmt.Fprintln(f.W, name)
	for _, line := range lines {
		fmt.Fprintln(f.W, strings.TrimRight("    "+view.Clean(strings.TrimRight(line, "\r")), " "))
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
