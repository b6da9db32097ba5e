package top

import (
	"context"
	"fmt"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/live"
	"jobserver/view"
)

// beside shows one job below the list: its log, or why.
type beside struct {
	job       uint64 // 0: nothing
	what      string // the key that asked for it: l, e or w
	turn      int    // counts what was asked for: answers to what was before don't count
	lines_    []string
	text      string // of the log, from its last line break on
	offset    int64
	size      int64
	ended     bool
	following bool
	top       int // the first line in sight, when it doesn't follow
	ticks     int
}

// keptLines is how many lines of a log are kept.
const keptLines = 5000

// logTail is how many bytes of a log are fetched first.
const logTail = 64 << 10

func (s *screen) close() {
	s.job, s.lines_, s.text = 0, nil, ""
	s.turn++
	if m, ok := s.current().(*matrices); ok {
		m.cells = nil
	}
}

func (s *screen) showBeside(what string) []effect {
	if s.job != 0 && s.what == what {
		s.close()
		return nil
	}
	id := s.current().selected()
	if id == 0 {
		s.said = "there is no job here"
		return nil
	}
	return s.openBeside(id, what)
}

// openBeside shows something of a job.
func (s *screen) openBeside(id uint64, what string) []effect {
	s.beside = beside{job: id, what: what, turn: s.turn + 1, following: true, ticks: s.ticks}
	if what == "w" {
		return one(s.refresh())
	}
	return one(s.readLog(true))
}

// refresh looks again when the job has changed. A log is followed anyway.
func (s *screen) refresh() effect {
	if s.what != "w" {
		return nil
	}
	turn := s.turn
	return fetched(
		s,
		"Why",
		&api.JIDArgs{Selector: fmt.Sprint(s.job)},
		func(s *screen, r *api.WhyReply) []effect {
			if s.turn != turn {
				return nil
			}
			s.lines_ = []string{view.Clean(r.Summary)}
			for _, d := range r.Details {
				s.lines_ = append(s.lines_, "  "+view.Clean(d))
			}
			if r.Hint != "" {
				s.lines_ = append(s.lines_, "", view.Clean(r.Hint))
			}
			s.ended = true
			return nil
		},
	)
}

// readLog reads on, or begins near the end.
func (s *screen) readLog(first bool) effect {
	turn, f := s.turn, s.Follower
	args := &api.LogArgs{
		JID:    s.job,
		Stderr: s.what == "e",
		Offset: s.offset,
		Wait:   20 * time.Second,
	}
	if first {
		args.Tail, args.Wait = logTail, 0
	}
	return func(ctx context.Context) news {
		reply, err := live.Wait[api.LogReply](ctx, f, "JobLog", args)
		if err != nil && api.KindOf(err) == api.Unavailable { // the daemon comes back
			timer := time.NewTimer(time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		return func(s *screen) []effect {
			switch {
			case s.turn != turn || ctx.Err() != nil:
				return nil
			case err != nil && api.KindOf(err) == api.Unavailable:
				return one(s.readLog(first))
			case err != nil:
				s.failed(err)
				return nil
			}
			s.offset, s.size, s.ended = reply.Offset+int64(len(reply.Data)), reply.Size, reply.EOF
			s.take(string(reply.Data))
			if s.ended {
				return nil
			}
			return one(s.readLog(false))
		}
	}
}

// take appends a log's text.
func (s *screen) take(text string) {
	lines := strings.Split(s.text+text, "\n")
	s.text = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		s.lines_ = append(s.lines_, logLine(line))
	}
	if len(s.text) > 1<<20 { // a line without an end
		s.lines_, s.text = append(s.lines_, logLine(s.text)), ""
	}
	if more := len(s.lines_) - keptLines; more > 0 {
		s.lines_ = append([]string(nil), s.lines_[more:]...)
		s.top = max(s.top-more, 0)
	}
}

// logLine is a line as a terminal would show it at its end: without what controls the terminal, and
// with what the last carriage return left.
func logLine(line string) string {
	line = strings.TrimSuffix(line, "\r")
	line = line[strings.LastIndexByte(line, '\r')+1:]
	return view.Clean(strings.ReplaceAll(withoutEscapes(line), "\t", "    "))
}

// withoutEscapes leaves out what begins with an escape character (ECMA-48): sequences, and strings
// to their end.
func withoutEscapes(line string) string {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] != 0x1b {
			b.WriteByte(line[i])
			continue
		}
		if i++; i >= len(line) {
			break
		}
		switch line[i] {
		case '[':
			for i++; i < len(line) && (line[i] < 0x40 || line[i] > 0x7e); i++ {
			}
		case ']', 'P', 'X', '^', '_':
			for i++; i < len(line) && line[i] != 0x07 && line[i] != 0x1b; i++ {
			}
			if i+1 < len(line) && line[i] == 0x1b && line[i+1] == '\\' {
				i++
			}
		}
	}
	return b.String()
}

// all are the lines there are, with the one that isn't complete.
func (s *screen) all() []string {
	if s.text == "" {
		return s.lines_
	}
	return append(s.lines_[:len(s.lines_):len(s.lines_)], logLine(s.text))
}

// scrolls says that the arrows move the log: whoever has scrolled back reads it.
func (s *screen) scrolls() bool { return s.job != 0 && s.what != "w" }

// scroll moves in the log. Upwards it stops following, and at the end it goes on.
func (s *screen) scroll(by int) {
	n := len(s.all())
	room := s.besideRoom()
	if s.following {
		s.top = max(n-room, 0)
	}
	s.top = max(min(s.top+by, n-room), 0)
	s.following = s.top >= n-room
}

// besideRoom is how many lines of it are in sight.
func (s *screen) besideRoom() int {
	rest := s.height - 3
	if rest >= 9 {
		rest -= max(rest/2, 4)
	}
	return max(rest-1, 1)
}

func (s *screen) besideLines(width, height int) []string {
	names := map[string]string{"l": "log", "e": "stderr", "w": "why"}
	state := ""
	switch {
	case s.what == "w":
	case s.following && s.ended:
		state = " ── complete"
	case s.following:
		state = " ── following ── ↑ stops"
	default:
		state = " ── scrolled back ── G goes on"
	}
	title := fmt.Sprintf("── %s of job %d%s ", names[s.what], s.job, state)
	title += strings.Repeat("─", max(width-view.Width(title), 0))
	lines := []string{s.spans(view.Span{Text: title, Style: view.Bold})}
	all := s.all()
	room := max(height-1, 1)
	top := s.top
	if s.following {
		top = max(len(all)-room, 0)
	}
	top = min(top, max(len(all)-1, 0))
	if len(all) == 0 {
		empty := "nothing yet"
		if s.ended {
			empty = "nothing was written"
		}
		return append(lines, "  "+empty)
	}
	for _, line := range all[top:min(top+room, len(all))] {
		lines = append(lines, view.Shorten(line, width))
	}
	return lines
}
