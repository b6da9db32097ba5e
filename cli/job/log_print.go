package job

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// logName says which log something is of.
type logName struct {
	JID     uint64 `json:"jid"`
	Attempt int    `json:"attempt"`
	Step    int    `json:"step,omitempty"` // of a setup, from 0
	Rank    *int   `json:"rank,omitempty"` // of a job that runs on each of several machines, from 0
	Stream  string `json:"stream"`         // stdout or stderr
}

// logRow is a log, or a line of one, as `job log` prints it for programs.
type logRow struct {
	logName
	Path string `json:"path,omitempty"` // on the daemon's host
	Line string `json:"line,omitempty"` // with -c or -n
}

func (l logFile) name() logName {
	n := logName{JID: l.jid, Attempt: l.attempt, Step: l.step, Stream: "stdout"}
	if l.rank > 0 {
		rank := l.rank - 1
		n.Rank = &rank
	}
	if l.stderr {
		n.Stream = "stderr"
	}
	return n
}

// String stands over a log: "job 17", "job 17 stderr", "job 3 step 2".
func (n logName) String() string {
	words := fmt.Sprintf("job %d", n.JID)
	if n.Step > 0 {
		words += fmt.Sprintf(" step %d", n.Step+1)
	}
	if n.Stream == "stderr" {
		words += " stderr"
	}
	return words
}

func pathColumns() []view.Column[logRow] {
	return append(nameColumns(), show.OnlyCSV("path", func(r logRow) string { return r.Path }))
}

func lineColumns() []view.Column[logRow] {
	return append(nameColumns(), show.OnlyCSV("line", func(r logRow) string { return r.Line }))
}

func nameColumns() []view.Column[logRow] {
	id := show.OnlyCSV("jid", func(r logRow) string { return fmt.Sprint(r.JID) })
	id.IsID = true
	return []view.Column[logRow]{
		id,
		show.OnlyCSV("attempt", func(r logRow) string { return fmt.Sprint(r.Attempt) }),
		show.OnlyCSV("step", func(r logRow) string { return show.NumberText(r.Step) }),
		show.OnlyCSV("rank", func(r logRow) string {
			if r.Rank == nil {
				return ""
			}
			return fmt.Sprint(*r.Rank)
		}),
		show.OnlyCSV("stream", func(r logRow) string { return r.Stream }),
	}
}

// print prints what is in the logs, each under a header where there are several, as tail(1) does;
// for programs an object a line.
func (c *Log) print(ctx context.Context, e *cli.Env, d cli.Daemon, logs []logFile) error {
	if e.Structured() {
		return c.printLines(ctx, e, d, logs)
	}
	out := &endWriter{w: e.Logs().Stdout}
	for i, log := range logs {
		// the lines of ranks have theirs before them
		own := i == 0 || log.rank == 0 || log.jid != logs[i-1].jid
		last := i+1 == len(logs) || log.jid != logs[i+1].jid
		if len(logs) > 1 && !c.Bare && own && (log.rank == 0 || !oneJob(logs)) {
			before := ""
			if i > 0 {
				before = "\n"
			}
			if out.open { // the log before has no end of its last line
				before = "\n\n"
			}
			if _, err := fmt.Fprintf(out, "%s==> %s <==\n", before, log.name()); err != nil {
				return err
			}
		}
		w, end := io.Writer(out), func() error { return nil }
		if log.rank > 0 && !(own && last) {
			ranked := (&lineLock{}).writer(out, rankPrefix(log.rank))
			w, end = ranked, ranked.Close
		}
		if c.Lines > 0 {
			newest, close := &lastWriter{w: w, most: c.Lines}, end
			w, end = newest, func() error {
				if err := newest.flush(); err != nil {
					return err
				}
				return close()
			}
		}
		if err := catLog(ctx, e, d, log, w); err != nil {
			return err
		}
		if err := end(); err != nil {
			return err
		}
	}
	return nil
}

// rankPrefix stands before the lines of a rank, by its number from 1.
func rankPrefix(rank int) string { return fmt.Sprintf("r%d: ", rank-1) }

// oneJob says that all of some logs are one job's.
func oneJob(logs []logFile) bool {
	return !slices.ContainsFunc(logs, func(l logFile) bool { return l.jid != logs[0].jid })
}

// printLines prints the lines of the logs as rows.
func (c *Log) printLines(ctx context.Context, e *cli.Env, d cli.Daemon, logs []logFile) error {
	options := e.ViewOptions()
	out, err := view.NewPrinter(e.Stdout, options, lineColumns())
	if err != nil {
		return api.Errorf(api.Usage, "%w", err)
	}
	for _, log := range logs {
		rows := rowWriter{print: out.Print, name: log.name(), tagged: log.merged}
		w, end := io.Writer(&rows), rows.flush
		if c.Lines > 0 {
			last := &lastWriter{w: &rows, most: c.Lines}
			w, end = last, func() error {
				if err := last.flush(); err != nil {
					return err
				}
				return rows.flush()
			}
		}
		read := catLog
		if log.merged {
			read = func(
				ctx context.Context, e *cli.Env, d cli.Daemon, log logFile, w io.Writer,
			) error {
				return catMerged(ctx, e, d, log, w, true)
			}
		}
		if err := read(ctx, e, d, log, w); err != nil {
			return err
		}
		if err := end(); err != nil {
			return err
		}
	}
	return out.Close()
}

// endWriter notes whether what it has passed on ends in the middle of a line.
type endWriter struct {
	w    io.Writer
	open bool
}

// Write passes it on.
func (e *endWriter) Write(p []byte) (int, error) {
	if len(p) > 0 {
		e.open = p[len(p)-1] != '\n'
	}
	return e.w.Write(p)
}

// lastWriter passes on the last lines of what is written to it. It keeps no more than those.
type lastWriter struct {
	w     io.Writer
	most  int
	lines [][]byte // whole ones, with their ends, oldest first
	rest  []byte   // of a line whose end has not come
}

// maxLastLine is how much of a line without an end is kept, in bytes.
const maxLastLine = 64 << 20

// Write keeps what may be among the last.
func (l *lastWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		l.lines = append(l.lines, append(l.rest, p[:i+1]...))
		l.rest, p = nil, p[i+1:]
		if len(l.lines) > l.most {
			l.lines = l.lines[1:]
		}
	}
	if l.rest = append(l.rest, p...); len(l.rest) > maxLastLine {
		l.rest = bytes.Clone(l.rest[len(l.rest)-maxLastLine/2:])
	}
	return n, nil
}

func (l *lastWriter) flush() error {
	if len(l.rest) > 0 {
		l.lines = append(l.lines, l.rest)
	}
	_, err := l.w.Write(bytes.Join(l.lines[max(len(l.lines)-l.most, 0):], nil))
	return err
}

// rowWriter makes rows of lines.
type rowWriter struct {
	print  func(...logRow) error
	name   logName
	tagged bool // see mergedWriter
	rest   []byte
}

// Write prints the lines that are whole.
func (r *rowWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			r.rest = append(r.rest, p...)
			return n, nil
		}
		line := append(r.rest, p[:i]...)
		r.rest, p = nil, p[i+1:]
		if err := r.row(line); err != nil {
			return 0, err
		}
	}
}

func (r *rowWriter) row(line []byte) error {
	if r.tagged && len(line) > 0 {
		r.name.Stream = "stdout"
		if line[0] == tagErr {
			r.name.Stream = "stderr"
		}
		line = line[1:]
	}
	text := strings.ToValidUTF8(strings.TrimSuffix(string(line), "\r"), "\uFFFD")
	return r.print(logRow{logName: r.name, Line: text})
}

func (r *rowWriter) flush() error {
	if len(r.rest) == 0 {
		return nil
	}
	rest := r.rest
	r.rest = nil
	return r.row(rest)
}
