package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the plan of the house: which rooms a room may enter. Whatever isn't listed may enter none, and
// only main, which isn't listed either, may enter all.
var mayImport = map[string][]string{
	"jobserver/fleet":  {"jobserver/agent", "jobserver/ssh", "jobserver/sched", "jobserver/sched/statepb", "jobserver/redact"},
	"jobserver/sched":  {"jobserver/sched/statepb"},
	"jobserver/notify": {"jobserver/redact"},
	"jobserver/ssh":    {"jobserver/userfile"},

	"jobserver/completion": {"jobserver/userfile"},

	"jobserver/live": {"jobserver/api"},
	"jobserver/top":  {"jobserver/api", "jobserver/live", "jobserver/stats", "jobserver/view"},
	"jobserver/web":  {"jobserver/api", "jobserver/live", "jobserver/stats", "jobserver/view"},
}

// openToAll are leaves that every room may enter: failpoint is empty in every program but those of
// tests, the others are one question each.
var openToAll = []string{"jobserver/disk", "jobserver/failpoint", "jobserver/suggest"}

// aboveThePlan are not rooms: programs beside the main one, and what only tests and benchmarks use.
var aboveThePlan = []string{
	"jobserver", "jobserver/bench", "jobserver/daemontest", "jobserver/ssh/sshtest", "jobserver/sched/statepb/gen",
}

// TestRooms holds the rule of docs/architecture.md: imports go one way, from main to fleet to the rooms
// below; the rooms below enter none but their own.
func TestRooms(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		if slices.Contains(aboveThePlan, pkg.ImportPath) || strings.HasPrefix(pkg.ImportPath, "jobserver/bench/") {
			continue
		}
		for _, dep := range pkg.Imports {
			if dep == "jobserver" {
				t.Errorf("%s imports main", pkg.ImportPath)
			}
			if slices.Contains(openToAll, dep) {
				continue
			}
			if strings.HasPrefix(dep, "jobserver/") && !slices.Contains(mayImport[pkg.ImportPath], dep) {
				t.Errorf("%s imports %s, which it must not enter", pkg.ImportPath, dep)
			}
		}
	}
	if seen < 10 {
		t.Errorf("go list gave only %d packages", seen)
	}
}
