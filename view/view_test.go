package view

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

func TestClean(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "echo hello > out.txt", "echo hello > out.txt"},
		{"letters of others", "grün 日本語 é", "grün 日本語 é"},
		{"a sequence that sets the title", "\x1b]0;pwned\a", "␛]0;pwned␇"},
		{"a sequence of one byte", "a\u009b31mb", `a\u009b31mb`},
		{"lines and tabs", "a\nb\tc\r", "a␊b␉c␍"},
		{"delete", "a\x7f", "a␡"},
		{"another direction", "abc\u202etxt.exe", `abc\u202etxt.exe`},
		{"invisible", "a\u200bb\u2060c\ufeff", `a\u200bb\u2060c\ufeff`},
		{"invisible tags", "a\U000e0041", `a\U000e0041`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"no UTF-8", "a\xff\xfeb\xc3", `a\xff\xfeb\xc3`},
		{"replacement character", "a\ufffdb", `a\ufffdb`},
		{"family of emoji", "👩‍👩‍👧", "👩‍👩‍👧"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Clean(test.in)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	tests := []struct {
		in          string
		width       int
		end, middle string
	}{
		{"abcdefghij", 10, "abcdefghij", "abcdefghij"},
		{"abcdefghij", 9, "abcdefgh…", "abcd…ghij"},
		{"abcdefghij", 4, "abc…", "ab…j"},
		{"abcdefghij", 1, "…", "…"},
		{"abcdefghij", 0, "", ""},
		{"日本語日本語", 12, "日本語日本語", "日本語日本語"},
		{"日本語日本語", 11, "日本語日本…", "日本…本語"},
		{"日本語日本語", 6, "日本…", "日…語"},
		{"日本語日本語", 2, "…", "…"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…", "e\u0301…"},
		{"👩‍👩‍👧👩‍👩‍👧", 3, "👩‍👩‍👧…", "…"},
	}
	for _, test := range tests {
		if got := Shorten(test.in, test.width); got != test.end {
			t.Errorf("Shorten(%q, %d) = %q, not %q", test.in, test.width, got, test.end)
		}
		if got := ShortenMiddle(test.in, test.width); got != test.middle {
			t.Errorf("ShortenMiddle(%q, %d) = %q, not %q", test.in, test.width, got, test.middle)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "plain", "\x1b[31mred", "日本語", "e\u0301", "🇩🇪🇫🇷", "👩‍👩‍👧",
		"\u0600a", "a\u200db", "\xff\u202e"} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		defer budget.Hold(t, 1<<20+64*len(s))()
		width = max(0, width%100)
		clean := Clean(s)
		for _, r := range clean {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x202e || r == '\ufffd' {
				t.Errorf("Clean(%q) = %q", s, clean)
			}
		}
		if again := Clean(clean); again != clean {
			t.Errorf("%q, cleaned again, is %q", clean, again)
		}
		for _, got := range []string{
			Shorten(clean, width), ShortenMiddle(clean, width),
			Paint(shortenSpans([]Span{{clean, Red}, {" ", Plain}, {clean, Blue}}, width), false),
		} {
			if Width(got) > width {
				t.Errorf("%q, shortened to %d, is %q of width %d", clean, width, got, Width(got))
			}
		}
	})
}

func TestDurations(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"},
		{40 * time.Millisecond, "0s"},
		{449 * time.Millisecond, "0.4s"},
		{9999 * time.Millisecond, "9.9s"},
		{59*time.Second + 999*time.Millisecond, "59s"},
		{3*time.Minute + 12*time.Second, "3m12s"},
		{5 * time.Minute, "5m"},
		{2*time.Hour + 5*time.Minute + 59*time.Second, "2h5m"},
		{2*day + 4*time.Hour, "2d4h"},
		{120*day + 23*time.Hour, "120d"},
		{-90 * time.Second, "-1m30s"},
		{math.MaxInt64, "106751d"},
		{math.MinInt64, "-106751d"},
	}
	for _, test := range tests {
		if got := FormatDuration(test.d); got != test.want {
			t.Errorf("FormatDuration(%v) = %q, not %q", test.d, got, test.want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	tests := []struct {
		in   string
		bare time.Duration
		want time.Duration
		err  string
	}{
		{"90", time.Minute, 90 * time.Minute, ""},
		{"1.5", time.Minute, 90 * time.Second, ""},
		{"90", 0, 0, `duration "90": say the unit, as in 90s or 90m`},
		{"0", 0, 0, ""},
		{"30s", time.Minute, 30 * time.Second, ""},
		{"2h30m", 0, 150 * time.Minute, ""},
		{"1d", 0, day, ""},
		{"1d12h", 0, 36 * time.Hour, ""},
		{"1.5h", 0, 90 * time.Minute, ""},
		{"2w", 0, 14 * day, ""},
		{"250ms", 0, 250 * time.Millisecond, ""},
		{"", time.Minute, 0, `duration "": it is empty`},
		{"-5m", time.Minute, 0, `duration "-5m": it must look like 30s, 5m, 2h30m or 1d12h`},
		{"-5", time.Minute, 0, `duration "-5": it must look like 30s, 5m, 2h30m or 1d12h`},
		{"5x", time.Minute, 0, `duration "5x": it must look like 30s, 5m, 2h30m or 1d12h`},
		{"h", time.Minute, 0, `duration "h": it must look like 30s, 5m, 2h30m or 1d12h`},
		{"1h30", time.Minute, 0, `duration "1h30": it must look like 30s, 5m, 2h30m or 1d12h`},
		{"inf", time.Minute, 0, `duration "inf": it must look like 30s, 5m, 2h30m or 1d12h`},
		{"1e9", time.Minute, 0, `duration "1e9": it must look like 30s, 5m, 2h30m or 1d12h`},
		{"200000d", 0, 0, `duration "200000d": too long`},
		{"106000d106000d", 0, 0, `duration "106000d106000d": too long`},
	}
	for _, test := range tests {
		got, err := ParseDuration(test.in, test.bare)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != test.want || text != test.err {
			t.Errorf("ParseDuration(%q, %v) = %v, %q; not %v, %q", test.in, test.bare, got, text,
				test.want, test.err)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"", "90", "30s", "2h30m", "1d12h", ".", "..s", "1.5h",
		"9999999999999h", "5µs", "1e3s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer budget.Hold(t, 1<<20+64*len(s))()
		d, err := ParseDuration(s, time.Minute)
		if d < 0 || err != nil && d != 0 {
			t.Errorf("%q: %v, %v", s, d, err)
		}
		if err == nil && d >= 10*time.Second {
			// What is printed reads as the same, but for what two units leave out.
			again, err := ParseDuration(FormatDuration(d), 0)
			if err != nil || again > d || d-again >= day || d < time.Hour &&
				d-again >= time.Second {
				t.Errorf("%v is printed as %s, which is %v (%v)", d, FormatDuration(d), again, err)
			}
		}
	})
}

func TestSizes(t *testing.T) {
	tests := []struct {
		in   string
		want int64
		out  string // "": an error
	}{
		{"0", 0, "0 B"},
		{"512", 512, "512 B"},
		{"512B", 512, "512 B"},
		{"10G", 10 << 30, "10 GiB"},
		{"500MiB", 500 << 20, "500 MiB"},
		{"500 mib", 500 << 20, "500 MiB"},
		{"2GB", 2e9, "1.9 GiB"},
		{"1.5K", 1536, "1.5 KiB"},
		{"1023K", 1023 << 10, "1023 KiB"},
		{"1048000", 1048000, "1023 KiB"},
		{"1048570", 1048570, "1.0 MiB"},
		{"7E", 7 << 60, "7.0 EiB"},
		{"8E", 0, ""},
		{"", 0, ""},
		{"G", 0, ""},
		{"-1", 0, ""},
		{"10X", 0, ""},
		{"10GiBs", 0, ""},
		{"1e3", 0, ""},
	}
	for _, test := range tests {
		got, err := ParseSize(test.in)
		if got != test.want || (err == nil) != (test.out != "") {
			t.Errorf("ParseSize(%q) = %d, %v; not %d", test.in, got, err, test.want)
		}
		if err == nil && FormatSize(got) != test.out {
			t.Errorf("FormatSize(%d) = %q, not %q", got, FormatSize(got), test.out)
		}
	}
	if got := FormatSize(math.MinInt64); got != "-8.0 EiB" {
		t.Errorf("the least size is %s", got)
	}
}

func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"", "10G", "500MiB", ".", "1.5 kb", "99999999999E"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer budget.Hold(t, 1<<20+64*len(s))()
		if n, err := ParseSize(s); n < 0 || err != nil && n != 0 {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	})
}

func TestFormatTime(t *testing.T) {
	zone := time.FixedZone("X", 2*3600)
	now := time.Date(2026, 3, 5, 12, 0, 0, 0, zone)
	tests := []struct {
		t                  time.Time
		terminal, anywhere string
	}{
		{time.Time{}, "", ""},
		{time.Date(2026, 3, 5, 7, 8, 9, 0, time.UTC), "09:08:09", "2026-03-05T09:08:09+02:00"},
		{time.Date(2026, 3, 4, 23, 0, 0, 0, time.UTC), "01:00:00", "2026-03-05T01:00:00+02:00"},
		{time.Date(2026, 3, 4, 12, 0, 0, 0, zone), "Mar  4 12:00", "2026-03-04T12:00:00+02:00"},
		{time.Date(2025, 3, 5, 12, 0, 0, 0, zone), "2025-03-05", "2025-03-05T12:00:00+02:00"},
	}
	for _, test := range tests {
		if got := FormatTime(test.t, now, true); got != test.terminal {
			t.Errorf("on a terminal %v is %q, not %q", test.t, got, test.terminal)
		}
		if got := FormatTime(test.t, now, false); got != test.anywhere {
			t.Errorf("off a terminal %v is %q, not %q", test.t, got, test.anywhere)
		}
	}
}

func TestScreen(t *testing.T) {
	tests := []struct {
		name     string
		terminal bool
		width    int
		env      map[string]string
		want     Screen
	}{
		{"a terminal", true, 120, nil, Screen{true, 120, true}},
		{"a terminal of no size", true, 0, nil, Screen{true, 80, true}},
		{"COLUMNS", true, 120, map[string]string{"COLUMNS": "60"}, Screen{true, 60, true}},
		{"COLUMNS of nonsense", true, 120, map[string]string{"COLUMNS": "-1"},
			Screen{true, 120, true}},
		{"a pipe", false, 0, map[string]string{"COLUMNS": "60"}, Screen{false, 0, false}},
		{"NO_COLOR", true, 80, map[string]string{"NO_COLOR": "1", "CLICOLOR_FORCE": "1"},
			Screen{true, 80, false}},
		{"forced in a pipe", false, 0, map[string]string{"CLICOLOR_FORCE": "1"},
			Screen{false, 0, true}},
		{"not forced", false, 0, map[string]string{"CLICOLOR_FORCE": "0"}, Screen{false, 0, false}},
		{"dumb", true, 80, map[string]string{"TERM": "dumb"}, Screen{true, 80, false}},
		{"CLICOLOR=0", true, 80, map[string]string{"CLICOLOR": "0"}, Screen{true, 80, false}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := screen(test.terminal, test.width, func(name string) string {
				return test.env[name]
			})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCounts(t *testing.T) {
	c := Counts{Running: 1, Done: 257, Failed: 4, Canceled: 12}
	if got, want := Paint(c.Line(), false),
		"274 jobs: 0 waiting, 0 held, 1 running, 257 done, 4 failed, 12 canceled"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := Paint(c.Short(), true), "\x1b[33m1R\x1b[0m \x1b[32m257D\x1b[0m "+
		"\x1b[4;31m4F\x1b[0m \x1b[31m12C\x1b[0m"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got, want := Paint(Counts{Copying: 1}.Line(), false),
		"1 job: 0 waiting, 0 held, 0 running, 1 copying, 0 done, 0 failed, 0 canceled"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBar(t *testing.T) {
	half := Progress{Done: 308, Failed: 4, Running: 8, Waiting: 680, Rate: 3.2}
	tests := []struct {
		name  string
		p     Progress
		width int
		want  string
	}{
		{"wide", half, 120, "[████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░] 312/1000, 4 failed, 8 " +
			"running, 680 waiting, 3m35s left, 3.2/s"},
		{"80", half, 80,
			"[████▒░░░░░░░░░░░] 312/1000, 4 failed, 8 running, 680 waiting, 3m35s left, 3.2/s"},
		{"60", half, 60, "312/1000, 4 failed, 8 running, 680 waiting, 3m35s left"},
		{"20", half, 20, "312/1000, 4 failed"},
		{"5", half, 5, ""},
		{"the end", Progress{Done: 10}, 60, "[████████████████████████████████████████] 10/10"},
		{"nothing", Progress{}, 60, "0/0"},
		{"known", Progress{Done: 1, Waiting: 2, Rate: 1, Left: "12m ± 3m"}, 40,
			"1/3, 2 waiting, 12m ± 3m left, 1.0/s"},
		{"slow", Progress{Done: 1, Waiting: 2, Rate: 1.0 / 1800}, 60,
			"[█████████░░░░░░░░░░░░░░░░░░] 1/3, 2 waiting, 1h left, 2.0/h"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Paint(test.p.Bar(test.width), false)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzBar(f *testing.F) {
	f.Add(uint32(1), uint32(2), uint32(3), uint32(4), 0.5, 80)
	f.Add(uint32(0), uint32(0), uint32(0), uint32(0), math.Inf(1), 10)
	f.Fuzz(func(t *testing.T, done, failed, running, waiting uint32, rate float64, width int) {
		defer budget.Hold(t, 1<<20)()
		width = 1 + max(0, width%300)
		line := Paint(Progress{Done: int(done), Failed: int(failed), Running: int(running),
			Waiting: int(waiting), Rate: rate}.Bar(width), false)
		if Width(line) > width || strings.ContainsRune(line, '\n') {
			t.Errorf("%q is wider than %d", line, width)
		}
	})
}

func TestParsePast(t *testing.T) {
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.FixedZone("there", 3600))
	for text, want := range map[string]string{
		"2h":                        "2026-03-14T13:09:26+01:00",
		"3d":                        "2026-03-11T15:09:26+01:00",
		"0":                         "2026-03-14T15:09:26+01:00",
		"14:30":                     "2026-03-14T14:30:00+01:00",
		"15:10":                     "2026-03-13T15:10:00+01:00",
		"07:00:30":                  "2026-03-14T07:00:30+01:00",
		"2026-03-01":                "2026-03-01T00:00:00+01:00",
		"2026-03-01T08:15":          "2026-03-01T08:15:00+01:00",
		" 2026-03-01 08:15:16 ":     "2026-03-01T08:15:16+01:00",
		"2026-03-01T08:15:16Z":      "2026-03-01T08:15:16Z",
		"2026-03-01T08:15:16-05:00": "2026-03-01T08:15:16-05:00",
		"yesterday":                 "",
		"2":                         "",
		"25:00":                     "",
		"2026-13-01":                "",
		"":                          "",
	} {
		got, err := ParsePast(text, now)
		if (err == nil) != (want != "") || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("ParsePast(%q) = %v, %v; want %s", text, got, err, want)
		}
	}
}
