package stats

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ParseFile reads measurements out of a result file: JSON, or JSON Lines, when it begins with { or
// [, else a table.
//
// Each number of a JSON object is a measurement, those of objects inside it are named outer.inner;
// of an array the last element counts, and of JSON Lines the last value of each name. NaN and
// Infinity, which Python writes, are taken as what they are. A table's columns are separated by
// commas, tabs, semicolons or blanks; its header names them, and those that hold numbers are
// measurements; the last row counts. Lines with # are comments; the last of them before the first
// row may be the header. A file that can't be read so is an error, an entry that is not finite is a
// problem.
func ParseFile(data []byte) (measurements []Measurement, problems []string, err error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	trimmed := bytes.TrimSpace(data)
	switch {
	case len(trimmed) == 0:
		return nil, nil, errors.New("the file is empty")
	case trimmed[0] == '{' || trimmed[0] == '[':
		measurements, problems, err = parseJSON(trimmed)
	default:
		measurements, problems, err = parseTable(data)
	}
	if err == nil && len(measurements)+len(problems) == 0 {
		err = errors.New("there is no number in it")
	}
	if err != nil {
		return nil, nil, err
	}
	return measurements, problems, nil
}

// numbers are what has been found by name; what comes later replaces what was there.
type numbers struct {
	names []string // in the order in which they were found first
	found map[string]finding
}

// finding is a number, or why it isn't one.
type finding struct {
	value   float64
	problem string
}

func (n *numbers) add(name, text string) {
	value, err := number(text)
	f := finding{value: value}
	if err != nil {
		f.problem = fmt.Sprintf("%s: %v", name, err)
	} else if !IsMeasurementName(name) {
		return
	}
	if _, known := n.found[name]; !known {
		n.names = append(n.names, name)
	}
	n.found[name] = f
}

func (n *numbers) all() (measurements []Measurement, problems []string) {
	for _, name := range n.names {
		if f := n.found[name]; f.problem != "" {
			problems = append(problems, f.problem)
		} else {
			measurements = append(measurements, Measurement{Name: name, Value: f.value})
		}
	}
	return measurements, problems
}

// parseJSON reads one value or several.
func parseJSON(data []byte) (measurements []Measurement, problems []string, err error) {
	n := numbers{found: map[string]finding{}}
	dec := json.NewDecoder(bytes.NewReader(quoteWords(data)))
	dec.UseNumber()
	for {
		var v any
		err := dec.Decode(&v)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("it is not JSON: %w", err)
		}
		switch v.(type) {
		case map[string]any, []any:
		default:
			return nil, nil, errors.New("it is not JSON: there is more after its end")
		}
		n.flatten("", v)
	}
	measurements, problems = n.all()
	return measurements, problems, nil
}

// word begins the strings that stand for numbers that JSON doesn't have.
const word = "\x01"

// words are such numbers, as programs write them.
var words = []string{"-Infinity", "Infinity", "NaN", "-inf", "inf", "nan"}

// quoteWords makes strings of the words that stand for numbers, outside of strings.
func quoteWords(data []byte) []byte {
	var out []byte
	inside := false
	for i := 0; i < len(data); {
		if inside || data[i] == '"' {
			switch {
			case data[i] == '\\' && i+1 < len(data):
				out = append(out, data[i])
				i++
			case data[i] == '"':
				inside = !inside
			}
			out = append(out, data[i])
			i++
			continue
		}
		j := slices.IndexFunc(words, func(w string) bool {
			return bytes.HasPrefix(data[i:], []byte(w))
		})
		if j < 0 {
			out = append(out, data[i])
			i++
			continue
		}
		out = append(out, `"\u0001`+words[j]+`"`...)
		i += len(words[j])
	}
	return out
}

// flatten collects the numbers of a JSON value.
func (n *numbers) flatten(name string, v any) {
	switch v := v.(type) {
	case json.Number:
		n.add(name, v.String())
	case string:
		if text, ok := strings.CutPrefix(v, word); ok {
			n.add(name, text)
		}
	case []any:
		if len(v) > 0 {
			n.flatten(name, v[len(v)-1])
		}
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			full := k
			if name != "" {
				full = name + "." + k
			}
			n.flatten(full, v[k])
		}
	}
}

// parseTable reads columns.
func parseTable(data []byte) (measurements []Measurement, problems []string, err error) {
	comment, body := splitComments(data)
	header, last, err := readRows(body)
	if err != nil {
		return nil, nil, err
	}
	if comment != "" && allNumbers(header) {
		if named, _, err := readRows(comment); err == nil && len(named) == len(header) {
			if last == nil {
				last = header
			}
			header = named
		}
	}
	if last == nil {
		return nil, nil, errors.New("it is a table with a header and no row")
	}
	n := numbers{found: map[string]finding{}}
	for i, name := range header {
		text := strings.TrimSpace(last[i])
		if _, err := number(text); err == nil || strings.Contains(err.Error(), "finite") {
			n.add(strings.TrimSpace(name), text)
		}
	}
	measurements, problems = n.all()
	return measurements, problems, nil
}

// splitComments takes the lines with # out of a table; comment is the last of them before the first
// row.
func splitComments(data []byte) (comment, body string) {
	var rows strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(string(data), "\r\n", "\n")) {
		text := strings.TrimSpace(line)
		rest, is := strings.CutPrefix(text, "#")
		switch {
		case is && rows.Len() == 0:
			comment = strings.TrimSpace(strings.TrimLeft(rest, "#"))
		case !is && text != "":
			rows.WriteString(line)
		}
	}
	return comment, rows.String()
}

// readRows reads the rows of a table, which all have as many columns: the first, and the last, nil
// if there is one only.
func readRows(text string) (first, last []string, err error) {
	line, _, _ := strings.Cut(text, "\n")
	if strings.TrimSpace(line) == "" {
		return nil, nil, errors.New("there is nothing but comments in it")
	}
	r := csv.NewReader(strings.NewReader(text))
	r.TrimLeadingSpace = true
	switch {
	case strings.Contains(line, ","):
	case strings.Contains(line, "\t"):
		// Empty columns are columns; quotes have no meaning in most of these.
		r.Comma, r.TrimLeadingSpace, r.LazyQuotes = '\t', false, true
	case strings.Contains(line, ";"):
		r.Comma = ';'
	default:
		if first, last, ok := byBlanks(text); ok {
			return first, last, nil
		}
	}
	for {
		row, err := r.Read()
		switch {
		case err == io.EOF:
			return first, last, nil
		case err != nil:
			return nil, nil, fmt.Errorf("it is neither JSON nor a table: %w", err)
		case first == nil:
			first = row
		default:
			last = row
		}
	}
}

// byBlanks reads columns that blanks separate, if these are what there is: a single column may have
// a name of two words.
func byBlanks(text string) (first, last []string, ok bool) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 2, first != nil && len(fields) != len(first):
			return nil, nil, false
		case first == nil:
			first = fields
		default:
			last = fields
		}
	}
	return first, last, true
}

func allNumbers(row []string) bool {
	return !slices.ContainsFunc(row, func(s string) bool {
		_, err := number(strings.TrimSpace(s))
		return err != nil
	})
}
