package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"strings"

	"jobserver/view"
)

// statWriter prints rows in one of the formats, as they come.
type statWriter struct {
	out    *bufio.Writer
	csv    *csv.Writer // into out
	format view.Format
	header bool // the names of the columns are still to be written
	rows   int
	value  []byte // memory for a value as JSON
	blanks *strings.Replacer
}

func newStatWriter(w io.Writer, format view.Format, header bool) *statWriter {
	out := bufio.NewWriterSize(w, 64<<10)
	return &statWriter{
		out: out, csv: csv.NewWriter(out), format: format, header: header, blanks: strings.NewReplacer("\t", " ", "\n", " ", "\r", " "),
	}
}

// write prints rows after those before.
func (w *statWriter) write(rows [][]statCell) error {
	for _, row := range rows {
		var err error
		switch w.format {
		case view.JSON:
			if w.rows == 0 {
				w.out.WriteByte('[')
			} else {
				w.out.WriteString(",\n")
			}
			err = w.object(row)
		case view.JSONL:
			err = w.object(row)
			w.out.WriteByte('\n')
		case view.CSV:
			err = w.record(row)
		default:
			w.text(row)
		}
		if err != nil {
			return err
		}
		w.rows++
	}
	w.csv.Flush()
	return w.out.Flush() // it also says what went wrong before
}

// close prints what comes after the last row.
func (w *statWriter) close() error {
	if w.format == view.JSON {
		if w.rows == 0 {
			w.out.WriteByte('[')
		}
		w.out.WriteString("]\n")
	}
	return w.out.Flush()
}

// object writes a row as a JSON object; a column without a value is left out.
func (w *statWriter) object(row []statCell) error {
	w.out.WriteByte('{')
	first := true
	for _, cell := range row {
		if cell.value == nil {
			continue
		}
		b := w.value[:0]
		if !first {
			b = append(b, ',')
		}
		first = false
		b, err := appendJSON(b, cell.name)
		if err != nil {
			return err
		}
		b = append(b, ':')
		if b, err = appendJSON(b, cell.value); err != nil {
			return err
		}
		w.out.Write(b)
		w.value = b
	}
	w.out.WriteByte('}')
	return nil
}

// appendJSON writes a value as encoding/json does, but without reflection where that is easy: most values are.
func appendJSON(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case string:
		if isPlain(v) {
			return append(append(append(b, '"'), v...), '"'), nil
		}
	case uint64:
		return strconv.AppendUint(b, v, 10), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	}
	text, err := json.Marshal(value)
	return append(b, text...), err
}

// isPlain says that JSON has nothing in the text escaped.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c >= 0x7f, c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// record writes a row as CSV.
func (w *statWriter) record(row []statCell) error {
	names, values := make([]string, len(row)), make([]string, len(row))
	for i, cell := range row {
		names[i], values[i] = cell.name, statText(cell.value)
	}
	if w.header {
		w.header = false
		if err := w.csv.Write(names); err != nil {
			return err
		}
	}
	return w.csv.Write(values)
}

// text writes tabs between the values: those in a value become blanks, as do its line ends.
func (w *statWriter) text(row []statCell) {
	if w.header {
		w.header = false
		for i, cell := range row {
			if i > 0 {
				w.out.WriteByte('\t')
			}
			w.out.WriteString(cell.name)
		}
		w.out.WriteByte('\n')
	}
	for i, cell := range row {
		if i > 0 {
			w.out.WriteByte('\t')
		}
		w.out.WriteString(w.blanks.Replace(statText(cell.value)))
	}
	w.out.WriteByte('\n')
}
