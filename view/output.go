package view

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"jobserver/foreign"
)

// Format is how a listing is written: the value of -o.
type Format string

// The formats.
const (
	Table Format = "table" // columns that fit the terminal
	// the same with all columns, never shortened; in blocks where a terminal is too narrow
	Wide  Format = "wide"
	JSON  Format = "json"  // one array
	JSONL Format = "jsonl" // one object a line
	CSV   Format = "csv"   // RFC 4180, with a header
	ID    Format = "id"    // one id a line
)

// Formats are all of them, for the command line's enums.
func Formats() []string {
	return []string{string(Table), string(Wide), string(JSON), string(JSONL), string(CSV),
		string(ID)}
}

// Column is one column of a listing of T.
type Column[T any] struct {
	Title string // over the column, e.g. "Job"
	Key   string // in CSV; the field's name in JSON where there is one, e.g. "jid"

	// Cell gives the text of tables. It need not be clean. Nil: the column is in CSV alone.
	Cell func(T) []Span
	// Value gives the text of CSV. Nil: the cell's.
	Value func(T) string

	IsID     bool // its Value is what -o id prints
	OnlyWide bool // not in a table that has to fit
	Right    bool // flush right, as numbers are
	Middle   bool // shortened in the middle, so that its end stays
	Min      int  // the width that it needs at least; 0: the title's
	Max      int  // the width that it takes at most in a table that has to fit; 0: no limit
	// 0: it is always there, and shrinks last of all. Else it shrinks to Min, and the highest
	// number leaves first
	Give int
}

// Text makes a cell of plain text.
func Text[T any](f func(T) string) func(T) []Span {
	return func(row T) []Span { return []Span{{f(row), Plain}} }
}

// Styled makes a cell of text in the style that another function gives.
func Styled[T any](text func(T) string, style func(T) Style) func(T) []Span {
	return func(row T) []Span { return []Span{{text(row), style(row)}} }
}

func (c Column[T]) value(row T) string {
	if c.Value != nil {
		return c.Value(row)
	}
	if c.Cell == nil {
		return ""
	}
	return Paint(c.Cell(row), false)
}

// Options say how a listing is written.
type Options struct {
	Format   Format
	Screen   Screen
	NoHeader bool // of tables and CSV
	SafeCSV  bool // no cell of CSV is a formula to a spreadsheet
}

// Printer writes one listing, in pages if need be: Print any number of times, then Close. A table
// is held back until Close, since its widths depend on all rows; the other formats are written as
// they come.
type Printer[T any] struct {
	w       *bufio.Writer
	opt     Options
	columns []Column[T]
	rows    []T // of tables
	printed int
	csv     *csv.Writer
}

// NewPrinter makes a printer for w. Unknown formats are an error, which names those that there are.
func NewPrinter[T any](w io.Writer, opt Options, columns []Column[T]) (*Printer[T], error) {
	p := &Printer[T]{w: bufio.NewWriterSize(w, 64<<10), opt: opt, columns: columns}
	switch opt.Format {
	case Table, Wide, JSON, JSONL, ID:
	case CSV:
		p.csv = csv.NewWriter(p.w)
		// RFC 4180 says CRLF; every reader takes LF, and shell tools take nothing else
		p.csv.UseCRLF = false
	default:
		return nil, fmt.Errorf("output format %q: it must be one of %s", opt.Format,
			strings.Join(Formats(), ", "))
	}
	return p, nil
}

// Write is a listing that is there at once.
func Write[T any](w io.Writer, opt Options, columns []Column[T], rows []T) error {
	p, err := NewPrinter(w, opt, columns)
	if err != nil {
		return err
	}
	if err := p.Print(rows...); err != nil {
		return err
	}
	return p.Close()
}

// Print adds rows.
func (p *Printer[T]) Print(rows ...T) error {
	var err error
	switch p.opt.Format {
	case Table, Wide:
		p.rows = append(p.rows, rows...)
	case JSON, JSONL:
		err = p.printJSON(rows)
	case CSV:
		err = p.printCSV(rows)
	case ID:
		err = p.printIDs(rows)
	}
	if err != nil {
		return fmt.Errorf("write the listing: %w", err)
	}
	p.printed += len(rows)
	return nil
}

// Flush has what was printed so far written, for a listing that grows slowly. Tables are still held
// back.
func (p *Printer[T]) Flush() error {
	if p.csv != nil {
		p.csv.Flush() // its error comes again at the next write
	}
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("write the listing: %w", err)
	}
	return nil
}

// Close writes what is still held back. It doesn't close what it writes to.
func (p *Printer[T]) Close() error {
	var err error
	switch p.opt.Format {
	case Table, Wide:
		err = p.printTable()
	case JSON:
		end := "\n]\n"
		if p.printed == 0 {
			end = "[]\n"
		}
		_, err = p.w.WriteString(end)
	case CSV:
		if err = p.csvHeader(); err == nil {
			p.csv.Flush()
			err = p.csv.Error()
		}
	}
	if err == nil {
		err = p.w.Flush()
	}
	if err != nil {
		return fmt.Errorf("write the listing: %w", err)
	}
	return nil
}

// printJSON writes the rows by their own json tags, each on a line of its own, so that an array can
// be read line by line too.
func (p *Printer[T]) printJSON(rows []T) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line) // ends each value with a newline
	enc.SetEscapeHTML(false)      // commands are full of < and >
	for i, row := range rows {
		line.Reset()
		if err := enc.Encode(row); err != nil {
			return err
		}
		text := line.Bytes()
		if p.opt.Format == JSON {
			open := ",\n"
			if p.printed+i == 0 {
				open = "[\n"
			}
			if _, err := p.w.WriteString(open); err != nil {
				return err
			}
			text = bytes.TrimSuffix(text, []byte("\n")) // a comma may have to follow
		}
		if p.opt.Screen.Terminal {
			text = foreign.JSON(text)
		}
		if _, err := p.w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// WriteObject writes one thing as JSON: on one line for jsonl, else indented for reading.
func WriteObject(w io.Writer, format Format, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if format != JSONL {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func (p *Printer[T]) printCSV(rows []T) error {
	if err := p.csvHeader(); err != nil {
		return err
	}
	record := make([]string, len(p.columns))
	for _, row := range rows {
		for i, column := range p.columns {
			record[i] = p.opt.CSVText(column.value(row))
		}
		if err := p.csv.Write(record); err != nil {
			return err
		}
	}
	return nil
}

// Visible cleans what goes to a terminal; a file or a pipe gets it as it is.
func (o Options) Visible(text string) string {
	if o.Screen.Terminal {
		return Clean(text)
	}
	return text
}

// CSVText is a text as CSV has it.
func (o Options) CSVText(text string) string {
	if o.SafeCSV {
		text = NoFormula(text)
	}
	return o.Visible(text)
}

// NoFormula puts a quote before a text that spreadsheets would calculate, or let do things: what
// begins with one of = + - @, a tab or a return, and is no number.
func NoFormula(text string) string {
	if text == "" || !strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return text
	}
	return "'" + text
}

// csvHeader writes the header before the first row, or before the end when there was none.
func (p *Printer[T]) csvHeader() error {
	if p.opt.NoHeader || p.printed > 0 {
		return nil
	}
	p.opt.NoHeader = true // it is written once
	keys := make([]string, len(p.columns))
	for i, column := range p.columns {
		keys[i] = column.Key
	}
	return p.csv.Write(keys)
}

// printIDs cleans the ids: a line's end in one would make it two.
func (p *Printer[T]) printIDs(rows []T) error {
	for _, row := range rows {
		for _, column := range p.columns {
			if !column.IsID {
				continue
			}
			if _, err := p.w.WriteString(Clean(column.value(row)) + "\n"); err != nil {
				return err
			}
		}
	}
	return nil
}
