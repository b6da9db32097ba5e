package show

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// listRow is a row of `job ls`: a job, or a whole matrix or tag, or the line that the user drew.
type listRow struct {
	id     uint64
	job    *api.Job
	matrix *api.Matrix
	tag    *api.Tag
}

// WriteListing prints the counts and the table.
func WriteListing(w io.Writer, e *cli.Env, found *Listing) error {
	if _, err := fmt.Fprintf(w, "%s\n\n", e.CountsLine(found.Counts, 0)); err != nil {
		return err
	}
	columns := listColumns(e)
	if !slices.ContainsFunc(found.Jobs, func(j api.Job) bool { return j.Label != "" }) {
		columns = slices.DeleteFunc(columns, func(c view.Column[listRow]) bool {
			return c.Title == "Label"
		})
	}
	if found.ofOneMatrix() {
		at := slices.IndexFunc(columns, func(c view.Column[listRow]) bool {
			return c.Title == "Command"
		})
		columns[at] = valuesColumn()
	}
	return view.Write(w, e.ViewOptions(), columns,
		listRows(found, e.Config.Line))
}

// ofOneMatrix tells whether all rows are cells of the same matrix, with their variables: then their
// commands are alike but for those.
func (l *Listing) ofOneMatrix() bool {
	if len(l.Jobs) == 0 || len(l.Matrices)+len(l.Tags) > 0 {
		return false
	}
	for i := range l.Jobs {
		if job := &l.Jobs[i]; job.Matrix == 0 || job.Matrix != l.Jobs[0].Matrix ||
			len(job.Vars) == 0 {
			return false
		}
	}
	return true
}

// valuesColumn shows a cell's values, as they are written on a command line.
func valuesColumn() view.Column[listRow] {
	values := Plain("Values", "values", func(row listRow) string {
		if row.job == nil {
			return ""
		}
		return strings.Join(row.job.Values(), " ")
	})
	values.Give, values.Min = 1, 20
	return values
}

// listRows are the rows in order of id, with the line below job `line` where something stands below
// it.
func listRows(found *Listing, line uint64) []listRow {
	var rows []listRow
	for i := range found.Jobs {
		rows = append(rows, listRow{id: found.Jobs[i].JID, job: &found.Jobs[i]})
	}
	for i := range found.Matrices {
		rows = append(rows, listRow{id: found.Matrices[i].ID, matrix: &found.Matrices[i]})
	}
	for i := range found.Tags {
		rows = append(rows, listRow{id: found.Tags[i].ID, tag: &found.Tags[i]})
	}
	slices.SortStableFunc(rows, func(a, b listRow) int { return cmp.Compare(a.id, b.id) })
	at := slices.IndexFunc(rows, func(row listRow) bool { return row.id > line })
	if line > 0 && at > 0 {
		rows = slices.Insert(rows, at, listRow{id: line})
	}
	return rows
}

// listColumns are the columns of the table.
func listColumns(e *cli.Env) []view.Column[listRow] {
	ofJob := func(f func(*api.Job) string) func(listRow) string {
		return func(row listRow) string {
			if row.job == nil {
				return ""
			}
			return f(row.job)
		}
	}
	class := Plain("Class", "class", func(row listRow) string {
		switch {
		case row.job != nil:
			return row.job.Class
		case row.matrix != nil:
			return row.matrix.Class
		}
		return ""
	})
	class.Give, class.Max, class.Middle = 2, 16, true
	command := Plain("Command", "cmd", func(row listRow) string {
		switch {
		case row.job != nil:
			return view.FirstLine(jobCommand(row.job))
		case row.matrix != nil:
			return view.FirstLine(row.matrix.Cmd)
		case row.tag != nil && row.tag.Name != fmt.Sprint(row.tag.ID):
			return "@" + row.tag.Name
		}
		return ""
	})
	command.Give, command.Middle, command.Min = 1, true, 20
	machine := Plain("Machine", "machine",
		ofJob(func(job *api.Job) string { return job.MachineText() }))
	machine.Give, machine.Middle, machine.Min = 3, true, 12
	output := view.Column[listRow]{Title: "Output", Give: 4, Max: 32,
		Cell: func(row listRow) []view.Span {
			if row.job == nil {
				return nil
			}
			return jobOutput(row.job)
		}}
	return []view.Column[listRow]{
		{Title: "Job", Key: "jid", IsID: true, Cell: rowName},
		{Title: "Status", Key: "status", Cell: func(row listRow) []view.Span {
			return rowStatus(e, row)
		}},
		class,
		{Title: "Label", Give: 5, Min: 10, Max: 24,
			Cell: view.Text(ofJob(func(job *api.Job) string { return job.Label }))},
		command, machine, output,
		{Title: "Matrix", OnlyWide: true, Cell: view.Text(ofJob(func(job *api.Job) string {
			return IDText(job.Matrix)
		}))},
		{Title: "Tag", OnlyWide: true, Cell: view.Text(ofJob(func(job *api.Job) string {
			return cmp.Or(job.TagName, IDText(job.Tag))
		}))},
		{Title: "Priority", OnlyWide: true, Right: true,
			Cell: view.Text(ofJob(func(job *api.Job) string {
				return NumberText(job.Priority)
			}))},
		{Title: "Attempt", OnlyWide: true, Right: true,
			Cell: view.Text(ofJob(func(job *api.Job) string {
				return NumberText(job.Attempt)
			}))},
		{Title: "Submitted", OnlyWide: true, Cell: view.Text(ofJob(func(job *api.Job) string {
			return e.TimeText(job.SubmittedAt)
		}))},
		{Title: "Results in", OnlyWide: true, Cell: view.Text(ofJob(func(job *api.Job) string {
			return job.ResultsDir
		}))},
	}
}

func rowName(row listRow) []view.Span {
	switch {
	case row.job != nil:
		return []view.Span{{Text: fmt.Sprint(row.id), Style: view.Bold}}
	case row.matrix != nil:
		return []view.Span{{Text: fmt.Sprint(row.id), Style: view.Bold}, {Text: " (matrix)"}}
	case row.tag != nil:
		return []view.Span{{Text: fmt.Sprint(row.id), Style: view.Bold}, {Text: " (tag)"}}
	}
	return []view.Span{{Text: "─────", Style: view.Grey}}
}

func rowStatus(e *cli.Env, row listRow) []view.Span {
	switch {
	case row.job != nil:
		return jobStatus(row.job, e.Now())
	case row.matrix != nil:
		return matrixCounts(*row.matrix)
	case row.tag != nil:
		return cli.ViewCounts(row.tag.Counts).Short()
	}
	return nil
}

// jobCommand is a job's command as it ran, or as it will as far as that is known. A setup has many.
func jobCommand(job *api.Job) string {
	switch {
	case len(job.Steps) > 0:
		return "setup: " + strings.TrimSpace(strings.Join(job.Steps, "; "))
	case job.CmdRun != "":
		return job.CmdRun
	}
	return cmp.Or(job.CmdExpanded, job.Cmd)
}

// jobStatus is a status with how long it has lasted, or with how long the job ran.
func jobStatus(job *api.Job, now time.Time) []view.Span {
	name := strings.ToUpper(job.Status[:min(1, len(job.Status))]) + job.Status[min(1,
		len(job.Status)):]
	inside := job.Remarks()
	if d, ok := statusDuration(job, now); ok && !job.Canceling {
		inside = append(inside, view.FormatDuration(d))
	}
	if len(inside) > 0 {
		name += " (" + strings.Join(inside, ", ") + ")"
	}
	return []view.Span{{Text: name,
		Style: view.StatusStyle(job.Status, job.ResultsStatus == "copied")}}
}

func statusDuration(job *api.Job, now time.Time) (time.Duration, bool) {
	switch job.Status {
	case api.StatusWaiting, api.StatusHeld:
		return now.Sub(job.SubmittedAt), !job.SubmittedAt.IsZero()
	case api.StatusRunning, api.StatusCopying:
		return job.Ran(now), job.StartedAt != nil
	}
	return time.Duration(job.DurationSeconds * float64(time.Second)), job.StartedAt != nil
}

// jobOutput says whether there are results, or what went wrong.
func jobOutput(job *api.Job) []view.Span {
	switch {
	case job.Status == api.StatusDone && job.ResultsStatus == "copied":
		return []view.Span{{Text: "Ready", Style: view.Green}}
	case job.Status == api.StatusDone && job.ResultsStatus == "failed":
		return []view.Span{{Text: "copy failed", Style: view.Red}}
	case job.Status == api.StatusDone &&
		(job.ResultsStatus == "waiting" || job.ResultsStatus == "copying"):
		return []view.Span{{Text: "to copy", Style: view.Magenta}}
	case job.Status == api.StatusCanceled && job.Reason != "":
		return []view.Span{{Text: job.Reason}}
	case job.Status == api.StatusFailed || job.Status == api.StatusLost ||
		job.Status == api.StatusWaiting && job.Attempt > 0:
		return []view.Span{{Text: jobError(job)}}
	}
	return nil
}

// jobError says shortly what went wrong.
func jobError(job *api.Job) string {
	switch {
	case job.Error != "":
		return job.Error
	case job.Signal != "":
		return "killed by " + job.Signal
	case job.ExitCode.Value != 0:
		return fmt.Sprintf("exit code %d", job.ExitCode.Value)
	}
	return ""
}

// jobWriter prints jobs for programs, page by page.
type jobWriter = view.Printer[api.Job]

// NewJobWriter prints jobs to stdout, in the format that the flags name.
func NewJobWriter(e *cli.Env) (*jobWriter, error) {
	return view.NewPrinter(e.Stdout, e.ViewOptions(), JobColumns())
}

// JobColumns are the columns of jobs in CSV, named as in JSON.
func JobColumns() []view.Column[api.Job] {
	type j = api.Job
	id := OnlyCSV("jid", func(j j) string { return fmt.Sprint(j.JID) })
	id.IsID = true
	at := func(key string, f func(j) *time.Time) view.Column[j] {
		return OnlyCSV(key, func(j j) string { return StatText(KnownTime(f(j))) })
	}
	return []view.Column[j]{id,
		OnlyCSV("status", func(j j) string { return j.Status }),
		OnlyCSV("class", func(j j) string { return j.Class }),
		OnlyCSV("cmd", func(j j) string { return j.Cmd }),
		OnlyCSV("machine", func(j j) string { return j.Machine }),
		OnlyCSV("matrix", func(j j) string { return IDText(j.Matrix) }),
		OnlyCSV("tag", func(j j) string { return IDText(j.Tag) }),
		OnlyCSV("priority", func(j j) string { return fmt.Sprint(j.Priority) }),
		OnlyCSV("attempt", func(j j) string { return NumberText(j.Attempt) }),
		OnlyCSV("exit_code", func(j j) string { return StatText(KnownMaybe(j.ExitCode)) }),
		OnlyCSV("signal", func(j j) string { return j.Signal }),
		OnlyCSV("error", func(j j) string { return j.Error }),
		OnlyCSV("results_status", func(j j) string { return j.ResultsStatus }),
		OnlyCSV("results_dir", func(j j) string { return j.ResultsDir }),
		OnlyCSV("log", func(j j) string { return j.Log }),
		OnlyCSV("err_log", func(j j) string { return j.ErrLog }),
		at("submitted_at", func(j j) *time.Time { return &j.SubmittedAt }),
		at("started_at", func(j j) *time.Time { return j.StartedAt }),
		at("ended_at", func(j j) *time.Time { return j.EndedAt }),
		OnlyCSV("duration_seconds", floatText(func(j j) float64 { return j.DurationSeconds })),
		OnlyCSV("cpu_seconds", floatText(func(j j) float64 { return j.CPUSeconds })),
		OnlyCSV("max_rss_bytes", number(func(j j) int64 { return j.MaxRSSBytes })),
		OnlyCSV("label", func(j j) string { return j.Label }),
		OnlyCSV("reason", func(j j) string { return j.Reason }),
	}
}

// Listing has what one `job ls` shows.
type Listing struct {
	Jobs     []api.Job
	Matrices []api.Matrix
	Tags     []api.Tag
	Counts   api.Counts
	Cursor   uint64
}
