package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/api"
	"jobserver/redact"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// ended is a job that had attempts on machines, each with an exit code.
func ended(id uint64, vars string, attempts ...string) []finding {
	j := &statepb.Job{Id: id, Status: sched.Failed}
	for _, v := range strings.Fields(vars) {
		name, value, _ := strings.Cut(v, "=")
		j.Vars = append(j.Vars, &statepb.Var{Name: name, Value: []byte(value)})
	}
	for i, a := range attempts {
		var machine string
		var code int32
		if _, err := fmt.Sscanf(a, "%s %d", &machine, &code); err != nil {
			panic(err)
		}
		j.Attempts = append(j.Attempts,
			&statepb.Attempt{Number: int32(i + 1), Machine: machine, Cause: statepb.Cause_EXITED,
				ExitCode: code})
		if code == 0 {
			j.Status = sched.Done
		}
	}
	return findings(j)
}

func TestGroupFailures(t *testing.T) {
	found := ended(1, "", "gpu1 1", "gpu2 1")
	found = append(found, ended(2, "", "gpu1 1", "gpu2 0")...)
	found = append(found, ended(3, "", "gpu1 137")...)
	for i, line := range []string{"no space left on /dev/sda1", "no space left on /dev/sda22",
		"no space left on /dev/sda3", "", "killed"} {
		found[i].line = line
	}
	want := []api.FailureGroup{
		{Cause: "exited with code 1", LastLine: "no space left on /dev/sda1", Attempts: 3, Jobs: 2,
			Final:    1,
			Machines: []api.FailureCount{{Name: "gpu1", Count: 2}, {Name: "gpu2", Count: 1}},
			Examples: []uint64{1, 2}},
		{Cause: "exited with code 137", LastLine: "killed", Attempts: 1, Jobs: 1, Final: 1,
			Machines: []api.FailureCount{{Name: "gpu1", Count: 1}}, Examples: []uint64{3}},
	}
	if diff := cmp.Diff(want, groupFailures(found)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStandouts(t *testing.T) {
	var one, value, all, few []finding
	for i := range uint64(12) {
		size := fmt.Sprintf("SIZE=%d", i%3)
		where := fmt.Sprintf("gpu%d", i%4)
		bad := map[bool]int{true: 1}
		one = append(one, ended(i+1, size, fmt.Sprintf("%s %d", where, bad[i%4 == 3]))...)
		value = append(value, ended(i+1, size, fmt.Sprintf("%s %d", where, bad[i%3 == 2]))...)
		all = append(all, ended(i+1, size, where+" 1")...)
		few = append(few, ended(i+1, size, fmt.Sprintf("%s %d", where, bad[i == 3]))...)
	}
	for name, test := range map[string]struct {
		found []finding
		want  []string
	}{
		"a machine": {one,
			[]string{"machine gpu3 stands out: 3 of its 3 attempts failed, on the others 0 of 9"}},
		"a value": {value,
			[]string{"SIZE=2 stands out: 4 of 4 attempts with it failed, without it 0 of 8"}},
		"everything": {all, nil},
		"one job":    {few, nil},
		"nothing":    {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := standouts(test.found)
			if diff := cmp.Diff(test.want, append([]string(nil), got...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLastLine(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"":                         "",
		"\n \n":                    "",
		"one\ntwo\n\n":             "two",
		"no end":                   "no end",
		"bad \x1b[31m\xff red\r\n": "bad",
		"say hush":                 "say (secret)",
	} {
		path := filepath.Join(dir, "log")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLine(path, redact.New("hush")); !strings.HasPrefix(got, want) ||
			strings.ContainsAny(got, "\x1b\n") || want == "" && got != "" {
			t.Errorf("of %.40q: %q, want %q", text, got, want)
		}
	}
	if got := lastLine(filepath.Join(dir, "missing"), nil); got != "" {
		t.Errorf("of a missing file: %q", got)
	}
}
