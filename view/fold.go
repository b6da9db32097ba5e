package view

import (
	"io"
	"strings"
)

// Folder breaks lines that are wider than where there is no terminal a line is: what goes on stands
// two blanks further in than the line itself. Close writes a last line without an end.
type Folder struct {
	W    io.Writer
	line strings.Builder
}

// Write takes text of any length.
func (f *Folder) Write(p []byte) (int, error) {
	for rest := string(p); rest != ""; {
		line, after, ends := strings.Cut(rest, "\n")
		f.line.WriteString(line)
		if rest = after; ends {
			if err := f.end("\n"); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// Close ends it; it doesn't close what it writes to.
func (f *Folder) Close() error {
	if f.line.Len() == 0 {
		return nil
	}
	return f.end("")
}

func (f *Folder) end(newline string) error {
	line := f.line.String()
	f.line.Reset()
	_, err := io.WriteString(f.W, Fold(line, offTerminal)+newline)
	return err
}

// Fold breaks a line into several that are no wider than width, at blanks where there are some.
func Fold(line string, width int) string {
	if Width(line) <= width {
		return line
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " "))] + "  "
	if len(indent) > width/2 {
		indent = ""
	}
	var out strings.Builder
	for Width(line) > width {
		n, columns := 0, 0
		for i, r := range line {
			if columns += Width(string(r)); columns > width {
				break
			}
			n = i + len(string(r))
		}
		if n = max(n, 1); n < len(line) {
			if at := strings.LastIndexByte(line[:n], ' '); at > n/2 {
				n = at + 1
			}
		}
		out.WriteString(strings.TrimRight(line[:n], " ") + "\n")
		line = indent + strings.TrimLeft(line[n:], " ")
	}
	out.WriteString(line)
	return out.String()
}
