package cli

import (
	"os"
	"path/filepath"
	"strings"
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
		{"# the line\nline: 7 # last week's\nhost: \"lab\"\n", 36,
			"# the line\nline: 36 # last week's\nhost: \"lab\"\n"},
		{"# the line\nline: 7\n", 0, "# the line\nline: 0\n"},
		{"{host: lab}\n", 36, "{host: lab, line: 36}\n"},
	} {
		got, err := withLine([]byte(test.before), test.line)
		if diff := cmp.Diff(test.want, string(got)); err != nil || diff != "" {
			t.Errorf("line %d in %q: %v (-want +got):\n%s", test.line, test.before, err, diff)
		}
	}
}

// TestLoadConfig reads whatever stands in a user's file.
func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "jobserver", "config.yaml")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"# nothing\n", ""},
		{"~\n", ""},
		{"host: lab\nquiet: true\nline: 7\n", ""},
		{"\ufeffhost: lab\r\n", ""},
		{"host: lab\nhots: lab\n", `line 2: there is no setting "hots"`},
		{"\nquiet: perhaps\n", "line 2: quiet has to be true or false"},
		{"line: last\n", "line 1: line has to be a number"},
		{"socket: [a, b]\n", "line 1: socket has to be a text"},
		{"- host\n", "line 1: settings are wanted, like `host: lab`"},
		{"lab\n", "line 1: settings are wanted, like `host: lab`"},
		{"host: [\n", "line 1: did not find expected node content"},
	} {
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		e := &Env{Getenv: func(name string) string {
			return map[string]string{"XDG_CONFIG_HOME": dir}[name]
		}}
		got := ""
		if err := e.loadConfig(); err != nil {
			got = strings.TrimPrefix(err.Error(), "read the config file "+file+": ")
		}
		if got != test.want {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}
