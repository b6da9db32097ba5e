package logging

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// parseDuration reads a duration as the Rust crate humantime does: numbers
// with units, one after the other, with blanks wherever one likes
// ("30 seconds", "1h 30m"). A month is 30.44 days and a year 365.25.
func parseDuration(s string) (time.Duration, error) {
	rest := strings.TrimSpace(s)
	if rest == "" {
		return 0, errors.New("a duration such as 30 seconds is missing")
	}
	var total time.Duration
	for rest != "" {
		digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
		if digits == "" {
			return 0, fmt.Errorf("expected a number before %q", rest)
		}
		rest = strings.TrimSpace(rest[len(digits):])
		name := rest[:len(rest)-len(strings.TrimLeftFunc(rest, unicode.IsLetter))]
		rest = strings.TrimSpace(rest[len(name):])
		if name == "" && digits == "0" && total == 0 && rest == "" {
			return 0, nil
		}
		unit, ok := durationUnit(name)
		if !ok {
			return 0, fmt.Errorf("%q needs a unit such as seconds, m or 2h", digits+name)
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > (math.MaxInt64-int64(total))/int64(unit) {
			return 0, fmt.Errorf("%q is too long", s)
		}
		total += time.Duration(n) * unit
	}
	return total, nil
}

func durationUnit(name string) (time.Duration, bool) {
	const day = 24 * time.Hour
	switch name {
	case "nanos", "nsec", "ns":
		return time.Nanosecond, true
	case "micros", "usec", "us":
		return time.Microsecond, true
	case "millis", "msec", "ms":
		return time.Millisecond, true
	case "seconds", "second", "secs", "sec", "s":
		return time.Second, true
	case "minutes", "minute", "mins", "min", "m":
		return time.Minute, true
	case "hours", "hour", "hrs", "hr", "h":
		return time.Hour, true
	case "days", "day", "d":
		return day, true
	case "weeks", "week", "wks", "wk", "w":
		return 7 * day, true
	case "months", "month", "M":
		return 2_630_016 * time.Second, true
	case "years", "year", "yrs", "yr", "y":
		return 31_557_600 * time.Second, true
	}
	return 0, false
}

// parseSize reads the limit of a size trigger, in bytes: a number and a unit
// of which each is 1024 times the one before, whether it has an i or not.
func parseSize(s string) (int64, error) {
	n, unit, err := numberAndUnit(s)
	if err != nil {
		return 0, err
	}
	shift, ok := 0, true
	switch unit {
	case "", "b":
	case "kb", "kib":
		shift = 10
	case "mb", "mib":
		shift = 20
	case "gb", "gib":
		shift = 30
	case "tb", "tib":
		shift = 40
	default:
		ok = false
	}
	switch {
	case !ok:
		return 0, fmt.Errorf("unknown unit %q (b, kb, mb, gb or tb)", unit)
	case n > math.MaxInt64>>shift:
		return 0, fmt.Errorf("%q is too large", s)
	}
	return n << shift, nil
}

// numberAndUnit splits "10 mb"; the unit is in lower case.
func numberAndUnit(s string) (int64, string, error) {
	s = strings.TrimSpace(s)
	digits := s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("expected a number, not %q", s)
	}
	return n, strings.ToLower(strings.TrimSpace(s[len(digits):])), nil
}

// interval is the time between two rolls of a time trigger.
type interval struct {
	n    int
	unit string // "second" to "year"
}

// parseInterval reads "1 day"; without a unit it's seconds.
func parseInterval(s string) (interval, error) {
	n, unit, err := numberAndUnit(s)
	if err != nil {
		return interval{}, err
	}
	iv := interval{unit: "second"}
	if unit != "" {
		iv.unit = strings.TrimSuffix(unit, "s")
	}
	switch iv.unit {
	case "second", "minute", "hour", "day", "week", "month", "year":
	default:
		return interval{},
			fmt.Errorf("unknown unit %q (second, minute, hour, day, week, month or year)", unit)
	}
	// The bounds keep the sums of times from overflowing. An interval of 0
	// would roll with every record.
	if n < 1 || n > 2_000_000_000 || (iv.unit != "second" && n > 1200) {
		return interval{}, fmt.Errorf("an interval of %q can't be used", s)
	}
	iv.n = int(n)
	return iv, nil
}

// next is the end of the interval that now is in. It falls on a whole unit;
// with modulate, on a multiple of the interval, counted from the start of
// the next larger unit (from the year 0 for years).
func (iv interval) next(now time.Time, modulate bool) time.Time {
	year, month, day := now.Date()
	_, week := now.ISOWeek()
	steps := func(position int) int {
		if modulate {
			return iv.n - position%iv.n
		}
		return iv.n
	}
	date := func(year int, month time.Month, day int) time.Time {
		return time.Date(year, month, day, 0, 0, 0, 0, now.Location())
	}
	switch iv.unit {
	case "year":
		return date(year+steps(year), 1, 1)
	case "month":
		return date(year, month+time.Month(steps(int(month)-1)), 1)
	case "week": // they begin on Monday
		return date(year, month, day-int(now.Weekday()+6)%7+7*steps(week-1))
	case "day":
		return date(year, month, day+steps(now.YearDay()-1))
	}
	// Below a day, subtracting what has passed is right where the clocks
	// were turned, too; setting the hands is not.
	start := now.Add(-time.Duration(now.Nanosecond()))
	if iv.unit == "second" {
		return start.Add(time.Duration(steps(now.Second())) * time.Second)
	}
	start = start.Add(-time.Duration(now.Second()) * time.Second)
	if iv.unit == "minute" {
		return start.Add(time.Duration(steps(now.Minute())) * time.Minute)
	}
	start = start.Add(-time.Duration(now.Minute()) * time.Minute)
	return start.Add(time.Duration(steps(now.Hour())) * time.Hour)
}

// expandEnv replaces each $ENV{NAME} whose variable is set. As in log4rs
// the others stay as they are.
func expandEnv(s string, lookup func(string) (string, bool)) string {
	return expand(s, "$ENV{", func(name string) string {
		if v, ok := lookup(name); ok && name != "" {
			return v
		}
		return "$ENV{" + name + "}"
	})
}

// expandTime replaces each $TIME{FORMAT} by the time in that format.
func expandTime(s string, now time.Time) (string, error) {
	var failed error
	s = expand(s, "$TIME{", func(format string) string {
		f, err := parseDateFormat(format)
		if err != nil && failed == nil {
			failed = err
		}
		return string(f.append(nil, now))
	})
	return s, failed
}

// expand replaces what stands between each open and the next "}". What it
// puts in isn't looked at again.
func expand(s, open string, value func(string) string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, open)
		inner, rest, closed := strings.Cut(after, "}")
		if !found || !closed {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(before)
		b.WriteString(value(inner))
		s = rest
	}
}
