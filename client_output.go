package main

import (
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
	"jobserver/view"
)

// format is how to print: -q is -o id.
func (e *env) format() view.Format {
	if e.globals.Quiet {
		return view.ID
	}
	return view.Format(firstNonEmpty(e.globals.Output, string(view.Table)))
}

// forScripts tells whether a program reads the output: then a
// listing is complete, row by row, and nothing is folded.
func (e *env) forScripts() bool {
	return e.format() != view.Table && e.format() != view.Wide
}

// structured tells whether the output has fields, rather than only ids.
func (e *env) structured() bool { return e.forScripts() && e.format() != view.ID }

// given tells whether a flag, in its long form, stands on the command line itself.
func (e *env) given(flag string) bool {
	return slices.ContainsFunc(e.words, func(word string) bool { return word == flag || strings.HasPrefix(word, flag+"=") })
}

// forPeople refuses the formats of programs for what has none of them; hint says what has. The config file's and the
// environment's are for what has them.
func (e *env) forPeople(what, hint string) error {
	if !e.forScripts() {
		return nil
	}
	if !e.given("--quiet") && !e.given("--output") {
		e.globals.Quiet, e.globals.Output = false, ""
		return nil
	}
	flag := "-o " + string(e.format())
	if e.globals.Quiet {
		flag = "-q"
	}
	return api.Errorf(api.Usage, "%s %s: it is shown as a table or text only", what, flag).WithHint("%s", hint)
}

// list prints a listing in the format that the flags say.
func list[T any](e *env, rows []T, columns []view.Column[T]) error {
	return view.Write(e.stdout, view.Options{Format: e.format(), Screen: e.screen}, columns, rows)
}

// prepare looks at the terminal once the flags are known.
func (e *env) prepare() {
	if file, ok := e.stdout.(*os.File); ok {
		e.screen = view.DetectScreen(file, e.getenv)
	}
	switch e.globals.Color {
	case "always":
		e.screen.Color = true
	case "never":
		e.screen.Color = false
	}
}

// interactive tells whether there is somebody to ask.
func (e *env) interactive() bool {
	in, ok := e.stdin.(*os.File)
	return ok && term.IsTerminal(int(in.Fd()))
}

// note tells the user something on stderr, unless -q.
func (e *env) note(format string, args ...any) {
	if !e.globals.Quiet {
		fmt.Fprintf(e.stderr, "%s: %s\n", e.name, fmt.Sprintf(format, args...))
	}
}

// warn prints the daemon's warnings, -q or not: they say that something may not be as meant.
func (e *env) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(e.stderr, "%s: warning: %s\n", e.name, view.Clean(w))
	}
}

// submitted is a new job, as `job add`, `machine setup` and `matrix rerun` print it.
type submitted struct {
	JID uint64 `json:"jid"`
}

// told says that what a command did has been told in words that name the ids: somebody at a terminal needs
// them no second time, while a script reads them from stdout.
func (e *env) told() bool { return e.screen.Terminal && !e.forScripts() }

// printIDs prints the ids of new jobs, one a line.
func (e *env) printIDs(ids []uint64) error {
	if e.structured() {
		rows := make([]submitted, len(ids))
		for i, id := range ids {
			rows[i] = submitted{id}
		}
		return list(e, rows, []view.Column[submitted]{
			{Key: "jid", Value: func(s submitted) string { return fmt.Sprint(s.JID) }, IsID: true},
		})
	}
	var text strings.Builder
	for _, id := range ids {
		fmt.Fprintln(&text, id)
	}
	_, err := io.WriteString(e.stdout, text.String())
	return err
}

// timeText is a time for people on a terminal, else for programs.
func (e *env) timeText(t time.Time) string {
	return view.FormatTime(t, e.now(), e.screen.Terminal)
}

func (e *env) timePointerText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return e.timeText(*t)
}

// paint colours text where colours are wanted.
func (e *env) paint(style view.Style, text string) string { return style.Paint(text, e.screen.Color) }

// countsLine is the line above a listing of jobs, or what stands behind `before` columns of one; on a narrow terminal
// the statuses are letters.
func (e *env) countsLine(c api.Counts, before int) string {
	counts := viewCounts(c)
	line := counts.Line()
	if e.screen.Width > 0 && before+view.Width(view.Paint(line, false)) > e.screen.Width {
		line = append([]view.Span{{Text: view.Counted(c.Total(), "job") + ": "}}, counts.Short()...)
	}
	return view.Paint(line, e.screen.Color)
}

func viewCounts(c api.Counts) view.Counts {
	return view.Counts{
		Waiting: c.Waiting, Held: c.Held, Running: c.Running, Copying: c.Copying,
		Done: c.Done, Failed: c.Failed, Canceled: c.Canceled, Lost: c.Lost,
	}
}

func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

// redraw shows a screen in the place of the one before. Off a terminal each is printed below the other.
func (e *env) redraw(draw func(w io.Writer) error) error {
	var text strings.Builder
	if err := draw(&text); err != nil {
		return err
	}
	out := text.String()
	if e.screen.Terminal {
		// Home, and each line cleared from its end: without a flash. Then what is left below.
		out = "\x1b[H" + strings.ReplaceAll(out, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err := io.WriteString(e.stdout, out)
	return err
}

// formatted is a command that has formats of its own for -o.
type formatted interface{ formats() []string }

// checkOutput refuses a value of -o that the command doesn't know. It stands here, and not in the grammar,
// since -o is a flag of all commands, and a plot's is a file.
func (e *env) checkOutput(c command) error {
	known := view.Formats()
	if own, ok := c.(formatted); ok {
		known = own.formats()
	}
	if e.globals.Quiet && slices.Contains(known, string(view.Table)) && !slices.Contains(known, string(view.ID)) {
		if e.given("--quiet") {
			return fmt.Errorf("-q: there are no ids to print; -o may be one of %s", strings.Join(known, ", "))
		}
		e.globals.Quiet = false // the config file's is for what has ids
	}
	format := e.globals.Output
	for _, k := range known {
		if format == k || strings.HasPrefix(k, "FILE.") && strings.HasSuffix(strings.ToLower(format), k[len("FILE"):]) {
			return nil
		}
	}
	if format == string(view.Table) {
		return nil // the default, and not asked for
	}
	return fmt.Errorf("-o %s: it must be one of %s", format, strings.Join(known, ", "))
}
