package logging

import (
	"testing"
	"time"
)

// TestDateFormats has the examples of chrono's documentation, and the
// corners of each specifier.
func TestDateFormats(t *testing.T) {
	// The instant that chrono's documentation uses.
	base := time.Date(2001, 7, 8, 0, 34, 59, 26_490_708, time.FixedZone("ACST", 9*3600+1800))
	at := func(s string) time.Time {
		d, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	tests := []struct {
		format string
		time   time.Time
		want   string
	}{
		{"%Y %C %y", base, "2001 20 01"},
		{"%q", base, "3"},
		{"%m|%b|%B|%h", base, "07|Jul|July|Jul"},
		{"%d|%e", base, "08| 8"},
		{"%a|%A|%w|%u", base, "Sun|Sunday|0|7"},
		{"%U|%W|%G|%g|%V", base, "27|27|2001|01|27"},
		{"%j", base, "189"},
		{"%D|%x|%F|%v", base, "07/08/01|07/08/01|2001-07-08| 8-Jul-2001"},
		{"%H|%k|%I|%l|%P|%p", base, "00| 0|12|12|am|AM"},
		{"%M|%S", base, "34|59"},
		{"%f|%.f|%.3f|%.6f|%.9f", base, "026490708|.026490708|.026|.026490|.026490708"},
		{"%3f|%6f|%9f", base, "026|026490|026490708"},
		{"%R|%T|%X|%r", base, "00:34|00:34:59|00:34:59|12:34:59 AM"},
		{"%Z|%z|%:z|%::z|%:::z", base, "+09:30|+0930|+09:30|+09:30:00|+09"},
		{"%c", base, "Sun Jul  8 00:34:59 2001"},
		{"%+", base, "2001-07-08T00:34:59.026490708+09:30"},
		{"%s", base, "994518299"},
		{"%t%n%%", base, "\t\n%"},
		{"%-d|%_d|%0e|%-H|%_j|%0k", base, "8| 8|08|0|189|00"},
		{"plain ü", base, "plain ü"},
		{"", base, ""},

		// A fraction takes as many groups of three digits as it needs.
		{"%+|%.f", at("2001-07-08T00:34:59Z"), "2001-07-08T00:34:59+00:00|"},
		{"%+|%.f", at("2001-07-08T00:34:59.5Z"), "2001-07-08T00:34:59.500+00:00|.500"},
		{"%+|%.f", at("2001-07-08T00:34:59.00002Z"), "2001-07-08T00:34:59.000020+00:00|.000020"},
		{"%Z", at("2001-07-08T00:34:59Z"), "UTC"},
		{"%I|%l|%p|%P", at("2001-07-08T13:00:00Z"), "01| 1|PM|pm"},
		{"%I|%p", at("2001-07-08T12:00:00Z"), "12|PM"},
		// The turn of a year, where weeks and years differ.
		{"%Y-%U|%Y-%W|%G-%V|%j", at("2024-12-30T00:00:00Z"), "2024-52|2024-53|2025-01|365"},
		{"%Y-%U|%Y-%W|%G-%V|%j", at("2023-01-01T00:00:00Z"), "2023-01|2023-00|2022-52|001"},
		{"%w|%u|%q", at("2024-12-31T00:00:00Z"), "2|2|4"},
	}
	for _, test := range tests {
		f, err := parseDateFormat(test.format)
		if err != nil {
			t.Errorf("%q: %v", test.format, err)
			continue
		}
		if got := string(f.append(nil, test.time)); got != test.want {
			t.Errorf("%q: got %q, want %q", test.format, got, test.want)
		}
	}
}

func TestWrongDateFormats(t *testing.T) {
	for _, format := range []string{
		"%", "%Q", "%.", "%.Y", "%3Y", "%:Y", "%-", "%-a", "%_b", "%4f", "%::::z", "%.3", "%:",
		"a%é", "%-3f",
	} {
		if f, err := parseDateFormat(format); err == nil {
			t.Errorf("%q prints %q", format, f.append(nil, someTime))
		}
	}
}
