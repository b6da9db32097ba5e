package job

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// Stat is `job stat`: chosen columns of jobs, for scripts.
type Stat struct {
	JID     []string `arg:"" optional:"" name:"JID" sep:"none" predictor:"job" help:"The same as --id."`
	ID      []string `name:"id" sep:"none" several:"" placeholder:"JID" predictor:"job" group:"Which jobs:" help:"Select these jobs, in any form; a matrix or tag stands for all its jobs."`
	From    string   `name:"after" placeholder:"JID" predictor:"job" group:"Which jobs:" help:"Select all jobs from this one on, even if it has been forgotten."`
	Running bool     `name:"running" group:"Which jobs:" help:"Select all running jobs."`
	narrow
	Done bool `name:"only_done" group:"Which jobs:" help:"Only the jobs that succeeded and whose results were copied."`

	CSV      bool `name:"csv" xor:"format" group:"Format:" help:"Print CSV with a header."`
	Text     bool `name:"text" xor:"format" group:"Format:" help:"Print columns separated by tabs."`
	JSON     bool `name:"json" xor:"format" group:"Format:" help:"Print a JSON array of objects."`
	NoHeader bool `name:"no_headers" group:"Format:" help:"Leave out the line with the column names."`

	Jid         bool    `name:"jid" group:"Columns, in the order given; all by default:" help:"Its id."`
	Matrix      bool    `name:"matrix" group:"Columns, in the order given; all by default:" help:"The id of its matrix."`
	Tag         bool    `name:"tag" group:"Columns, in the order given; all by default:" help:"The id of its tag."`
	Cmd         bool    `name:"cmd" group:"Columns, in the order given; all by default:" help:"Its command, as given."`
	Class       bool    `name:"class" group:"Columns, in the order given; all by default:" help:"Its class."`
	Machine     bool    `name:"machine" group:"Columns, in the order given; all by default:" help:"The machine of its last attempt."`
	Status      bool    `name:"status" group:"Columns, in the order given; all by default:" help:"Its status."`
	Error       bool    `name:"error" group:"Columns, in the order given; all by default:" help:"What made it fail."`
	Vars        bool    `name:"vars" group:"Columns, in the order given; all by default:" help:"Its variables, as a JSON object."`
	Results     bool    `name:"results" group:"Columns, in the order given; all by default:" help:"The paths of its results on the machine."`
	ResultsPath *string `name:"results_path" placeholder:"SUFFIX" group:"Columns, in the order given; all by default:" help:"The path of its result with this suffix, such as .csv, on the daemon's host; '' for the path as the job named it."`
	StartTime   bool    `name:"starttime" group:"Columns, in the order given; all by default:" help:"When its last attempt began."`
	EndTime     bool    `name:"endtime" group:"Columns, in the order given; all by default:" help:"When it ended."`
	Duration    bool    `name:"duration" group:"Columns, in the order given; all by default:" help:"How long its last attempt ran, in seconds."`
	Log         bool    `name:"log" group:"Columns, in the order given; all by default:" help:"The path of its log on the daemon's host."`
	ResultsDir  bool    `name:"results_dir" group:"Columns, in the order given; all by default:" help:"The directory of its results on the daemon's host."`
	Attempt     bool    `name:"attempt" group:"Columns, in the order given; all by default:" help:"The number of its last attempt, from 1."`
	ExitCode    bool    `name:"exit_code" group:"Columns, in the order given; all by default:" help:"Its exit code."`
	MaxRSS      bool    `name:"max_rss" group:"Columns, in the order given; all by default:" help:"Its largest memory, in bytes."`
	CPUTime     bool    `name:"cpu_time" group:"Columns, in the order given; all by default:" help:"Its CPU time, in seconds."`

	JidMap         string `name:"jid_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	MatrixMap      string `name:"matrix_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	TagMap         string `name:"tag_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	CmdMap         string `name:"cmd_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	ClassMap       string `name:"class_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	MachineMap     string `name:"machine_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	StatusMap      string `name:"status_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	ErrorMap       string `name:"error_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	VarsMap        string `name:"vars_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	ResultsMap     string `name:"results_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	ResultsPathMap string `name:"results_path_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	StartTimeMap   string `name:"starttime_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	EndTimeMap     string `name:"endtime_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	DurationMap    string `name:"duration_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	LogMap         string `name:"log_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	ResultsDirMap  string `name:"results_dir_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	AttemptMap     string `name:"attempt_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	ExitCodeMap    string `name:"exit_code_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	MaxRSSMap      string `name:"max_rss_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	CPUTimeMap     string `name:"cpu_time_map" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:"`
	Mapper         string `name:"mapper" placeholder:"PROGRAM" group:"Mappers; a value on stdin, the new one from stdout:" help:"A program that reads the whole job as a JSON object and prints one; keys it adds become columns."`

	AltPaths []string `name:"alt_paths" sep:"none" several:"" placeholder:"DIR" predictor:"dir" help:"Directories that results may have been moved to, for when the original is gone."`
}

// statColumn is a column of `job stat`. value is nil when the job has none.
type statColumn struct {
	name  string
	value func(c *Stat, job *api.Job) any
	mapBy func(c *Stat) string
}

// statColumns are all of them, in the order of the help.
func statColumns() []statColumn {
	return []statColumn{
		{"jid", func(_ *Stat, j *api.Job) any {
			return j.JID
		}, func(c *Stat) string { return c.JidMap }},
		{"matrix", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Matrix)
		}, func(c *Stat) string { return c.MatrixMap }},
		{"tag", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Tag)
		}, func(c *Stat) string { return c.TagMap }},
		{"cmd", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Cmd)
		}, func(c *Stat) string { return c.CmdMap }},
		{"class", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Class)
		}, func(c *Stat) string { return c.ClassMap }},
		{"machine", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Machine)
		}, func(c *Stat) string { return c.MachineMap }},
		{"status", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Status)
		}, func(c *Stat) string { return c.StatusMap }},
		{"error", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Error)
		}, func(c *Stat) string { return c.ErrorMap }},
		{"vars", func(_ *Stat, j *api.Job) any {
			return show.KnownMap(j.Vars)
		}, func(c *Stat) string { return c.VarsMap }},
		{"results", func(_ *Stat, j *api.Job) any {
			return show.KnownList(j.Results)
		}, func(c *Stat) string { return c.ResultsMap }},
		{"results_path", (*Stat).resultsPath, func(c *Stat) string { return c.ResultsPathMap }},
		{"starttime", func(_ *Stat, j *api.Job) any {
			return show.KnownTime(j.StartedAt)
		}, func(c *Stat) string { return c.StartTimeMap }},
		{"endtime", func(_ *Stat, j *api.Job) any {
			return show.KnownTime(j.EndedAt)
		}, func(c *Stat) string { return c.EndTimeMap }},
		{"duration", func(_ *Stat, j *api.Job) any {
			return show.Known(j.DurationSeconds)
		}, func(c *Stat) string { return c.DurationMap }},
		{"log", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Log)
		}, func(c *Stat) string { return c.LogMap }},
		{"results_dir", (*Stat).resultsDir, func(c *Stat) string { return c.ResultsDirMap }},
		{"attempt", func(_ *Stat, j *api.Job) any {
			return show.Known(j.Attempt)
		}, func(c *Stat) string { return c.AttemptMap }},
		{"exit_code", func(_ *Stat, j *api.Job) any {
			return show.KnownMaybe(j.ExitCode)
		}, func(c *Stat) string { return c.ExitCodeMap }},
		{"max_rss", func(_ *Stat, j *api.Job) any {
			return show.Known(j.MaxRSSBytes)
		}, func(c *Stat) string { return c.MaxRSSMap }},
		{"cpu_time", func(_ *Stat, j *api.Job) any {
			return show.Known(j.CPUSeconds)
		}, func(c *Stat) string { return c.CPUTimeMap }},
	}
}

// resultsDir is where the job's results are, or have been moved to.
func (c *Stat) resultsDir(job *api.Job) any {
	if job.ResultsDir == "" {
		return nil
	}
	if _, err := os.Stat(job.ResultsDir); err == nil || len(c.AltPaths) == 0 {
		return job.ResultsDir
	}
	for _, alt := range c.AltPaths {
		moved := filepath.Join(alt, filepath.Base(job.ResultsDir))
		if _, err := os.Stat(moved); err == nil {
			return moved
		}
		// Or the files themselves have been put there.
		for _, result := range job.Results {
			if found, _ := filepath.Glob(filepath.Join(alt, filepath.Base(result)+
				"*")); len(found) > 0 {
				return alt
			}
		}
	}
	return job.ResultsDir
}

// resultsPath is what the job named as its results, on this
// side: one path, or several with a line end between them.
func (c *Stat) resultsPath(job *api.Job) any {
	dir, ok := c.resultsDir(job).(string)
	if !ok || len(job.Results) == 0 {
		return nil
	}
	suffix := ""
	if c.ResultsPath != nil {
		suffix = *c.ResultsPath
	}
	var paths []string
	for _, result := range job.Results {
		paths = append(paths, withSuffix(filepath.Join(dir, filepath.Base(result)), suffix)...)
	}
	slices.Sort(paths)
	return strings.Join(slices.Compact(paths), "\n")
}

// withSuffix are the files that a result stands for and that have the suffix. A result is the
// beginning of their names, and the suffix the rest, as expjobserver has it; or it is the file
// itself, a pattern or a directory.
func withSuffix(path, suffix string) []string {
	named := path + suffix
	if _, err := os.Stat(named); err == nil || suffix == "" {
		return []string{named}
	}
	for _, pattern := range []string{path, filepath.Join(path, "*")} {
		found, _ := filepath.Glob(pattern) // none, if it only looks like a pattern
		found = slices.DeleteFunc(found, func(name string) bool {
			return !strings.HasSuffix(name, suffix)
		})
		if len(found) > 0 {
			return found
		}
	}
	if strings.HasSuffix(path, suffix) {
		// it isn't here to be looked at, as when the daemon is on another host
		return []string{path}
	}
	return []string{named}
}

// Run prints the columns of the jobs.
func (c *Stat) Run(ctx context.Context, e *cli.Env) error {
	if c.format(e) == view.ID {
		return c.each(ctx, e, nil, func(jobs []api.Job) error {
			ids := make([]uint64, len(jobs))
			for i := range jobs {
				ids[i] = jobs[i].JID
			}
			return e.PrintIDs(ids)
		})
	}
	columns := c.chosen(e)
	out := newStatWriter(e.Stdout, view.Options{
		Format: c.format(e), Screen: e.Screen, NoHeader: c.NoHeader, SafeCSV: e.Globals.SafeCSV,
	}, columns)
	err := c.each(ctx, e, columns, func(jobs []api.Job) error {
		rows, err := mapJobs(ctx, e, c, columns, jobs)
		if err != nil {
			return err
		}
		return out.write(rows)
	})
	if err != nil {
		return err
	}
	return out.close()
}

// format gives the format of the flags, else of -o, else text.
func (c *Stat) format(e *cli.Env) view.Format {
	switch {
	case c.CSV:
		return view.CSV
	case c.JSON:
		return view.JSON
	case c.Text:
		return view.Table
	}
	return e.Format()
}

// chosen are the columns that the command line names, in its order; all when it names none.
func (c *Stat) chosen(e *cli.Env) []statColumn {
	all := statColumns()
	var columns []statColumn
	for _, name := range e.Line.Flags() {
		at := slices.IndexFunc(all, func(column statColumn) bool { return column.name == name })
		if at >= 0 && !slices.ContainsFunc(columns,
			func(column statColumn) bool { return column.name == name }) {
			columns = append(columns, all[at])
		}
	}
	if len(columns) == 0 {
		return all
	}
	return columns
}

// each passes on the jobs that the flags select, each once, in order of id: page by page where one
// question gives all of them, as those of a long history needn't fit into memory.
func (c *Stat) each(
	ctx context.Context, e *cli.Env, columns []statColumn, take func([]api.Job) error,
) error {
	words, err := c.narrow.words(e, append(slices.Clone(c.ID), c.JID...))
	if err != nil {
		return err
	}
	if len(words) == 0 && c.From == "" && !c.Running {
		return api.Errorf(api.Usage, "which jobs?").
			WithHint("name them with --id JID…, --after JID or --running")
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	asks, err := c.questions(ctx, d, words, columns)
	if err != nil {
		return err
	}
	wanted := func(page *api.ListJobsReply) []api.Job {
		return slices.DeleteFunc(page.Jobs, func(job api.Job) bool {
			return c.Done && (job.Status != api.StatusDone || job.ResultsStatus != "copied")
		})
	}
	if len(asks) == 1 {
		return eachPage(ctx, d, asks[0], func(page *api.ListJobsReply) error {
			return take(wanted(page))
		})
	}
	var jobs []api.Job
	for _, args := range asks {
		err := eachPage(ctx, d, args, func(page *api.ListJobsReply) error {
			jobs = append(jobs, wanted(page)...)
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(jobs, func(a, b api.Job) int { return cmp.Compare(a.JID, b.JID) })
	return take(slices.CompactFunc(jobs, func(a, b api.Job) bool { return a.JID == b.JID }))
}

// questions are what the daemon is asked: together their answers are the jobs that the flags
// select.
func (c *Stat) questions(
	ctx context.Context, d cli.Daemon, words []string, columns []statColumn,
) ([]api.ListJobsArgs, error) {
	full := c.Mapper != "" || slices.ContainsFunc(columns, func(column statColumn) bool {
		return column.name == "vars"
	})
	var asks []api.ListJobsArgs
	// One call may answer with a page of jobs only, and each page would be sent all of 100,000
	// words again.
	for chunk := range slices.Chunk(words, 1000) {
		asks = append(asks, api.ListJobsArgs{Selectors: chunk, Full: full})
	}
	if c.From != "" {
		from, err := firstJob(ctx, d, c.From)
		if err != nil {
			return nil, err
		}
		asks = append(asks, api.ListJobsArgs{After: from - 1, Full: full})
	}
	if c.Running {
		asks = append(asks, api.ListJobsArgs{Running: true, Full: full})
	}
	return asks, nil
}

// firstJob is the first id that the selector stands for. A number stands for itself where there is
// no such job any more: a script may go on from the last job that it has seen, though it was
// forgotten.
func firstJob(ctx context.Context, d cli.Daemon, selector string) (uint64, error) {
	if selector == "0" { // from the beginning, as in the original, whose ids began there
		return 1, nil
	}
	jobs, err := jobsFull(ctx, d, []string{selector})
	if err == nil {
		return jobs[0].JID, nil
	}
	if id, _ := cli.IDOrName(selector); id > 0 && api.KindOf(err) == api.NotFound {
		return id, nil
	}
	return 0, err
}
