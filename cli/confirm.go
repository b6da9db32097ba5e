package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"jobserver/api"
)

// ChangeLimit is how many jobs a command changes without being asked twice.
const ChangeLimit = 20

// ChangeFlags are the flags of every command that changes jobs.
type ChangeFlags struct {
	Yes    bool `name:"yes" short:"y" help:"Don't ask for confirmation."`
	DryRun bool `name:"dry-run" help:"Show what would change, without changing it."`
}

// Sure asks whether a change of more than ChangeLimit is meant.
// The error says that it isn't, or that nobody can be asked.
func (e *Env) Sure(ctx context.Context, what string, canAsk bool) error {
	if !canAsk {
		return api.Errorf(api.Confirm,
			"%s: that is more than %d, and there is no terminal to ask on", what, ChangeLimit).
			WithHint("--yes does it, --dry-run shows what would be changed")
	}
	return e.Confirm(ctx, what+"?", "nothing was changed")
}

// Confirm asks a question on the terminal. Only y and yes are a yes; whatever else is an error that
// says what came of it.
func (e *Env) Confirm(ctx context.Context, question, refused string) error {
	fmt.Fprintf(e.Stderr, "%s [y/N] ", question)
	answer := make(chan string, 1)
	// The goroutine ends with the line, or with the process: a read from a terminal can't be called
	// off.
	go func() {
		line, _ := bufio.NewReader(e.Stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(e.Stderr)
		e.Note("interrupted: %s", refused)
		return ctx.Err()
	case line := <-answer:
		if line == "y" || line == "yes" {
			return nil
		}
		return api.Errorf(api.Confirm, "%s", refused)
	}
}
