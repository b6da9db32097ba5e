package logging

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// dateFormat is a compiled format of the Rust crate chrono, whose specifiers
// are those of strftime with a few of its own: fractions of a second (%.3f,
// %3f), offsets with colons (%:z), and %+ for ISO 8601.
type dateFormat []dateItem

type dateItem struct {
	text string // literal text, if spec is 0
	spec byte   // the specifier's letter
	pad  byte   // what fills a number up: '0', ' ', or 0 for nothing
	frac int    // %f: digits, 0 for as many as needed
	dot  bool   // %f: with a leading point
	cols int    // %z: number of colons
}

// composed are the specifiers that stand for several others.
func composed(spec byte) string {
	switch spec {
	case 'D', 'x':
		return "%m/%d/%y"
	case 'F':
		return "%Y-%m-%d"
	case 'v':
		return "%e-%b-%Y"
	case 'R':
		return "%H:%M"
	case 'T', 'X':
		return "%H:%M:%S"
	case 'r':
		return "%I:%M:%S %p"
	case 'c':
		return "%a %b %e %H:%M:%S %Y"
	}
	return ""
}

// parseDateFormat compiles a format; an unknown specifier is an error.
func parseDateFormat(format string) (dateFormat, error) {
	var items dateFormat
	for format != "" {
		text, rest, found := strings.Cut(format, "%")
		if text != "" {
			items = append(items, dateItem{text: text})
		}
		if !found {
			break
		}
		n, item, err := parseSpecifier(rest)
		if err != nil {
			return nil, err
		}
		if sub := composed(item.spec); sub != "" {
			more, err := parseDateFormat(sub)
			if err != nil {
				return nil, err
			}
			items = append(items, more...)
		} else {
			items = append(items, item)
		}
		format = rest[n:]
	}
	return items, nil
}

// parseSpecifier reads what follows a "%", and says how many bytes that was.
func parseSpecifier(s string) (int, dateItem, error) {
	bad := func(n int) (int, dateItem, error) {
		return 0, dateItem{}, fmt.Errorf("unknown date specifier `%%%s`", s[:min(n, len(s))])
	}
	var item dateItem
	i, padded := 0, false
	switch {
	case strings.HasPrefix(s, "-"):
		padded, i = true, 1
	case strings.HasPrefix(s, "_"):
		padded, item.pad, i = true, ' ', 1
	case strings.HasPrefix(s, "0"):
		padded, item.pad, i = true, '0', 1
	case strings.HasPrefix(s, "."):
		item.dot, i = true, 1
	}
	if !padded && i < len(s) && (s[i] == '3' || s[i] == '6' || s[i] == '9') {
		item.frac = int(s[i] - '0')
		i++
	}
	for !padded && i < len(s) && s[i] == ':' && item.cols < 3 {
		item.cols++
		i++
	}
	if i == len(s) {
		return bad(i)
	}
	item.spec = s[i]
	i++
	number := strings.IndexByte("YCymdeUWGgVjHkIlMSs", item.spec) >= 0
	switch {
	case (item.dot || item.frac > 0) && item.spec != 'f',
		item.cols > 0 && item.spec != 'z',
		padded && !number,
		!number && strings.IndexByte("bBhaAwuPpfZzcDxFvRTXr+tn%q", item.spec) < 0:
		return bad(i)
	case item.spec == 'f' && !item.dot && item.frac == 0:
		item.frac = 9
	}
	if number && !padded {
		item.pad = '0'
		switch item.spec {
		case 'e', 'k', 'l':
			item.pad = ' '
		case 's':
			item.pad = 0
		}
	}
	return i, item, nil
}

func (f dateFormat) append(buf []byte, t time.Time) []byte {
	for i := range f {
		if f[i].spec == 0 {
			buf = append(buf, f[i].text...)
		} else {
			buf = f[i].append(buf, t)
		}
	}
	return buf
}

func (it *dateItem) append(buf []byte, t time.Time) []byte {
	switch it.spec {
	case '+':
		buf = t.AppendFormat(buf, "2006-01-02T15:04:05")
		buf = appendFraction(buf, t.Nanosecond(), 0, true)
		return t.AppendFormat(buf, "-07:00")
	case 'f':
		return appendFraction(buf, t.Nanosecond(), it.frac, it.dot)
	case 'z':
		return t.AppendFormat(buf, [...]string{"-0700", "-07:00", "-07:00:00", "-07"}[it.cols])
	case 'Z':
		// chrono knows no names of local zones, only their offsets.
		if t.Location() == time.UTC {
			return append(buf, "UTC"...)
		}
		return t.AppendFormat(buf, "-07:00")
	case 'b', 'h':
		return t.AppendFormat(buf, "Jan")
	case 'B':
		return t.AppendFormat(buf, "January")
	case 'a':
		return t.AppendFormat(buf, "Mon")
	case 'A':
		return t.AppendFormat(buf, "Monday")
	case 'p':
		return t.AppendFormat(buf, "PM")
	case 'P':
		return t.AppendFormat(buf, "pm")
	case 't':
		return append(buf, '\t')
	case 'n':
		return append(buf, '\n')
	case '%':
		return append(buf, '%')
	}
	value, width := it.number(t)
	return appendPadded(buf, value, width, it.pad)
}

// number gives the value of a numeric specifier and the width that padding
// fills.
func (it *dateItem) number(t time.Time) (value int64, width int) {
	year, month, day := t.Date()
	isoYear, isoWeek := t.ISOWeek()
	hour := t.Hour()
	switch it.spec {
	case 'Y':
		return int64(year), 4
	case 'C':
		return int64(year / 100), 2
	case 'y':
		return int64(year % 100), 2
	case 'q':
		return int64(month+2) / 3, 1
	case 'm':
		return int64(month), 2
	case 'd', 'e':
		return int64(day), 2
	case 'w':
		return int64(t.Weekday()), 1
	case 'u':
		return int64(t.Weekday()+6)%7 + 1, 1
	case 'U':
		return int64(t.YearDay()+6-int(t.Weekday())) / 7, 2
	case 'W':
		return int64(t.YearDay()+6-int(t.Weekday()+6)%7) / 7, 2
	case 'G':
		return int64(isoYear), 4
	case 'g':
		return int64(isoYear % 100), 2
	case 'V':
		return int64(isoWeek), 2
	case 'j':
		return int64(t.YearDay()), 3
	case 'H', 'k':
		return int64(hour), 2
	case 'I', 'l':
		return int64((hour+11)%12 + 1), 2
	case 'M':
		return int64(t.Minute()), 2
	case 'S':
		return int64(t.Second()), 2
	}
	return t.Unix(), 1 // 's'
}

func appendPadded(buf []byte, value int64, width int, pad byte) []byte {
	if pad != 0 {
		limit := int64(10)
		for i := 1; i < width; i++ {
			limit *= 10
		}
		for limit /= 10; limit > 1 && value < limit; limit /= 10 {
			buf = append(buf, pad)
		}
	}
	return strconv.AppendInt(buf, value, 10)
}

// appendFraction appends the first digits of a fraction of a second, cut and
// not rounded. With no number of digits it takes 0, 3, 6 or 9, as needed.
func appendFraction(buf []byte, nanos, digits int, dot bool) []byte {
	if digits == 0 {
		switch {
		case nanos == 0:
			return buf
		case nanos%1e6 == 0:
			digits = 3
		case nanos%1e3 == 0:
			digits = 6
		default:
			digits = 9
		}
	}
	if dot {
		buf = append(buf, '.')
	}
	for unit, n := int(1e8), 0; n < digits; n++ {
		buf = append(buf, byte('0'+nanos/unit%10))
		unit /= 10
	}
	return buf
}
