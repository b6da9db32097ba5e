package logging

import (
	"testing"
	"time"

	"jobserver/tests/budget"
)

func TestDurations(t *testing.T) {
	tests := map[string]time.Duration{
		"30 seconds": 30 * time.Second, "30seconds": 30 * time.Second, " 2 min ": 2 * time.Minute,
		"1h 30m": 90 * time.Minute, "1h30m15s": time.Hour + 30*time.Minute + 15*time.Second,
		"2hours 5 sec": 2*time.Hour + 5*time.Second, "100ms": 100 * time.Millisecond,
		"3us":    3 * time.Microsecond,
		"7 nsec": 7, "1day": 24 * time.Hour, "2 weeks": 14 * 24 * time.Hour,
		"1 M": 2630016 * time.Second, "1y": 31557600 * time.Second, "0": 0,
	}
	for text, want := range tests {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "  ", "30", "seconds", "-1s", "1.5s", "1 fortnight", "1h 30",
		"99999999999999999999s", "300 years", "0 0"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestSizes(t *testing.T) {
	tests := map[string]int64{
		"0": 0, "17": 17, "5 b": 5, "1kb": 1 << 10, "1 KB": 1 << 10, "1 kib": 1 << 10,
		"3 mb": 3 << 20, "3MiB": 3 << 20,
		"2 gb": 2 << 30, "2gib": 2 << 30, "1 tb": 1 << 40, "1 TiB": 1 << 40, " 10  mb ": 10 << 20,
	}
	for text, want := range tests {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "mb", "-1", "1.5 mb", "1 pb", "1 m", "10 mb x",
		"9223372036854775807 kb", "99999999999999999999"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
}

func TestIntervals(t *testing.T) {
	tests := map[string]interval{
		"10": {10, "second"}, "1 second": {1, "second"}, "5 Minutes": {5, "minute"},
		"2hours": {2, "hour"},
		"1 day":  {1, "day"}, "3 weeks": {3, "week"}, "1 month": {1, "month"},
		"1 YEAR": {1, "year"},
	}
	for text, want := range tests {
		if got, err := parseInterval(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "abc", "5 das", "-1", "2.0", "0", "0 days", "9999999999",
		"5000 years", "1 s"} {
		if got, err := parseInterval(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

// TestNextRoll shows when a time trigger rolls next, with and without
// modulate.
func TestNextRoll(t *testing.T) {
	tests := []struct {
		interval string
		modulate bool
		now      string
		want     string
	}{
		{"1 second", false, "1970-03-01 02:02:02.5", "1970-03-01 02:02:03"},
		{"1 minute", false, "1970-03-01 02:02:02", "1970-03-01 02:03:00"},
		{"1 hour", false, "1970-03-01 02:02:02", "1970-03-01 03:00:00"},
		{"1 day", false, "1970-03-01 02:02:02", "1970-03-02 00:00:00"},
		{"1 week", false, "1970-03-01 02:02:02", "1970-03-02 00:00:00"}, // a Sunday, then Monday
		{"1 week", false, "1970-03-02 00:00:00", "1970-03-09 00:00:00"},
		{"1 month", false, "1970-12-31 02:02:02", "1971-01-01 00:00:00"},
		{"1 year", false, "1970-03-01 02:02:02", "1971-01-01 00:00:00"},
		{"3 seconds", true, "1970-03-01 02:02:02", "1970-03-01 02:02:03"},
		{"3 minutes", true, "1970-03-01 02:02:02", "1970-03-01 02:03:00"},
		{"3 hours", true, "1970-03-01 02:02:02", "1970-03-01 03:00:00"},
		// day 59 of the year, from 0
		{"3 days", true, "1970-03-01 02:02:02", "1970-03-02 00:00:00"},
		{"3 weeks", true, "1970-03-01 02:02:02", "1970-03-02 00:00:00"},
		{"3 months", true, "1970-03-01 02:02:02", "1970-04-01 00:00:00"},
		{"3 years", true, "1970-03-01 02:02:02", "1971-01-01 00:00:00"},
		{"3 hours", false, "1970-03-01 02:02:02", "1970-03-01 05:00:00"},
	}
	for _, test := range tests {
		iv, err := parseInterval(test.interval)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse("2006-01-02 15:04:05", test.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := iv.next(now, test.modulate).Format("2006-01-02 15:04:05"); got != test.want {
			t.Errorf("%s, modulate %v, at %s: got %s, want %s", test.interval, test.modulate,
				test.now, got, test.want)
		}
	}
}

func TestExpandEnv(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "alpha", "EMPTY": "", "SELF": "$ENV{A}"}[name]
		return v, ok
	}
	tests := map[string]string{
		"":                     "",
		"/var/log":             "/var/log",
		"$ENV{A}/x/$ENV{A}":    "alpha/x/alpha",
		"$ENV{EMPTY}x":         "x",
		"$ENV{B}/x$ENV{A}":     "$ENV{B}/xalpha", // unknown ones stay
		"$ENV{A":               "$ENV{A",
		"$ENV{}/$A/${A}":       "$ENV{}/$A/${A}",
		"$ENV{SELF}":           "$ENV{A}", // and no further
		"{}/$ENV{A}.{}":        "{}/alpha.{}",
		"$ENV{B}$TIME{%Y}$ENV": "$ENV{B}$TIME{%Y}$ENV",
	}
	for in, want := range tests {
		if got := expandEnv(in, lookup); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestExpandTime(t *testing.T) {
	got, err := expandTime("log-$TIME{%Y-%m-%d}.$TIME{%H}", someTime)
	if want := "log-2016-03-20.14"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := expandTime("$TIME{%Q}", someTime); err == nil {
		t.Errorf("a wrong format gives %q", got)
	}
}

func FuzzValues(f *testing.F) {
	for _, s := range []string{"1h 30m", "10 mb", "3 weeks", "$ENV{A}$TIME{%Y}", "%-d%.3f%:::z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer budget.Hold(t, 1<<20+64*len(s))()
		if d, err := parseDuration(s); err == nil && d < 0 {
			t.Errorf("duration %q: %v", s, d)
		}
		if n, err := parseSize(s); err == nil && n < 0 {
			t.Errorf("size %q: %d", s, n)
		}
		if iv, err := parseInterval(s); err == nil {
			for _, modulate := range []bool{true, false} {
				if next := iv.next(someTime, modulate); !next.After(someTime) {
					t.Errorf("interval %q: %v is not after %v", s, next, someTime)
				}
			}
		}
		if format, err := parseDateFormat(s); err == nil {
			format.append(nil, someTime)
		}
		expandEnv(s, func(string) (string, bool) { return s, true })
	})
}
