package torture_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/api"
)

// goldenDir has state directories of whole daemons, as released versions left them when they were
// killed, with the runs of their local machine, and beside each what was known of its jobs. They
// are only added to.
const goldenDir = "testdata"

// remembered has what of a job must be the same in every later version.
type remembered struct {
	JID      uint64            `json:"jid"`
	Status   string            `json:"status"`
	Cmd      string            `json:"cmd"`
	Class    string            `json:"class"`
	Matrix   uint64            `json:"matrix,omitempty"`
	Vars     map[string]string `json:"vars,omitempty"`
	ExitCode int               `json:"exit_code"`
	Attempts []string          `json:"attempts"`
	Log      string            `json:"log"`
}

func (w *world) remembered() (all []remembered) {
	w.t.Helper()
	for _, j := range w.allJobs() {
		r := remembered{JID: j.JID, Status: j.Status, Cmd: j.Cmd, Class: j.Class, Matrix: j.Matrix,
			Vars: j.Vars}
		r.ExitCode, _ = j.ExitCode.Get()
		for _, a := range j.Attempts {
			r.Attempts = append(r.Attempts, a.Outcome)
			r.Log += read(w.t,
				filepath.Join(w.StateDir, "logs", filepath.Base(filepath.Dir(a.Log)),
					filepath.Base(a.Log)))
		}
		all = append(all, r)
	}
	return all
}

// TestGoldenDaemons starts daemons on states that older ones left behind, with jobs in all states;
// jobs that ran then have ended since, unseen, and are taken over.
func TestGoldenDaemons(t *testing.T) {
	t.Parallel()
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		makeGoldenDaemon(t, filepath.Join(goldenDir, "v1"))
	}
	dirs, err := filepath.Glob(filepath.Join(goldenDir, "v*.json"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("%d golden states, %v", len(dirs), err)
	}
	for _, file := range dirs {
		w := newWorld(t)
		w.stop()
		must(t, os.RemoveAll(w.StateDir))
		must(t, os.CopyFS(w.StateDir, os.DirFS(strings.TrimSuffix(file, ".json"))))
		w.check()
		w.start()
		var want []remembered
		must(t, json.Unmarshal([]byte(read(t, file)), &want))
		for _, r := range want {
			w.wait(r.JID)
		}
		if diff := cmp.Diff(want, w.remembered()); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
		eventually(t, "the older version's runs are forgotten", func() bool {
			runs, err := filepath.Glob(filepath.Join(w.StateDir, "local/runs/*/*/*"))
			return err == nil && len(runs) == 0
		})
		if next := w.submit(api.JobSpec{Cmd: "true"}); next <= want[len(want)-1].JID {
			t.Errorf("the id %d was given a second time", next)
		}
	}
}

// makeGoldenDaemon makes one.
func makeGoldenDaemon(t *testing.T, dir string) {
	w := newWorld(t)
	call[api.Empty](w, "AddMachines",
		&api.AddMachinesArgs{Addrs: []string{"local"}, Class: "x", Slots: 2})
	w.wait(w.submit(api.JobSpec{Cmd: "echo done"}))
	w.wait(w.submit(api.JobSpec{Cmd: "echo failed; exit 3"}))
	w.wait(w.submit(api.JobSpec{Cmd: "sleep 100", Timeout: 1e8}))
	canceled := w.submit(api.JobSpec{Class: "none", Cmd: "true"})
	w.change(api.OpCancel, canceled)
	m := call[api.AddMatrixReply](w, "AddMatrix", &api.AddMatrixArgs{Matrix: api.MatrixSpec{
		Job: api.JobSpec{Class: "x", Cmd: "echo {A} {B}"},
		Vars: []api.Axis{{Name: "A", Values: []string{"1", "2"}},
			{Name: "B", Values: []string{"x y", "z"}}}}})
	for i := range m.Cells {
		w.wait(m.FirstJID + uint64(i))
	}
	g := w.gate("golden")
	runs := []uint64{w.submit(api.JobSpec{Cmd: "echo before; " + g.wait() +
		"; echo after; exit 4"}), w.submit(api.JobSpec{Cmd: g.wait() + "; echo after"})}
	for _, id := range runs {
		w.running(id)
	}
	pattern := filepath.Join(w.StateDir, "local/runs/*/*/*/run")
	eventually(t, "all others are forgotten", func() bool {
		files, err := filepath.Glob(pattern)
		return err == nil && len(files) == len(runs)
	})
	w.kill()
	g.open(t)
	eventually(t, "both have ended", func() bool {
		files, err := filepath.Glob(pattern)
		for _, file := range files {
			if !strings.Contains(read(t, file), "jobserver exit ") {
				return false
			}
		}
		return err == nil
	})
	must(t, os.RemoveAll(dir))
	for _, name := range []string{"lock", "socket", "reserve", "server.log", "local/bin"} {
		must(t, os.RemoveAll(filepath.Join(w.StateDir, name)))
	}
	must(t, os.CopyFS(dir, os.DirFS(w.StateDir)))
	w.start()
	for _, id := range runs {
		w.wait(id)
	}
	all := w.remembered()
	slices.SortFunc(all, func(a, b remembered) int { return int(a.JID) - int(b.JID) })
	text, err := json.MarshalIndent(all, "", "  ")
	must(t, err)
	write(t, dir+".json", string(text)+"\n", 0o644)
}
