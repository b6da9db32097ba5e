package show

import (
	"fmt"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// number makes a cell of a number; 0 is left out.
func number[T any](f func(T) int64) func(T) string {
	return func(row T) string {
		if n := f(row); n != 0 {
			return fmt.Sprint(n)
		}
		return ""
	}
}

// Plain is a column whose cell and CSV value are the same text.
func Plain[T any](title, key string, f func(T) string) view.Column[T] {
	return view.Column[T]{Title: title, Key: key, Cell: view.Text(f)}
}

// sized is a column of a number of bytes; 0, which is unknown, is left out.
func sized[T any](title, key string, f func(T) int64) view.Column[T] {
	return view.Column[T]{Title: title, Key: key, Value: number(f),
		Cell: view.Text(func(row T) string {
			return SizeText(f(row))
		})}
}

// OnlyCSV is a column that tables don't have.
func OnlyCSV[T any](key string, f func(T) string) view.Column[T] {
	return view.Column[T]{Key: key, Value: f}
}

// IDList is ids with blanks between them.
func IDList(ids []uint64) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = fmt.Sprint(id)
	}
	return strings.Join(words, " ")
}

// SizeText is a number of bytes for people; "" for 0, which stands for unknown.
func SizeText(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return view.FormatSize(bytes)
}

func floatText[T any](f func(T) float64) func(T) string {
	return func(row T) string {
		if v := f(row); v != 0 {
			return fmt.Sprint(v)
		}
		return ""
	}
}

// TagColumns are the columns of `tag ls`.
func TagColumns(e *cli.Env) []view.Column[api.Tag] {
	id := Plain("Tag", "id", func(t api.Tag) string { return fmt.Sprint(t.ID) })
	id.IsID = true
	return []view.Column[api.Tag]{id,
		Plain("Name", "name", func(t api.Tag) string { return t.Name }),
		{Title: "Jobs", Key: "jobs", Value: func(t api.Tag) string {
			return fmt.Sprint(t.Counts.Total())
		},
			Cell: func(t api.Tag) []view.Span { return cli.ViewCounts(t.Counts).Short() }},
	}
}

// VarColumns are the columns of `var ls`.
func VarColumns() []view.Column[api.Variable] {
	type v = api.Variable
	name := Plain("Name", "name", func(v v) string { return v.Name })
	name.IsID = true
	value := view.Column[v]{Title: "Value", Key: "value",
		Value: func(v v) string { return v.Value.Value },
		Cell: func(v v) []view.Span {
			if !v.Value.Set {
				return []view.Span{{Text: "(secret)", Style: view.Grey}}
			}
			return []view.Span{{Text: v.Value.Value}}
		}}
	return []view.Column[v]{name, value, OnlyCSV("secret", func(v v) string {
		return fmt.Sprint(v.Secret)
	})}
}

// ChangeColumns are the columns of the jobs that a change matched.
func ChangeColumns(result func(api.ChangedJob) string) []view.Column[api.ChangedJob] {
	type b = api.ChangedJob
	jid := Plain("Job", "jid", func(b b) string { return fmt.Sprint(b.JID) })
	jid.IsID = true
	cmd := Plain("Command", "cmd", func(b b) string { return view.FirstLine(b.Cmd) })
	cmd.Value = func(b b) string { return b.Cmd }
	cmd.Middle, cmd.Min, cmd.Give = true, 12, 2
	note := Plain("Change", "note", result)
	return []view.Column[b]{jid,
		{Title: "Was", Key: "status", Cell: view.Styled(func(b b) string {
			return b.Status
		}, func(b b) view.Style { return view.StatusStyle(b.Status, false) })},
		note, cmd,
		OnlyCSV("changed", func(b b) string { return fmt.Sprint(b.Changed) }),
		OnlyCSV("new_jid", number(func(b b) int64 { return int64(b.NewJID) })),
		OnlyCSV("new_jids", func(b b) string { return IDList(b.NewJIDs) }),
	}
}

// WhyColumns are the columns of `job why`, for programs.
func WhyColumns() []view.Column[api.WhyReply] {
	type y = api.WhyReply
	jid := OnlyCSV("jid", func(y y) string { return fmt.Sprint(y.JID) })
	jid.IsID = true
	return []view.Column[y]{jid,
		OnlyCSV("status", func(y y) string { return y.Status }),
		OnlyCSV("summary", func(y y) string { return y.Summary }),
		OnlyCSV("details", func(y y) string { return strings.Join(y.Details, "\n") }),
		OnlyCSV("hint", func(y y) string { return y.Hint }),
	}
}

// StatusColumns are the columns of `status`, for programs.
func StatusColumns() []view.Column[api.Status] {
	type s = api.Status
	id := OnlyCSV("server_id", func(s s) string { return s.ServerID })
	id.IsID = true
	return []view.Column[s]{id,
		OnlyCSV("version", func(s s) string { return s.Version }),
		OnlyCSV("pid", func(s s) string { return fmt.Sprint(s.PID) }),
		OnlyCSV("state_dir", func(s s) string { return s.StateDir }),
		OnlyCSV("started_at", func(s s) string { return s.StartedAt.Format(time.RFC3339) }),
		OnlyCSV("jobs", func(s s) string { return fmt.Sprint(s.Jobs.Total()) }),
	}
}
