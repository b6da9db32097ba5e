package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/stats"
	"jobserver/view"
)

// flatRow is one job of a matrix with all that is known of it, for programs that make their own
// tables: its keys are the columns, in order.
type flatRow struct {
	keys   []string
	values []any // nil: not known
}

func (r *flatRow) add(key string, value any) {
	r.keys, r.values = append(r.keys, key), append(r.values, value)
}

// MarshalJSON writes the row as an object, without what isn't known.
func (r flatRow) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, key := range r.keys {
		if r.values[i] == nil {
			continue
		}
		value, err := json.Marshal(r.values[i])
		if err != nil {
			return nil, err
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		name, _ := json.Marshal(key) // a string can always be written
		out.Write(append(append(name, ':'), value...))
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// writeFlat prints a row for each job: the newest of each cell.
func (c *Table) writeFlat(ctx context.Context, e *cli.Env, data *stats.Data, id uint64) error {
	jobs, err := jobsOf(ctx, e, id)
	if err != nil {
		return err
	}
	metrics := data.MeasurementNames()
	rows := make([]flatRow, len(data.Cells))
	for i := range data.Cells {
		rows[i] = flatten(data, &data.Cells[i], jobs[data.Cells[i].Job], metrics)
	}
	columns := make([]view.Column[flatRow], len(rows[0].keys))
	for i, key := range rows[0].keys {
		columns[i] = view.Column[flatRow]{Title: key, Key: key,
			Cell: view.Text(func(r flatRow) string { return show.StatText(r.values[i]) })}
	}
	return cli.List(e, rows, columns)
}

// flatten makes the row of a cell. What is called as one of the columns that there are anyway, as a
// metric `machine`, has its kind before it.
func flatten(d *stats.Data, c *stats.Cell, j *api.Job, metrics []string) flatRow {
	var r flatRow
	taken := map[string]bool{}
	add := func(kind, key string, value any) {
		if taken[key] {
			key = kind + "." + key
		}
		taken[key] = true
		r.add(key, value)
	}
	r.add("jid", known0(c.Job))
	for _, key := range []string{
		"jid", "status", "machine", "attempt", "exit_code", "submitted_at",
		"started_at", "ended_at", "duration_seconds", "cpu_seconds", "max_rss_bytes", stats.Repeat,
	} {
		taken[key] = true
	}
	for i, a := range d.Axes {
		add("var", a.Name, a.Values[c.Index[i]])
	}
	r.add(stats.Repeat, int(c.Repeat))
	r.add("status", show.Known(c.Status))
	r.add("machine", show.Known(c.Machine))
	if j == nil { // it was forgotten
		j = &api.Job{}
	}
	r.add("attempt", known0(j.Attempt))
	r.add("exit_code", show.KnownMaybe(j.ExitCode))
	r.add("submitted_at", show.KnownTime(&j.SubmittedAt))
	r.add("started_at", show.KnownTime(j.StartedAt))
	r.add("ended_at", show.KnownTime(j.EndedAt))
	r.add("duration_seconds", known0(j.DurationSeconds))
	r.add("cpu_seconds", known0(j.CPUSeconds))
	r.add("max_rss_bytes", known0(j.MaxRSSBytes))
	for _, name := range metrics {
		var value any
		for _, m := range c.Measurements { // the last of a name counts
			if m.Name == name {
				value = json.Number(strconv.FormatFloat(m.Value, 'g', -1, 64))
			}
		}
		add("metric", name, value)
	}
	return r
}

// known0 is nil for zero.
func known0[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// jobsOf fetches the jobs of a matrix, by their ids.
func jobsOf(ctx context.Context, e *cli.Env, id uint64) (map[uint64]*api.Job, error) {
	d, err := e.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	jobs := map[uint64]*api.Job{}
	args := api.ListJobsArgs{Selectors: []string{fmt.Sprintf("%%%d", id)}}
	for {
		page, err := cli.Ask[api.ListJobsReply](ctx, d, "ListJobs", &args)
		if err != nil {
			return nil, err
		}
		for i := range page.Jobs {
			jobs[page.Jobs[i].JID] = &page.Jobs[i]
		}
		if args.After = page.Next; args.After == 0 {
			return jobs, nil
		}
	}
}
