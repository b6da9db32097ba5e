package daemontest

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestStartBudget holds what the program does before its first line: every command pays for it, and
// so does every agent of a build without slim ones. Bytes and packages don't depend on the
// machine's load, as times do. The first version had 331,000, 90,000 of them for the records of the
// state, which grow with what it can hold: their descriptors are built when they are needed, and so
// are expressions compiled, which pays for the library that paints the terminal.
func TestStartBudget(t *testing.T) {
	const (
		packages = 153
		bytes    = 236_000 // of all but
		records  = "jobserver/sched/statepb"
		recorded = 50_000 // whose tables have some 400 for each kind of record
	)
	t.Cleanup(Cleanup)
	program, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	type start struct {
		name  string
		bytes int
	}
	var starts []start
	sum, state := 0, 0
	trace := regexp.MustCompile(`(?m)^init (\S+) .* (\d+) bytes`)
	for _, m := range trace.FindAllStringSubmatch(string(out), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		starts = append(starts, start{m[1], n})
		if m[1] == records {
			state = n
		} else {
			sum += n
		}
	}
	if len(starts) < 20 {
		t.Fatalf("only %d packages have been traced: %s", len(starts), out)
	}
	t.Logf("%d packages, %d bytes, and %d of the state's records", len(starts), sum, state)
	if state == 0 || state > recorded {
		t.Errorf("the state's records allocate %d bytes at each start, %d may be", state, recorded)
	}
	if len(starts) <= packages && sum <= bytes {
		return
	}
	slices.SortFunc(starts, func(a, b start) int { return b.bytes - a.bytes })
	var most strings.Builder
	for _, s := range starts[:15] {
		most.WriteString("\n\t" + s.name + " " + strconv.Itoa(s.bytes))
	}
	t.Errorf(
		"at each start %d packages are initialised, %d may be; they allocate %d bytes, %d may be. "+
			"Find a package that needs less, or do the work when it is first needed. Most have:%s",
		len(starts),
		packages,
		sum,
		bytes,
		most.String(),
	)
}
