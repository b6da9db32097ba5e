package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/userfile"
)

// VarLs is `var ls`.
type VarLs struct{}

// Run lists the variables.
func (c *VarLs) Run(ctx context.Context, e *cli.Env) error {
	reply, err := cli.Call[api.ListVarsReply](ctx, e, "ListVars", &api.Empty{})
	if err != nil {
		return err
	}
	return cli.List(e, reply.Vars, show.VarColumns())
}

// VarSet is `var set NAME VALUE`.
type VarSet struct {
	Name   string  `arg:"" name:"NAME" predictor:"var" help:"Its name."`
	Value  *string `arg:"" optional:"" name:"VALUE" help:"Its value; - asks for it without echo on a terminal, or reads it from stdin. With --secret that is the default."`
	Secret bool    `name:"secret" help:"Never list, log or show the value. SLACK_API is always secret."`
}

// Run sets the variable.
func (c *VarSet) Run(ctx context.Context, e *cli.Env) error {
	if c.Value == nil && !c.Secret {
		return api.Errorf(api.Usage, "var set: missing VALUE").
			WithHint("give it, or let it be asked for: %s var set %s --secret", e.Name, c.Name)
	}
	value := "-"
	if c.Value != nil {
		value = *c.Value
	}
	if value == "-" {
		read, err := readSecret(ctx, e, fmt.Sprintf("value of %s: ", c.Name))
		if err != nil {
			return fmt.Errorf("read the value of %s: %w", c.Name, err)
		}
		value = read
	} else if c.Secret {
		e.Note("the value stands in the shell's history and in the list of processes; `%s var "+
			"set %s --secret` asks for it", e.Name, c.Name)
	}
	args := api.SetVarArgs{Name: c.Name, Value: value, Secret: c.Secret}
	_, err := cli.Call[api.Empty](ctx, e, "SetVar", &args)
	return err
}

// readSecret asks without echo on a terminal; else it takes all of stdin but its last line end.
func readSecret(ctx context.Context, e *cli.Env, prompt string) (string, error) {
	if file, ok := e.Stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(e.Stderr, prompt)
		secret, err := readPassword(ctx, int(file.Fd()))
		fmt.Fprintln(e.Stderr)
		return secret, err
	}
	data, err := io.ReadAll(io.LimitReader(bufio.NewReader(e.Stdin), 1<<20))
	return strings.TrimSuffix(string(userfile.Text(data)), "\n"), err
}

// readPassword reads a line of a terminal without echo. When ctx ends first, it leaves the terminal
// as it was.
func readPassword(ctx context.Context, fd int) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type answer struct {
		line []byte
		err  error
	}
	read := make(chan answer, 1)
	// The goroutine ends with the line, or with the process: a read from a terminal can't be called
	// off.
	go func() {
		line, err := term.ReadPassword(fd)
		read <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(fd, before))
	case a := <-read:
		return string(a.line), a.err
	}
}

// VarUnset is `var unset NAME`.
type VarUnset struct {
	Name string `arg:"" name:"NAME" predictor:"var" help:"Its name."`
}

// Run takes the variable away.
func (c *VarUnset) Run(ctx context.Context, e *cli.Env) error {
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := cli.Ask[api.Empty](ctx, d, "SetVar",
		&api.SetVarArgs{Name: c.Name, Unset: true}); err != nil {
		return err
	}
	return nil
}
