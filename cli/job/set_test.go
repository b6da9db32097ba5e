package job

import (
	"testing"
	"time"
)

func TestParseStart(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 28, 21, 30, 0, 0, berlin) // the night in which clocks are set forward
	tests := []struct{ text, want string }{             // "": refused
		{"now", "0001-01-01T00:00:00Z"},
		{"22:00", "2026-03-28T22:00:00+01:00"},
		{"21:00", "2026-03-29T21:00:00+02:00"},
		{"08:00:30", "2026-03-29T08:00:30+02:00"},
		{"2h", "2026-03-28T23:30:00+01:00"},
		{"90", "2026-03-28T23:00:00+01:00"},
		{"2026-05-01T08:00:00Z", "2026-05-01T08:00:00Z"},
		{"2026-05-01 08:00", "2026-05-01T08:00:00+02:00"},
		{"25:00", ""},
		{"tomorrow", ""},
	}
	for _, tt := range tests {
		at, err := parseStart(tt.text, now)
		got := at.Format(time.RFC3339)
		if err != nil {
			got = ""
		}
		if got != tt.want {
			t.Errorf("%q is %s, want %s (%v)", tt.text, got, tt.want, err)
		}
	}
}
