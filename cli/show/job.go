package show

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// WriteWhy prints the sentence, its grounds and what to do.
func WriteWhy(w io.Writer, e *cli.Env, why api.WhyReply) {
	fmt.Fprintf(w, "job %d is %s: %s\n", why.JID,
		e.Paint(view.StatusStyle(why.Status, false), why.Status), view.Clean(why.Summary))
	for _, detail := range why.Details {
		fmt.Fprintf(w, "  %s\n", view.Clean(e.Called(detail)))
	}
	for _, line := range why.Output {
		fmt.Fprintf(w, "  | %s\n", view.Clean(line))
	}
	if why.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", view.Clean(e.Called(why.Hint)))
	}
}

// WriteJob prints all that is known of a job.
func WriteJob(w io.Writer, e *cli.Env, job api.Job) {
	out := Fields{w, 14}
	fmt.Fprintf(w, "%-14s %s\n", fmt.Sprintf("job %d", job.JID),
		view.Paint(jobStatus(&job, e.Now()), e.Screen.Color))
	out.Add("error", jobError(&job))
	out.Add("reason", job.Reason)
	out.Add("label", job.Label)
	out.Add("class", job.Class)
	out.Text("command", job.Cmd)
	for i, step := range job.Steps {
		out.Text(fmt.Sprintf("step %d", i+1), step)
	}
	if job.CmdRun != job.Cmd {
		out.Text("ran as", job.CmdRun)
	}
	out.Add("directory", job.Cwd)
	out.Add("stdin", job.Stdin)
	out.list("variables", assignments(job.Vars))
	out.list("environment", assignments(job.Env))
	if job.Matrix != 0 {
		out.Add("matrix", fmt.Sprintf("%d, cell %s", job.Matrix, StatText(KnownMaybe(job.Cell))))
	}
	out.Add("tag", cmp.Or(job.TagName, IDText(job.Tag)))
	out.Add("priority", NumberText(job.Priority))
	out.Add("needs", job.Needs.String())
	out.list("waits", job.After)
	out.list("inputs", inputTexts(job.Inputs))
	out.Add("start after", e.TimePointerText(job.StartAfter))
	out.list("retry on", job.RetryOn)
	out.list("no retry on", job.NoRetryOn)
	out.Add("submitted", e.TimeText(job.SubmittedAt))
	out.Add("not before", e.TimePointerText(job.NotBefore))
	if job.TimeoutSeconds > 0 {
		out.Add("time limit", secondsText(job.TimeoutSeconds))
	}
	out.Add("retries", retriesText(&job))
	out.Add("restart of", IDText(job.RestartOf))
	writeResults(out, &job)
	for _, attempt := range job.Attempts {
		fmt.Fprintln(w)
		writeAttempt(Fields{w, 14}, e, attempt)
	}
}

// retriesText says how often the job may be run again, and how often it has failed.
func retriesText(job *api.Job) string {
	switch {
	case job.MaxFailures < 0:
		return fmt.Sprintf("without limit, %d failed so far", job.Failures)
	case job.MaxFailures > 0:
		return fmt.Sprintf("%d, %d failed so far", job.MaxFailures, job.Failures)
	}
	return ""
}

func writeResults(out Fields, job *api.Job) {
	switch {
	case job.CpPath != "":
		out.Join("results", cmp.Or(job.ResultsStatus, "none yet"), job.ResultsError)
	case job.Unwanted():
		out.Add("results", "named, but not copied: no CP_PATH was given")
	}
	out.list("  on machine", job.Results)
	out.Add("  on host", cmp.Or(job.ResultsDir, job.CpPath))
}

func writeAttempt(out Fields, e *cli.Env, a api.Attempt) {
	ended := ""
	switch {
	case a.Signal != "":
		ended = "signal " + a.Signal
	case a.ExitCode.Set:
		ended = fmt.Sprintf("exit code %d", a.ExitCode.Value)
	}
	out.Join(fmt.Sprintf("attempt %d", a.Attempt), a.Outcome, ended, a.Error)
	if len(a.Ranks) == 0 {
		out.Add("  machine", fmt.Sprintf("%s, slot %d", a.Machine, a.Slot))
	}
	for _, r := range a.Ranks {
		out.Add("  "+rankName(&r), rankText(&r))
	}
	if len(a.Slots) > 1 {
		out.Add("  slots", api.NumbersText(a.Slots))
	}
	out.Add("  given", api.GivenText(a.Given))
	out.list("  input", inputTexts(a.Inputs))
	out.Add("  sent", e.TimeText(a.DispatchedAt))
	out.Add("  started", e.TimePointerText(a.StartedAt))
	out.Add("  ended", e.TimePointerText(a.EndedAt))
	if a.DurationSeconds > 0 {
		out.Join("  took", secondsText(a.DurationSeconds), "CPU "+secondsText(a.CPUSeconds),
			SizeText(a.MaxRSSBytes))
	}
	if a.PausedSeconds > 0 {
		out.Add("  paused", secondsText(a.PausedSeconds))
	}
	out.Add("  log", a.Log)
	out.Add("  stderr", a.ErrLog)
	if a.LogDropped > 0 {
		out.Add("  dropped", SizeText(a.LogDropped)+" of its log")
	}
}

// inputTexts says what a job is given, or an attempt was: NAME: PATH, and what was found there.
func inputTexts(inputs []api.Input) (lines []string) {
	for _, in := range inputs {
		line := in.Name + ": " + in.Path
		switch {
		case in.Hash == "":
		case in.Dir:
			line += fmt.Sprintf(", %s, %s, %.12s", view.Counted(in.Files, "file"),
				SizeText(in.Bytes), in.Hash)
		default:
			line += fmt.Sprintf(", %s, %.12s", SizeText(in.Bytes), in.Hash)
		}
		lines = append(lines, line)
	}
	return lines
}

// rankName says what a machine is to a job that has several.
func rankName(r *api.Rank) string {
	switch {
	case r.With != "":
		return r.With
	case r.Rank.Set:
		return fmt.Sprintf("rank %d", r.Rank.Value)
	}
	return "machine"
}

// rankText says where a rank is, and how it is there.
func rankText(r *api.Rank) string {
	text := fmt.Sprintf("%s, slot %d: %s", r.Machine, r.Slot, r.Outcome)
	switch {
	case r.Signal != "":
		text += ", signal " + r.Signal
	case r.ExitCode.Set && r.ExitCode.Value != 0:
		text += fmt.Sprintf(", exit code %d", r.ExitCode.Value)
	}
	if r.Error != "" {
		text += ": " + r.Error
	}
	if r.First {
		text += ", which ended the others"
	}
	if given := api.GivenText(r.Given); given != "" {
		text += ", given " + given
	}
	return text
}

func secondsText(seconds float64) string {
	return view.FormatDuration(time.Duration(seconds * float64(time.Second)))
}

func assignments(values map[string]string) []string {
	var words []string
	for name, value := range values {
		words = append(words, name+"="+value)
	}
	slices.Sort(words)
	return words
}
