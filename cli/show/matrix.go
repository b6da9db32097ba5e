package show

import (
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// MatrixColumns are the columns of `matrix ls`.
func MatrixColumns(e *cli.Env) []view.Column[api.Matrix] {
	type m = api.Matrix
	id := Plain("Matrix", "id", func(m m) string { return fmt.Sprint(m.ID) })
	id.IsID = true
	name := Plain("Name", "name", func(m m) string { return m.Name })
	name.Give, name.Min = 3, 6
	jobs := view.Column[m]{Title: "Jobs", Key: "cells", Cell: func(m m) []view.Span {
		return matrixCounts(m)
	},
		Value: func(m m) string { return fmt.Sprint(m.Cells) }}
	cmd := Plain("Command", "cmd", func(m m) string { return view.FirstLine(m.Cmd) })
	cmd.Value = func(m m) string { return m.Cmd }
	cmd.Middle, cmd.Min, cmd.Give = true, 16, 1
	vars := Plain("Values", "vars", axesText)
	vars.Give, vars.Min = 2, 12
	after := Plain("After", "after", func(m m) string { return afterText(m.After) })
	after.Give, after.Min = 3, 8
	left := Plain("Left", "left_seconds", func(m m) string { return LeftText(m.Left) })
	left.Give, left.Value = 4, func(m m) string {
		if m.Left == nil {
			return ""
		}
		return fmt.Sprint(m.Left.Seconds)
	}
	return []view.Column[m]{id, name, jobs, after, left, Plain("Class", "class", func(m m) string {
		return m.Class
	}), cmd, vars,
		{Title: "Submitted", Key: "submitted_at", OnlyWide: true, Cell: view.Text(func(m m) string {
			return e.TimeText(m.SubmittedAt)
		})},
		{Title: "Results in", Key: "cp_path", OnlyWide: true, Cell: view.Text(func(m m) string {
			return m.CpPath
		})},
	}
}

// afterText says in short what a matrix waits for: its cells for those of train, or all of it.
func afterText(after []string) string {
	var words []string
	for _, text := range after {
		text = strings.TrimPrefix(text, "after ")
		if of, ok := strings.CutPrefix(text, "after-cell "); ok {
			text = "cells of " + of
		}
		words = append(words, text)
	}
	return strings.Join(words, ", ")
}

// matrixCounts are a matrix's counts, and why it is held if it is.
func matrixCounts(m api.Matrix) []view.Span {
	spans := cli.ViewCounts(m.Counts).Short()
	if m.Held && m.Counts.Unfinished() > 0 {
		spans = append(spans, view.Span{Text: " held", Style: view.Blue})
	}
	return spans
}

// LeftText is how long the rest of a matrix takes: "12m ± 3m"; "" where the margin is wider than
// the time itself.
func LeftText(left *api.TimeLeft) string {
	switch {
	case left == nil, left.Margin() > left.Duration():
		return "" // it may be anything
	case left.Error > 0:
		return view.FormatDuration(left.Duration()) + " ± " + view.FormatDuration(left.Margin())
	}
	return view.FormatDuration(left.Duration())
}

func axesText(m api.Matrix) string {
	words := make([]string, len(m.Vars))
	for i, axis := range m.Vars {
		words[i] = axis.Name + "=" + strings.Join(axis.Values, ",")
	}
	return strings.Join(words, " ")
}
