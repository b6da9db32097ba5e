// Package rooms_test holds the plan of the house: who may enter which room, and how few files there
// are at the top.
package rooms_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayEnter is the plan of the house: the rooms that a room may import. A room that isn't here may
// enter none. Only main, which isn't here either, may enter all.
var mayEnter = map[string]string{
	"cli":         "api ssh view completion userfile version",
	"cli/show":    "cli api view",
	"cli/job":     "cli cli/show api view code grid stats userfile",
	"cli/matrix":  "cli cli/show cli/job api view code grid stats userfile",
	"cli/machine": "cli cli/show api view userfile",
	"cli/server":  "cli cli/show api live top userfile view version web",

	"daemon": "daemon/report daemon/retention daemon/service daemon/wire api fleet logging " +
		"metrics notify sched sched/statepb slim snapshot ssh version",
	"daemon/report":    "daemon/wire api fleet metrics notify sched sched/statepb view",
	"daemon/retention": "daemon/wire fleet sched view",
	"daemon/service": "daemon/retention daemon/wire api code fleet grid redact sched " +
		"sched/statepb ssh stats timeline userfile view",
	"daemon/wire": "api redact sched sched/statepb stats",

	"code":       "userfile",
	"completion": "userfile",
	"doctor":     "api redact ssh view",
	"fleet":      "agent ssh sched sched/statepb slurm redact",
	"notify":     "redact",
	"sched":      "sched/statepb slurm",
	"ssh":        "userfile",

	"live": "api stats",
	"top":  "api live stats view",
	"web":  "api live stats view",
}

// openToAll are leaves that every room may enter: failpoint is empty in every program but those of
// tests, the others answer one question each.
const openToAll = "disk failpoint foreign joblog suggest"

// mayNotReach holds also through what lies between: the command line works wherever the daemon is,
// and the daemon knows nothing of terminals and flags.
var mayNotReach = map[string]string{
	"cli":    "agent daemon fleet sched snapshot",
	"daemon": "cli completion",
}

// besideThePlan are no rooms: programs beside the main one, and what only tests use.
const besideThePlan = "agent/agenttest bench daemontest release slim/program " +
	"slurm/slurmtest ssh/sshtest sched/statepb/gen"

// TestRooms holds the walls of the house, docs/architecture.md: who may enter which room.
func TestRooms(t *testing.T) {
	rooms := listRooms(t)
	if len(rooms) < 10 {
		t.Fatalf("go list gave only %d packages", len(rooms))
	}
	for _, room := range slices.Sorted(maps.Keys(rooms)) {
		if room == "" || slices.Contains(strings.Fields(besideThePlan), room) ||
			strings.HasPrefix(room, "bench/") || strings.HasPrefix(room, "tests/") {
			continue
		}
		allowed := strings.Fields(mayEnter[room] + " " + openToAll)
		for _, dep := range rooms[room] {
			if !slices.Contains(allowed, dep) {
				t.Errorf("%s enters %s, which it may not: move what it needs below both, or change"+
					" the plan in tests/rooms and docs/architecture.md, with the reason", room,
					dep)
			}
		}
		wing, _, _ := strings.Cut(room, "/")
		for _, far := range strings.Fields(mayNotReach[wing]) {
			if way := wayTo(rooms, room, far); way != nil {
				t.Errorf("%s reaches %s, which it may not: %s", room, far, strings.Join(way, " → "))
			}
		}
	}
}

// TestFewFilesAtTheTop: whoever opens the house sees its doors, not a heap.
func TestFewFilesAtTheTop(t *testing.T) {
	files, err := filepath.Glob("../../*.go")
	if err != nil || len(files) == 0 || len(files) > 14 {
		t.Errorf("%d Go files at the top, %v: at most 14; the rest belongs into a room",
			len(files), err)
	}
}

// listRooms gives each package of the module, without the module's name, with those of the module
// that it imports itself.
func listRooms(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "jobserver/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			return rooms
		} else if err != nil {
			t.Fatal(err)
		}
		room := strings.TrimPrefix(strings.TrimPrefix(pkg.ImportPath, "jobserver"), "/")
		rooms[room] = nil
		for _, dep := range pkg.Imports {
			if dep == "jobserver" {
				t.Errorf("%s imports main", pkg.ImportPath)
			}
			if name, ok := strings.CutPrefix(dep, "jobserver/"); ok {
				rooms[room] = append(rooms[room], name)
			}
		}
	}
}

// wayTo is how a room reaches another one, nil when it doesn't.
func wayTo(rooms map[string][]string, from, to string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, dep := range rooms[queue[0]] {
			if _, seen := before[dep]; seen {
				continue
			}
			before[dep] = queue[0]
			if dep != to {
				queue = append(queue, dep)
				continue
			}
			var way []string
			for room := dep; room != ""; room = before[room] {
				way = append([]string{room}, way...)
			}
			return way
		}
	}
	return nil
}
