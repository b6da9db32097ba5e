package service

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jobserver/api"
	"jobserver/tests/budget"
)

// TestOwnNames: which entries of a directory are a job's is read from its record, which a job may
// have written itself where the directory is its own.
func TestOwnNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64<<20)
	all := []string{"7.job.json", "a", "b"}
	for _, test := range []struct {
		name, record string
		shared, own  []string // in a directory with others' results, and in one of the job's own
	}{
		{"plain", `{"jid":7,"env":[{"name":"x"}],"results":[{"name":"a/1"},{"name":"a/2"}],"complete":true}`,
			[]string{"7.job.json", "a"}, []string{"7.job.json", "a"}},
		{"not UTF-8", `{"results":[{"name":"?","name_base64":"Yg=="}]}`,
			[]string{"7.job.json", "b"}, []string{"7.job.json", "b"}},
		{"names outside", `{"results":[{"name":"../../x"},{"name":"/etc"},{"name":""},{"name":"b"}]}`,
			[]string{"7.job.json", "b"}, []string{"7.job.json", "b"}},
		{"no results", `{"jid":7}`, []string{"7.job.json"}, []string{"7.job.json"}},
		{"a long text", `{"cmd":"` + long + `","results":[]}`, nil, all},
		{"a long name", `{"results":[{"name":"` + long + `"}]}`, nil, all},
		{"a deep value", `{"env":` + strings.Repeat("[", 1<<20), nil, all},
		{"a list", `["a"]`, nil, all},
		{"cut short", `{"results":[{"name":"a"}`, nil, all},
		{"results of another kind", `{"results":null}`, nil, all},
		{"a pipe", "", nil, all},
		{"a link", "", nil, all},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"a", "b"} {
				check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
			}
			record := filepath.Join(dir, "7.job.json")
			switch test.name {
			case "a pipe":
				check(t, unix.Mkfifo(record, 0o600))
			case "a link":
				check(t, os.Symlink("/dev/zero", record))
			default:
				check(t, os.WriteFile(record, []byte(test.record), 0o600))
			}
			for _, flat := range []bool{true, false} {
				want := test.own
				if flat {
					want = test.shared
				}
				end := budget.Hold(t, 32<<20)
				got, err := ownNames(&api.Job{JID: 7, Flat: flat, ResultsDir: dir})
				end()
				if !slices.Equal(got, want) || (err != nil) != (want == nil) {
					t.Errorf("shared: %v: %q, %v", flat, got, err)
				}
			}
		})
	}
}
