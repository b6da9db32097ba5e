package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"jobserver/api"
	"jobserver/stats"
	"jobserver/view"
)

// matrixPlot is `matrix plot ID`.
type matrixPlot struct {
	sweepSource
	X      string `name:"x" required:"" placeholder:"A" help:"The variable along the x axis."`
	Y      string `name:"y" required:"" placeholder:"METRIC" help:"The metric: its mean over repeats, with the 95 % confidence interval."`
	Series string `name:"series" placeholder:"B" help:"A line for each value of this variable."`
	Title  string `name:"title" placeholder:"TEXT" help:"Over the plot."`
	LogX   bool   `name:"log-x" help:"A logarithmic x axis."`
	LogY   bool   `name:"log-y" help:"A logarithmic y axis."`
}

// formats are those of -o: a file's name, or the bare kind of file for standard output.
func (c *matrixPlot) formats() []string { return []string{"FILE.svg", "FILE.png", "svg", "png"} }

// Run draws the plot into the file that -o names.
func (c *matrixPlot) Run(ctx context.Context, e *env) error {
	data, matrix, err := c.load(ctx, e)
	if err != nil {
		return err
	}
	file := e.globals.Output
	if file == string(view.Table) {
		file = fmt.Sprintf("matrix-%s.svg", firstNonEmpty(matrix.Name, fmt.Sprint(matrix.ID)))
	}
	p := stats.Plot{X: c.X, Y: c.Y, Series: c.Series, Title: c.Title, LogX: c.LogX, LogY: c.LogY, Format: plotFormat(file)}
	var out bytes.Buffer
	warnings, err := data.WritePlot(&out, p)
	if err != nil {
		return api.Wrap(api.Usage, err)
	}
	e.warn(warnings)
	if p.Format == file {
		_, err := e.stdout.Write(out.Bytes())
		return err
	}
	if err := renameio.WriteFile(file, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	e.note("the plot is in %s", file)
	return nil
}

// plotFormat is the kind of file that a name is of.
func plotFormat(file string) string {
	if file == "svg" || file == "png" {
		return file
	}
	return strings.TrimPrefix(strings.ToLower(filepath.Ext(file)), ".")
}

// formatted is a command that has formats of its own for -o.
type formatted interface{ formats() []string }

// checkOutput refuses a value of -o that the command doesn't know. It stands here, and not in the grammar,
// since -o is a flag of all commands, and a plot's is a file.
func (e *env) checkOutput(c command) error {
	known := view.Formats()
	if own, ok := c.(formatted); ok {
		known = own.formats()
	}
	if e.globals.Quiet && slices.Contains(known, string(view.Table)) && !slices.Contains(known, string(view.ID)) {
		if e.given("--quiet") {
			return fmt.Errorf("-q: there are no ids to print; -o may be one of %s", strings.Join(known, ", "))
		}
		e.globals.Quiet = false // the config file's is for what has ids
	}
	format := e.globals.Output
	for _, k := range known {
		if format == k || strings.HasPrefix(k, "FILE.") && strings.HasSuffix(strings.ToLower(format), k[len("FILE"):]) {
			return nil
		}
	}
	if format == string(view.Table) {
		return nil // the default, and not asked for
	}
	return fmt.Errorf("-o %s: it must be one of %s", format, strings.Join(known, ", "))
}
