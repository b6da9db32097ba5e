package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"jobserver/api"
	"jobserver/view"
)

// writeWhy prints the sentence, its grounds and what to do.
func writeWhy(w io.Writer, e *env, why api.WhyReply) {
	fmt.Fprintf(w, "job %d is %s: %s\n", why.JID, e.paint(view.StatusStyle(why.Status, false), why.Status), view.Clean(why.Summary))
	for _, detail := range why.Details {
		fmt.Fprintf(w, "  %s\n", view.Clean(e.called(detail)))
	}
	if why.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", view.Clean(e.called(why.Hint)))
	}
}

// writeJob prints all that is known of a job.
func writeJob(w io.Writer, e *env, job api.Job) {
	out := fields{w, 14}
	fmt.Fprintf(w, "%-14s %s\n", fmt.Sprintf("job %d", job.JID), view.Paint(jobStatus(&job, e.now()), e.screen.Color))
	out.add("error", jobError(&job))
	out.add("class", job.Class)
	out.add("command", job.Cmd)
	out.list("setup", job.Steps)
	if job.CmdRun != job.Cmd {
		out.add("ran as", job.CmdRun)
	}
	out.list("variables", assignments(job.Vars))
	out.list("environment", assignments(job.Env))
	if job.Matrix != 0 {
		out.add("matrix", fmt.Sprintf("%d, cell %s", job.Matrix, statText(knownMaybe(job.Cell))))
	}
	out.add("tag", firstNonEmpty(job.TagName, known0(job.Tag)))
	out.add("priority", number0(job.Priority))
	out.add("submitted", e.timeText(job.SubmittedAt))
	out.add("not before", e.timePointerText(job.NotBefore))
	if job.TimeoutSeconds > 0 {
		out.add("time limit", secondsText(job.TimeoutSeconds))
	}
	out.add("retries", retriesText(&job))
	out.add("restart of", known0(job.RestartOf))
	writeResults(out, &job)
	for _, attempt := range job.Attempts {
		fmt.Fprintln(w)
		writeAttempt(fields{w, 14}, e, attempt)
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

func writeResults(out fields, job *api.Job) {
	switch {
	case job.CpPath != "":
		out.join("results", firstNonEmpty(job.ResultsStatus, "none yet"), job.ResultsError)
	case job.Unwanted():
		out.add("results", "named, but not copied: no CP_PATH was given")
	}
	out.list("  on machine", job.Results)
	out.add("  on host", firstNonEmpty(job.ResultsDir, job.CpPath))
}

func writeAttempt(out fields, e *env, a api.Attempt) {
	ended := ""
	switch {
	case a.Signal != "":
		ended = "signal " + a.Signal
	case a.ExitCode.Set:
		ended = fmt.Sprintf("exit code %d", a.ExitCode.Value)
	}
	out.join(fmt.Sprintf("attempt %d", a.Attempt), a.Outcome, ended, a.Error)
	out.add("  machine", fmt.Sprintf("%s, slot %d", a.Machine, a.Slot))
	out.add("  sent", e.timeText(a.DispatchedAt))
	out.add("  started", e.timePointerText(a.StartedAt))
	out.add("  ended", e.timePointerText(a.EndedAt))
	if a.DurationSeconds > 0 {
		out.join("  took", secondsText(a.DurationSeconds), "CPU "+secondsText(a.CPUSeconds), sizeText(a.MaxRSSBytes))
	}
	out.add("  log", a.Log)
	out.add("  stderr", a.ErrLog)
	if a.LogDropped > 0 {
		out.add("  dropped", sizeText(a.LogDropped)+" of its log")
	}
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
