package top

import (
	"bytes"
	"strings"

	"jobserver/view"
)

// table is a list with a current row.
type table[T any] struct {
	columns []view.Column[T]
	rows    []T
	at      int // the current one
	empty   string
	marked  func(T) bool // nil: none is
}

// lines lays out the head and the rows around the current one, which is marked.
func (t *table[T]) lines(s *screen, width, height int) []string {
	if len(t.rows) == 0 {
		return []string{"", "  " + t.empty}
	}
	room := max(height-1, 1)
	first := min(max(t.at-room/2, 0), max(len(t.rows)-room, 0))
	seen := t.rows[first:min(first+room, len(t.rows))]
	var out bytes.Buffer
	options := view.Options{
		Format: view.Table,
		Screen: view.Screen{Width: max(width-2, 1), Color: s.Color},
	}
	if err := view.Write(&out, options, t.columns, seen); err != nil {
		return []string{err.Error()} // a buffer takes everything
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for i := range lines {
		sign := " "
		if i > 0 && t.marked != nil && t.marked(seen[i-1]) {
			sign = view.Bold.Paint("+", s.Color)
		}
		if i != t.at-first+1 {
			lines[i] = " " + sign + lines[i]
			continue
		}
		if s.Color { // the whole row, whatever colours it has
			lines[i] = "\x1b[7m" + strings.ReplaceAll(lines[i], "\x1b[0m", "\x1b[0;7m") + "\x1b[0m"
		}
		lines[i] = view.Bold.Paint("▸", s.Color) + sign + lines[i]
	}
	if height == 1 {
		return lines[1:]
	}
	return lines
}
