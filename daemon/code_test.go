//go:build linux

package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/fleet"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// TestTidyCode removes what no job names, and not what is young.
func TestTidyCode(t *testing.T) {
	st := sched.NewState()
	plan, err := st.PlanJobs([]sched.JobSpec{{Class: "x", Cmd: "true",
		Code: &statepb.Code{Hash: "named", Diff: "difference"}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range plan.Changes {
		if err := st.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	state := t.TempDir()
	k := &codeKeeper{
		stateDir: state, log: slog.New(slog.DiscardHandler), now: func() time.Time { return noon },
		read: func(_ context.Context, f func(*sched.State)) error { f(st); return nil },
	}
	if err := k.tidy(t.Context()); err != nil {
		t.Errorf("without any code: %v", err)
	}
	dir := filepath.Dir(fleet.CodeArchive(state, ""))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, age := range map[string]time.Duration{
		fleet.CodeArchive(state, "named"):     1000 * time.Hour,
		fleet.CodeDiff(state, "difference"):   1000 * time.Hour,
		fleet.CodeArchive(state, "forgotten"): 25 * time.Hour,
		fleet.CodeDiff(state, "lost"):         25 * time.Hour,
		fleet.CodeArchive(state, "young"):     23 * time.Hour,
		filepath.Join(dir, ".part-left"):      25 * time.Hour,
		filepath.Join(dir, ".part-coming"):    time.Minute,
	} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, noon.Add(-age), noon.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff(".part-coming difference.diff named.tar.gz young.tar.gz",
		strings.Join(left, " ")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
