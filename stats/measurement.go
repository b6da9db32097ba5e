package stats

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// Measurement is a number that a run has given a name.
type Measurement struct {
	Name  string
	Value float64
	Unit  string // "" : none
}

// ParseMeasurement reads what follows `METRIC: ` on a line: name=value [unit]. The error says what
// is wrong with the line; a value that isn't finite is one too: it can't be averaged.
func ParseMeasurement(line string) (Measurement, error) {
	name, rest, ok := strings.Cut(line, "=")
	name = strings.TrimSpace(name)
	fields := strings.Fields(rest)
	switch {
	case !ok || len(fields) == 0:
		return Measurement{}, fmt.Errorf("%q is not of the form name=value [unit]", short(line))
	case !IsMeasurementName(name):
		return Measurement{}, fmt.Errorf("%q can't be a metric's name", short(name))
	}
	value, err := number(fields[0])
	if err != nil {
		return Measurement{}, fmt.Errorf("%s: %w", name, err)
	}
	return Measurement{name, value, strings.Join(fields[1:], " ")}, nil
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

// IsMeasurementName is the rule for names: no blanks, no parentheses, commas or control characters,
// as `mean(name)` has to name them.
func IsMeasurementName(s string) bool {
	return s != "" && len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar ||
			strings.ContainsRune("(),=", r)
	})
}

// CheckFile refuses what can't name a file of measurements among a job's results; "" names none.
func CheckFile(name string) error {
	if name != "" && !filepath.IsLocal(name) {
		return hinted("give a path that begins in the results, like out.csv",
			"%s is no file among the results of a job", name)
	}
	return nil
}
