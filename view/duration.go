package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// FormatDuration prints a duration in at most two units: 0.4s, 12s, 3m12s, 2h5m, 2d4h, 120d. It
// rounds down: a job that has run for 59.9 s hasn't run for a minute.
func FormatDuration(d time.Duration) string {
	if d < 0 {
		if d == math.MinInt64 {
			d++
		}
		return "-" + FormatDuration(-d)
	}
	pair := func(big, small time.Duration, bigUnit, smallUnit string) string {
		text := strconv.FormatInt(int64(d/big), 10) + bigUnit
		if rest := d % big / small; rest > 0 {
			text += strconv.FormatInt(int64(rest), 10) + smallUnit
		}
		return text
	}
	switch {
	case d < 10*time.Second:
		tenths := d / (100 * time.Millisecond)
		if tenths%10 == 0 {
			return strconv.FormatInt(int64(tenths/10), 10) + "s"
		}
		return fmt.Sprintf("%d.%ds", tenths/10, tenths%10)
	case d < time.Minute:
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	case d < time.Hour:
		return pair(time.Minute, time.Second, "m", "s")
	case d < day:
		return pair(time.Hour, time.Minute, "h", "m")
	case d < 100*day:
		return pair(day, time.Hour, "d", "h")
	default:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
}

// durationUnits in the order in which they are tried: ms before m.
var durationUnits = []struct {
	name string
	unit time.Duration
}{
	{"ns", time.Nanosecond}, {"us", time.Microsecond}, {"µs", time.Microsecond},
	{"ms", time.Millisecond},
	{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", day}, {"w", 7 * day},
}

// ParseDuration reads 30s, 5m, 2h30m, 1d12h, 1.5h, 0. A number without a unit counts in bare, as in
// the flags where 90 means minutes; when bare is 0 it is refused, unless it is 0.
func ParseDuration(s string, bare time.Duration) (time.Duration, error) {
	if number, err := strconv.ParseFloat(s, 64); err == nil && isNumber(s) {
		if bare == 0 && number != 0 {
			return 0, fmt.Errorf("duration %q: say the unit, as in %ss or %sm", s, s, s)
		}
		return scaled(s, number, bare)
	}
	if s == "" {
		return 0, fmt.Errorf("duration %q: it is empty", s)
	}
	var total time.Duration
	for rest := s; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		number, err := strconv.ParseFloat(rest[:digits], 64)
		if err != nil {
			return 0, badDuration(s)
		}
		unit, length := time.Duration(0), 0
		for _, u := range durationUnits {
			if strings.HasPrefix(rest[digits:], u.name) {
				unit, length = u.unit, len(u.name)
				break
			}
		}
		if unit == 0 {
			return 0, badDuration(s)
		}
		part, err := scaled(s, number, unit)
		if err != nil {
			return 0, err
		}
		if total += part; total < 0 {
			return 0, fmt.Errorf("duration %q: too long", s)
		}
		rest = rest[digits+length:]
	}
	return total, nil
}

// isNumber keeps out what ParseFloat takes besides digits: signs, exponents, inf, nan, underscores.
func isNumber(s string) bool { return strings.Trim(s, "0123456789.") == "" }

func scaled(s string, number float64, unit time.Duration) (time.Duration, error) {
	d := math.Round(number * float64(unit))
	if d >= math.MaxInt64 {
		return 0, fmt.Errorf("duration %q: too long", s)
	}
	return time.Duration(d), nil
}

func badDuration(s string) error {
	return fmt.Errorf("duration %q: it must look like 30s, 5m, 2h30m or 1d12h", s)
}

// FormatTime prints a moment: in full (RFC 3339) off a terminal, else as short as is clear on the
// day of now. Both are in now's time zone. The zero time is "".
func FormatTime(t, now time.Time, terminal bool) string {
	if t.IsZero() {
		return ""
	}
	t = t.In(now.Location())
	switch {
	case !terminal:
		return t.Format(time.RFC3339)
	case t.Year() == now.Year() && t.YearDay() == now.YearDay():
		return t.Format("15:04:05")
	case t.Year() == now.Year():
		return t.Format("Jan _2 15:04")
	default:
		return t.Format("2006-01-02")
	}
}

// ParsePast reads a time that is over: how long ago it was (2h, 3d), a time of day (14:30, the last
// one), a day (2026-11-30), both (2026-11-30T14:30, also with a blank and seconds), or RFC 3339.
// Times without a zone are now's.
func ParsePast(s string, now time.Time) (time.Time, error) {
	s = strings.TrimSpace(s)
	if d, err := ParseDuration(s, 0); err == nil {
		return now.Add(-d), nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if at, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			year, month, date := now.Date()
			at = at.AddDate(year, int(month)-1, date-1)
			if at.After(now) {
				at = at.AddDate(0, 0, -1)
			}
			return at, nil
		}
	}
	for _, layout := range []string{
		time.DateOnly, "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05", time.DateTime,
	} {
		if at, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", s)
}
