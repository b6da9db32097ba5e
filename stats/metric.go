package stats

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Metric is a number that a run has given a name.
type Metric struct {
	Name  string
	Value float64
	Unit  string // "" : none
}

// ParseMetric reads what follows `METRIC: ` on a line: name=value [unit]. The error says what is wrong with the line; a value
// that isn't finite is one too: it can't be averaged.
func ParseMetric(line string) (Metric, error) {
	name, rest, ok := strings.Cut(line, "=")
	name = strings.TrimSpace(name)
	fields := strings.Fields(rest)
	switch {
	case !ok || len(fields) == 0:
		return Metric{}, fmt.Errorf("%q is not of the form name=value [unit]", short(line))
	case !IsMetricName(name):
		return Metric{}, fmt.Errorf("%q can't be a metric's name", short(name))
	}
	value, err := number(fields[0])
	if err != nil {
		return Metric{}, fmt.Errorf("%s: %w", name, err)
	}
	return Metric{name, value, strings.Join(fields[1:], " ")}, nil
}

// number reads a finite number.
func number(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && (math.IsInf(v, 0) || math.IsNaN(v)):
		return 0, fmt.Errorf("%s is not a finite number", short(text))
	case err != nil || strings.ContainsAny(text, "_xX"): // Go's own spellings
		return 0, fmt.Errorf("%q is not a number", short(text))
	}
	return v, nil
}

// short keeps a job's text from filling a message.
func short(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}

// IsMetricName is the rule for names: no blanks, no parentheses, commas or control characters, as `mean(name)` has to name them.
func IsMetricName(s string) bool {
	return s != "" && len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar || strings.ContainsRune("(),=", r)
	})
}

// ParseFile reads metrics out of a result file: JSON when it begins with { or [, else CSV.
//
// Each number of a JSON object is a metric, those of objects inside it are named outer.inner; of an array the last
// element counts. In CSV the header names the columns, and those that hold numbers are metrics; the last row counts. A
// file that can't be read so is an error, an entry that is not finite is a problem.
func ParseFile(data []byte) (metrics []Metric, problems []string, err error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	trimmed := bytes.TrimSpace(data)
	switch {
	case len(trimmed) == 0:
		return nil, nil, errors.New("the file is empty")
	case trimmed[0] == '{' || trimmed[0] == '[':
		var v any
		dec := json.NewDecoder(bytes.NewReader(trimmed))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			return nil, nil, fmt.Errorf("it is not JSON: %w", err)
		}
		if _, err := dec.Token(); err != io.EOF {
			return nil, nil, errors.New("it is not JSON: there is more after its end")
		}
		metrics, problems = flatten(nil, nil, "", v)
	default:
		if metrics, problems, err = parseCSV(data); err != nil {
			return nil, nil, err
		}
	}
	if len(metrics)+len(problems) == 0 {
		return nil, nil, errors.New("there is no number in it")
	}
	return metrics, problems, nil
}

// flatten collects the numbers of a JSON value, by name.
func flatten(metrics []Metric, problems []string, name string, v any) ([]Metric, []string) {
	switch v := v.(type) {
	case json.Number:
		n, err := number(v.String())
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s: %v", name, err))
		case IsMetricName(name):
			metrics = append(metrics, Metric{Name: name, Value: n})
		}
	case []any:
		if len(v) > 0 {
			return flatten(metrics, problems, name, v[len(v)-1])
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
			metrics, problems = flatten(metrics, problems, full, v[k])
		}
	}
	return metrics, problems
}

func parseCSV(data []byte) (metrics []Metric, problems []string, err error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.TrimLeadingSpace = true
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		return nil, nil, fmt.Errorf("it is neither JSON nor CSV: %w", err)
	}
	header = slices.Clone(header)
	var last []string
	for {
		record, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("it is neither JSON nor CSV: %w", err)
		}
		last = append(last[:0], record...)
	}
	if last == nil {
		return nil, nil, errors.New("it is CSV with a header and no row")
	}
	for i, name := range header {
		name = strings.TrimSpace(name)
		text := strings.TrimSpace(last[i])
		v, err := number(text)
		switch {
		case err == nil && IsMetricName(name):
			metrics = append(metrics, Metric{Name: name, Value: v})
		case err != nil && strings.Contains(err.Error(), "finite"):
			problems = append(problems, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return metrics, problems, nil
}

// CheckFile refuses what can't name a file of metrics among a job's results; "" names none.
func CheckFile(name string) error {
	if name != "" && !filepath.IsLocal(name) {
		return hinted("give a path that begins in the results, like out.csv",
			"%s is no file among the results of a job", name)
	}
	return nil
}
