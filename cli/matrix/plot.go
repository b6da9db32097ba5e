package matrix

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/stats"
	"jobserver/view"
)

// Plot is `matrix plot ID`.
type Plot struct {
	cellSource
	X      string `name:"x" predictor:"axis" required:"" placeholder:"A" help:"The variable along the x axis."`
	Y      string `name:"y" required:"" placeholder:"METRIC" help:"The metric: its mean over repeats, with the 95 % confidence interval."`
	Series string `name:"series" predictor:"axis" placeholder:"B" help:"Draw one line for each value of this variable."`
	Title  string `name:"title" placeholder:"TEXT" help:"The title of the plot."`
	LogX   bool   `name:"log-x" help:"Use a logarithmic x axis."`
	LogY   bool   `name:"log-y" help:"Use a logarithmic y axis."`
}

// Formats are the values of -o: a file's name, or the bare kind of file for standard output.
func (c *Plot) Formats() []string { return []string{"FILE.svg", "FILE.png", "svg", "png"} }

// Run draws the plot into the file that -o names.
func (c *Plot) Run(ctx context.Context, e *cli.Env) error {
	data, matrix, err := c.load(ctx, e)
	if err != nil {
		return err
	}
	file := e.Globals.Output
	if file == string(view.Table) {
		file = fmt.Sprintf("matrix-%s.svg", cmp.Or(matrix.Name, fmt.Sprint(matrix.ID)))
	}
	p := stats.Plot{X: c.X, Y: c.Y, Series: c.Series, Title: c.Title, LogX: c.LogX, LogY: c.LogY,
		Format: plotFormat(file)}
	var out bytes.Buffer
	warnings, err := data.WritePlot(&out, p)
	if err != nil {
		return api.Wrap(api.Usage, err)
	}
	e.Warn(warnings)
	if p.Format == file {
		_, err := e.Stdout.Write(out.Bytes())
		return err
	}
	if err := renameio.WriteFile(file, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	e.Note("the plot is in %s", file)
	return nil
}

// plotFormat is the kind of file that a name is of.
func plotFormat(file string) string {
	if file == "svg" || file == "png" {
		return file
	}
	return strings.TrimPrefix(strings.ToLower(filepath.Ext(file)), ".")
}
