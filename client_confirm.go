package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"jobserver/api"
)

// changeLimit is how many jobs a command changes without being asked twice.
const changeLimit = 20

// changeFlags are those of every command that changes jobs.
type changeFlags struct {
	Yes    bool `name:"yes" short:"y" help:"Don't ask, however many jobs there are."`
	DryRun bool `name:"dry-run" help:"Show what would be changed, and change nothing."`
}

// sure asks whether a change of more than changeLimit is meant.
// The error says that it isn't, or that nobody can be asked.
func (e *env) sure(ctx context.Context, what string, canAsk bool) error {
	if !canAsk {
		return api.Errorf(api.Confirm, "%s: that is more than %d, and nobody is here to ask", what, changeLimit).
			WithHint("--yes does it, --dry-run shows what would be changed")
	}
	return e.confirm(ctx, what+"?", "nothing was changed")
}

// confirm asks a question on the terminal. Only y and yes are a yes; whatever else is an error that says what came of it.
func (e *env) confirm(ctx context.Context, question, refused string) error {
	fmt.Fprintf(e.stderr, "%s [y/N] ", question)
	answer := make(chan string, 1)
	// The goroutine ends with the line, or with the process: a read from a terminal can't be called off.
	go func() {
		line, _ := bufio.NewReader(e.stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(e.stderr)
		e.note("interrupted: %s", refused)
		return ctx.Err()
	case line := <-answer:
		if line == "y" || line == "yes" {
			return nil
		}
		return api.Errorf(api.Confirm, "%s", refused)
	}
}

// noteRepeated says that a change was done whose answer got lost on its way. What it changed isn't known any more.
func (e *env) noteRepeated(what string) {
	e.note("done before the connection was lost: %s", what)
}
