package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"jobserver/api"
	"jobserver/foreign"
	"jobserver/view"
)

// Format is how to print: -q is -o id.
func (e *Env) Format() view.Format {
	if e.Globals.Quiet {
		return view.ID
	}
	return view.Format(cmp.Or(e.Globals.Output, string(view.Table)))
}

// ForScripts tells whether a program reads the output: then a
// listing is complete, row by row, and nothing is folded.
func (e *Env) ForScripts() bool {
	return e.Format() != view.Table && e.Format() != view.Wide
}

// Structured tells whether the output has fields, rather than only ids.
func (e *Env) Structured() bool { return e.ForScripts() && e.Format() != view.ID }

// ForPeople refuses the formats of programs for what has none of them; hint says what has. The
// config file's and the environment's are for what has them.
func (e *Env) ForPeople(what, hint string) error {
	if !e.ForScripts() {
		return nil
	}
	if !e.Line.Has("quiet") && !e.Line.Has("output") {
		e.Globals.Quiet, e.Globals.Output = false, ""
		return nil
	}
	flag := "-o " + string(e.Format())
	if e.Globals.Quiet {
		flag = "-q"
	}
	return api.Errorf(api.Usage, "%s %s: it is shown as a table or text only", what, flag).
		WithHint("%s", hint)
}

// ViewOptions say how listings are written, as the flags do.
func (e *Env) ViewOptions() view.Options {
	return view.Options{Format: e.Format(), Screen: e.Screen, SafeCSV: e.Globals.SafeCSV}
}

// List prints a listing in the format that the flags say.
func List[T any](e *Env, rows []T, columns []view.Column[T]) error {
	return view.Write(e.Stdout, e.ViewOptions(), columns, rows)
}

// ListOrWrite lists rows for programs, and writes each in full, with a blank line between, for
// people.
func ListOrWrite[T any](
	e *Env, rows []T, columns []view.Column[T], write func(io.Writer, *Env, T),
) error {
	if e.ForScripts() {
		return List(e, rows, columns)
	}
	out, end := e.Folded()
	defer end()
	for i, row := range rows {
		if i > 0 {
			fmt.Fprintln(out)
		}
		write(out, e, row)
	}
	return nil
}

// Folded is stdout for what is written in full: off a terminal, which folds lines itself, lines
// that are too wide are broken. end is called behind the last of them.
func (e *Env) Folded() (out io.Writer, end func()) {
	if e.Screen.Terminal {
		return e.Stdout, func() {}
	}
	folded := &view.Folder{W: e.Stdout}
	return folded, func() { _ = folded.Close() } // what stdout doesn't take is told when it ends
}

// prepare looks at the terminal once the flags are known.
func (e *Env) prepare() {
	if file, ok := e.Raw.Stdout.(*os.File); ok {
		e.Screen = view.DetectScreen(file, e.Getenv)
	}
	e.Stdout = e.Raw.Stdout
	if e.Screen.Terminal {
		e.Stdout = foreign.NewTerminal(e.Raw.Stdout)
	}
	switch e.Globals.Color {
	case "always":
		e.Screen.Color = true
	case "never":
		e.Screen.Color = false
	}
}

// Resized looks how wide the terminal is now.
func (e *Env) Resized() {
	if file, ok := e.Raw.Stdout.(*os.File); ok && e.Screen.Terminal {
		e.Screen.Width = view.DetectScreen(file, e.Getenv).Width
	}
}

// flush writes what the guards of the streams still hold back.
func (e *Env) flush() error {
	var err error
	for _, w := range []io.Writer{e.Stdout, e.Stderr} {
		if guard, ok := w.(*foreign.Terminal); ok {
			err = errors.Join(err, guard.Flush())
		}
	}
	return err
}

// Logs are the streams for what jobs have printed. It may be anything: files and pipes get it as it
// is, and a terminal, of which nothing but its colours and lines may be changed, all else so that
// it can be seen.
func (e *Env) Logs() Streams {
	guard := func(w io.Writer) io.Writer {
		if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
			return foreign.NewLogTerminal(w)
		}
		return w
	}
	return Streams{Stdout: guard(e.Raw.Stdout), Stderr: guard(e.Raw.Stderr)}
}

// Interactive tells whether there is somebody to ask.
func (e *Env) Interactive() bool {
	in, ok := e.Stdin.(*os.File)
	return ok && term.IsTerminal(int(in.Fd()))
}

// Note tells the user something on stderr, unless -q.
func (e *Env) Note(format string, args ...any) {
	if !e.Globals.Quiet {
		fmt.Fprintf(e.Stderr, "%s: %s\n", e.Name, view.Clean(fmt.Sprintf(format, args...)))
	}
}

// Warn prints the daemon's warnings, -q or not: they say that something may not be as meant.
func (e *Env) Warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(e.Stderr, "%s: warning: %s\n", e.Name, view.Clean(w))
	}
}

// submitted is a new job, as `job add`, `machine setup` and `matrix rerun` print it.
type submitted struct {
	JID uint64 `json:"jid"`
}

// Told says that what a command did has been told in words that name the ids: somebody at a
// terminal needs them no second time, while a script reads them from stdout.
func (e *Env) Told() bool { return e.Screen.Terminal && !e.ForScripts() }

// PrintIDs prints the ids of new jobs, one a line.
func (e *Env) PrintIDs(ids []uint64) error {
	if e.Structured() {
		rows := make([]submitted, len(ids))
		for i, id := range ids {
			rows[i] = submitted{id}
		}
		return List(e, rows, []view.Column[submitted]{
			{Key: "jid", Value: func(s submitted) string { return fmt.Sprint(s.JID) }, IsID: true},
		})
	}
	var text strings.Builder
	for _, id := range ids {
		fmt.Fprintln(&text, id)
	}
	_, err := io.WriteString(e.Stdout, text.String())
	return err
}

// TimeText is a time for people on a terminal, else for programs.
func (e *Env) TimeText(t time.Time) string {
	return view.FormatTime(t, e.Now(), e.Screen.Terminal)
}

// TimePointerText is TimeText of a time that may not be known: "" then.
func (e *Env) TimePointerText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return e.TimeText(*t)
}

// Paint colours text where colours are wanted.
func (e *Env) Paint(
	style view.Style, text string,
) string {
	return style.Paint(text, e.Screen.Color)
}

// CountsLine is the line above a listing of jobs, or what stands behind `before` columns of one; on
// a narrow terminal the statuses are letters.
func (e *Env) CountsLine(c api.Counts, before int) string {
	counts := ViewCounts(c)
	line := counts.Line()
	if e.Screen.Width > 0 && before+view.Width(view.Paint(line, false)) > e.Screen.Width {
		line = append([]view.Span{{Text: view.Counted(c.Total(), "job") + ": "}}, counts.Short()...)
	}
	return view.Paint(line, e.Screen.Color)
}

// ViewCounts are counts as they are shown.
func ViewCounts(c api.Counts) view.Counts {
	return view.Counts{
		Waiting: c.Waiting, Held: c.Held, Running: c.Running, Copying: c.Copying,
		Done: c.Done, Failed: c.Failed, Canceled: c.Canceled, Lost: c.Lost,
	}
}

// IsBrokenPipe says that whoever read what we write has gone.
func IsBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

// Redraw shows a screen in the place of the one before. Off a terminal each is printed below the
// other.
func (e *Env) Redraw(draw func(w io.Writer) error) error {
	var text strings.Builder
	if err := draw(&text); err != nil {
		return err
	}
	out := text.String()
	if e.Screen.Terminal {
		// Home, and each line cleared from its end: without a flash. Then what is left below.
		out = "\x1b[H" + strings.ReplaceAll(out, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err := io.WriteString(e.Stdout, out)
	return err
}

// formatted is a command that has formats of its own for -o.
type formatted interface{ Formats() []string }

// checkOutput refuses a value of -o that the command doesn't know. It stands here, and not in the
// grammar, since -o is a flag of all commands, and a plot's is a file.
func (e *Env) checkOutput(c Command) error {
	known := view.Formats()
	if own, ok := c.(formatted); ok {
		known = own.Formats()
	}
	if e.Globals.Quiet && slices.Contains(known, string(view.Table)) &&
		!slices.Contains(known, string(view.ID)) {
		if e.Line.Has("quiet") {
			return fmt.Errorf("-q: there are no ids to print; -o may be one of %s",
				strings.Join(known, ", "))
		}
		e.Globals.Quiet = false // the config file's is for what has ids
	}
	format := e.Globals.Output
	for _, k := range known {
		if format == k || strings.HasPrefix(k, "FILE.") &&
			strings.HasSuffix(strings.ToLower(format), k[len("FILE"):]) {
			return nil
		}
	}
	if format == string(view.Table) {
		return nil // the default, and not asked for
	}
	return fmt.Errorf("-o %s: it must be one of %s", format, strings.Join(known, ", "))
}

// NoteRepeated says that a change was done whose answer got lost on its way. What it changed isn't
// known any more.
func (e *Env) NoteRepeated(what string) {
	e.Note("done before the connection was lost: %s", what)
}
