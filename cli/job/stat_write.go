package job

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"strings"

	"jobserver/cli/show"
	"jobserver/foreign"
	"jobserver/view"
)

// statWriter prints rows in one of the formats, as they come. It isn't a view.Printer, since
// scripts read its bytes as they have always been: columns that a mapper adds to one row and not to
// another, values left out of JSON when there are none, arrays that begin on the line of their
// first row, and tabs between the values where a listing would be a table.
type statWriter struct {
	out     *bufio.Writer
	csv     *csv.Writer // into out
	opt     view.Options
	columns []statColumn // those of a listing without rows; a mapper may have added some to a row
	header  bool         // the names of the columns are still to be written
	rows    int
	value   []byte // memory for a value as JSON
	blanks  *strings.Replacer
}

func newStatWriter(w io.Writer, opt view.Options, columns []statColumn) *statWriter {
	out := bufio.NewWriterSize(w, 64<<10)
	return &statWriter{
		out: out, csv: csv.NewWriter(out), opt: opt, columns: columns,
		header: !opt.NoHeader && opt.Format != view.JSON && opt.Format != view.JSONL,
		blanks: strings.NewReplacer("\t", " ", "\n", " ", "\r", " "),
	}
}

// write prints rows after those before.
func (w *statWriter) write(rows [][]statCell) error {
	for _, row := range rows {
		if err := w.head(row); err != nil {
			return err
		}
		var err error
		switch w.opt.Format {
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
	if w.opt.Format == view.JSON {
		if w.rows == 0 {
			w.out.WriteByte('[')
		}
		w.out.WriteString("]\n")
	}
	columns := make([]statCell, len(w.columns))
	for i, column := range w.columns {
		columns[i].name = column.name
	}
	if err := w.head(columns); err != nil {
		return err
	}
	w.csv.Flush()
	return w.out.Flush()
}

// head writes the names of a row's columns before the first one, where the format has them.
func (w *statWriter) head(row []statCell) error {
	if !w.header {
		return nil
	}
	w.header = false
	names := make([]statCell, len(row))
	for i, cell := range row {
		names[i].value = cell.name
	}
	if w.opt.Format == view.CSV {
		return w.record(names)
	}
	w.text(names)
	return nil
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
		if w.opt.Screen.Terminal {
			b = foreign.JSON(b)
		}
		w.out.Write(b)
		w.value = b
	}
	w.out.WriteByte('}')
	return nil
}

// appendJSON writes a value as encoding/json does, but without reflection where that is easy: most
// values are.
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
	values := make([]string, len(row))
	for i, cell := range row {
		values[i] = w.opt.CSVText(show.StatText(cell.value))
	}
	return w.csv.Write(values)
}

// text writes tabs between the values: those in a value become blanks, as do its line ends.
func (w *statWriter) text(row []statCell) {
	for i, cell := range row {
		if i > 0 {
			w.out.WriteByte('\t')
		}
		w.out.WriteString(w.opt.Visible(w.blanks.Replace(show.StatText(cell.value))))
	}
	w.out.WriteByte('\n')
}
