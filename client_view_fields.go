package main

import (
	"fmt"
	"io"
	"strings"

	"jobserver/view"
)

// fields is a two-column text: names, and values where there are any.
type fields struct {
	w    io.Writer
	wide int
}

func (f fields) add(name, value string) {
	if value != "" {
		fmt.Fprintf(f.w, "%-*s %s\n", f.wide, name, view.Clean(value))
	}
}

// list adds one line for each value, the name before the first.
func (f fields) list(name string, values []string) {
	for _, value := range values {
		f.add(name, value)
		name = ""
	}
}

func (f fields) join(name string, values ...string) {
	var parts []string
	for _, value := range values {
		if value != "" {
			parts = append(parts, value)
		}
	}
	f.add(name, strings.Join(parts, ", "))
}
