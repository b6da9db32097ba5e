package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWithLine changes one entry of whatever a user's file is like.
func TestWithLine(t *testing.T) {
	for _, test := range []struct {
		before string
		line   uint64
		want   string
	}{
		{"", 36, "line: 36\n"},
		{"", 0, ""},
		{"# nothing yet", 36, "# nothing yet\nline: 36\n"},
		{"# nothing yet\n", 0, "# nothing yet\n"},
		{"---\n", 36, "---\nline: 36\n"},
		{"~\n", 36, "line: 36\n"},
		{"# head\n\nhost: lab # there\n", 36, "# head\n\nhost: lab # there\nline: 36\n"},
		{"host: lab", 0, "host: lab"},
		{"# the line\nline: 7 # last week's\nhost: \"lab\"\n", 36, "# the line\nline: 36 # last week's\nhost: \"lab\"\n"},
		{"# the line\nline: 7\n", 0, "# the line\nline: 0\n"},
		{"{host: lab}\n", 36, "{host: lab, line: 36}\n"},
	} {
		got, err := withLine([]byte(test.before), test.line)
		if diff := cmp.Diff(test.want, string(got)); err != nil || diff != "" {
			t.Errorf("line %d in %q: %v (-want +got):\n%s", test.line, test.before, err, diff)
		}
	}
}
