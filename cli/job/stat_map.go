package job

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
)

// statCell is one value of a row, under the name of its column.
type statCell struct {
	name  string
	value any
}

// mapJobs makes a row of each job, in their order. Mappers are programs, and run in parallel, one
// per core.
func mapJobs(
	ctx context.Context, e *cli.Env, c *Stat, columns []statColumn, jobs []api.Job,
) ([][]statCell, error) {
	rows := make([][]statCell, len(jobs))
	mapped := c.Mapper != "" || slices.ContainsFunc(columns, func(column statColumn) bool {
		return column.mapBy(c) != ""
	})
	if !mapped {
		for i := range jobs {
			rows[i] = plainRow(c, columns, &jobs[i])
		}
		return rows, nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i := range jobs {
		group.Go(func() error {
			row, err := mappedRow(ctx, e, c, columns, &jobs[i])
			if err != nil {
				return fmt.Errorf("job %d: %w", jobs[i].JID, err)
			}
			rows[i] = row
			return nil
		})
	}
	return rows, group.Wait()
}

func plainRow(c *Stat, columns []statColumn, job *api.Job) []statCell {
	row := make([]statCell, len(columns))
	for i, column := range columns {
		row[i] = statCell{column.name, column.value(c, job)}
	}
	return row
}

// mappedRow is a job's row after the mappers: first those of single columns, then that of the whole
// job.
func mappedRow(
	ctx context.Context, e *cli.Env, c *Stat, columns []statColumn, job *api.Job,
) ([]statCell, error) {
	values := map[string]any{}
	for _, column := range statColumns() {
		value := column.value(c, job)
		if program := column.mapBy(c); program != "" {
			out, err := runMapper(ctx, e, program, []byte(show.StatText(value)))
			if err != nil {
				return nil, fmt.Errorf("map %s: %w", column.name, err)
			}
			value = strings.TrimSuffix(string(out), "\n")
		}
		values[column.name] = value
	}
	extra := []string(nil)
	if c.Mapper != "" {
		mapped, added, err := mapWhole(ctx, e, c.Mapper, job, values)
		if err != nil {
			return nil, fmt.Errorf("map the job: %w", err)
		}
		for name, value := range mapped {
			if value == "" && values[name] == nil {
				delete(mapped, name) // it was given so, for there is none
			}
		}
		values, extra = mapped, added
	}
	var row []statCell
	for _, column := range columns {
		row = append(row, statCell{column.name, values[column.name]})
	}
	for _, name := range extra {
		row = append(row, statCell{name, values[name]})
	}
	return row, nil
}

// mapWhole gives the job to the program as one JSON object, and takes the object that it prints.
// The keys that it added are columns of their own, in alphabetical order.
func mapWhole(
	ctx context.Context, e *cli.Env, program string, job *api.Job, values map[string]any,
) (map[string]any, []string, error) {
	given, err := wholeJob(job, values)
	if err != nil {
		return nil, nil, err
	}
	input, err := json.Marshal(given)
	if err != nil {
		return nil, nil, err
	}
	output, err := runMapper(ctx, e, program, input)
	if err != nil {
		return nil, nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(output))
	decoder.UseNumber()
	var mapped map[string]any
	if err := decoder.Decode(&mapped); err != nil {
		return nil, nil, fmt.Errorf("what %s printed is not a JSON object: %w", program, err)
	}
	var extra []string
	for name := range mapped {
		if _, ok := given[name]; !ok {
			extra = append(extra, name)
		}
	}
	slices.Sort(extra)
	return mapped, extra, nil
}

// wholeJob is what a mapper of whole jobs is given: all fields of the job's JSON, the columns as
// they are by now (empty where there is none, so that a script finds each of them), and the names
// that the original gave to four of them.
func wholeJob(job *api.Job, values map[string]any) (map[string]any, error) {
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	whole := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&whole); err != nil {
		return nil, err
	}
	for name, value := range values {
		if value == nil {
			value = ""
		}
		whole[name] = value
	}
	whole["variables"] = show.StatText(values["vars"])
	whole["start"], whole["end"], whole["cp_results"] = whole["starttime"], whole["endtime"],
		whole["results_dir"]
	return whole, nil
}

// runMapper runs a program, or a shell command line when there is no such program, with the input
// on its stdin.
func runMapper(ctx context.Context, e *cli.Env, program string, input []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program)
	if _, err := exec.LookPath(program); err != nil {
		cmd = exec.CommandContext(ctx, "/bin/sh", "-c", program)
	}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), e.Stderr
	out, err := cmd.Output()
	if err != nil && !cli.IsBrokenPipe(err) {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return out, nil
}
