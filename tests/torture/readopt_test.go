package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"jobserver/api"
)

// gate is a pipe at which a job waits, from which each that may pass reads a line.
type gate struct {
	path string
	pipe *os.File // reading and writing: a job that opens it doesn't wait for that
}

func (w *world) gate(name string) gate {
	w.t.Helper()
	g := gate{path: filepath.Join(w.dir, "gate-"+name)}
	must(w.t, syscall.Mkfifo(g.path, 0o600))
	var err error
	g.pipe, err = os.OpenFile(g.path, os.O_RDWR, 0)
	must(w.t, err)
	w.t.Cleanup(func() { g.pipe.Close() })
	return g
}

// wait has a job wait at the gate.
func (g gate) wait() string { return "read passed < " + g.path }

// open lets a thousand jobs pass, those too that come later.
func (g gate) open(t testing.TB) {
	t.Helper()
	_, err := g.pipe.WriteString(strings.Repeat("\n", 1000))
	must(t, err)
}

// marked lets a command add its attempt to the ledger first.
func (w *world) marked(cmd string) string {
	return fmt.Sprintf("echo $JOBSERVER_JID.$JOBSERVER_ATTEMPT >> %s; %s", w.ledger, cmd)
}

// began counts how often an attempt began.
func (w *world) began(jid uint64, attempt int) int {
	n := 0
	for line := range strings.Lines(read(w.t, w.ledger)) {
		if strings.TrimSpace(line) == fmt.Sprintf("%d.%d", jid, attempt) {
			n++
		}
	}
	return n
}

// ended checks how a job has ended, and that each of its attempts ran as often as it says.
func (w *world) ended(jid uint64, status string, outcomes ...string) *api.Job {
	w.t.Helper()
	j := w.wait(jid)
	var got []string
	for _, a := range j.Attempts {
		got = append(got, a.Outcome)
		if n := w.began(jid, a.Attempt); n > 1 || n != 1 && a.Outcome == "exited" {
			w.t.Errorf("attempt %d of job %d (%s) ran %d times", a.Attempt, jid, a.Outcome, n)
		}
	}
	if j.Status != status || strings.Join(got, ",") != strings.Join(outcomes, ",") {
		w.t.Errorf("job %d is %s with the attempts %q, want %s with %q: %s", jid, j.Status, got,
			status, outcomes, j.Error)
	}
	return j
}

// TestReadopted breaks the way to machines in all ways while a job runs on each. Every job runs on,
// once, and not a byte of its log is missing.
func TestReadopted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	patient := "JOBSERVER_INSTEAD=keepalive=3s"
	if long() {
		patient = "JOBSERVER_INSTEAD=nothing"
	}
	w.restart(patient)
	g := w.gate("end")
	w.add()
	w.add(inNamespace)
	for range 3 {
		w.add()
	}
	var ids []uint64
	for range w.machines {
		ids = append(ids,
			w.submit(api.JobSpec{Cmd: w.marked("seq 1 20000; " + g.wait() +
				"; seq 20001 40000; echo $JOBSERVER_ATTEMPT >&2; exit 5")}))
	}
	for _, id := range ids {
		w.running(id)
	}
	killed, cut, stopped, restarted, reset := w.machines[0], w.machines[1], w.machines[2],
		w.machines[3], w.machines[4]
	cut.network.Cut()
	must(t, stopped.Pause())
	reset.network.Reset()
	_, err := killed.KillSessions()
	must(t, err)
	must(t, restarted.Stop())
	w.link(restarted, "away")
	must(t, restarted.up())
	for _, m := range []*machine{killed, reset, restarted} {
		w.link(m, "connected")
	}
	for _, m := range []*machine{cut, stopped} {
		w.link(m, "away") // only keepalive tells
	}
	cut.network.Heal()
	must(t, stopped.Resume())
	must(t, syscall.Kill(w.PID(), syscall.SIGSTOP))
	time.Sleep(500 * time.Millisecond)
	must(t, syscall.Kill(w.PID(), syscall.SIGCONT))
	cut.network.Cut()
	w.restart(patient) // which machine is away, it has to find out anew
	g.open(t)          // the job on the machine that is cut off ends unseen
	w.ended(ids[0], "failed", "exited")
	cut.network.Heal()
	var want strings.Builder
	for i := range 40000 {
		fmt.Fprintln(&want, i+1)
	}
	for _, id := range ids {
		j := w.ended(id, "failed", "exited")
		if code, _ := j.ExitCode.Get(); code != 5 {
			t.Errorf("job %d exited with %d", id, code)
		}
		if read(t, j.Log) != want.String() || read(t, j.ErrLog) != "1\n" {
			t.Errorf("the log of job %d is not what it printed", id)
		}
	}
}

// TestStartThenDeath kills the daemon between each two steps of a run's life, and the agent after
// it has launched the command.
func TestStartThenDeath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(withSSH(envOption("JOBSERVER_FAILPOINT=agent.claimed:2")))
	for _, place := range []string{
		"fleet.start-due", "fleet.start-answered", "fleet.log-appended", "fleet.run-ended",
		"fleet.run-forgotten",
		"fleet.results-gathered", "fleet.results-renamed", "fleet.results-placed",
	} {
		w.restart("JOBSERVER_FAILPOINT=" + place + ":1")
		id := w.submit(api.JobSpec{Cmd: w.marked("echo out > $JOBSERVER_SCRATCH/res; echo " +
			"RESULTS: $JOBSERVER_SCRATCH/res"), CpPath: w.results})
		w.dies()
		w.start()
		j := w.ended(id, "done", "exited")
		if j.ResultsStatus != "copied" || read(t, filepath.Join(j.ResultsDir, "res")) != "out\n" {
			t.Errorf("after %s the results are %s: %s", place, j.ResultsStatus, j.ResultsError)
		}
	}
	// The agent dies at its second start; what it has just claimed is taken up by the next one.
	first := w.submit(api.JobSpec{Cmd: w.marked("true")})
	second := w.submit(api.JobSpec{Cmd: w.marked("true")})
	third := w.submit(api.JobSpec{Cmd: w.marked("true")})
	for _, id := range []uint64{first, second, third} {
		w.ended(id, "done", "exited")
	}

	other := w.add(withSSH(envOption("JOBSERVER_FAILPOINT=agent.launched:1")))
	call[api.ChangeMachinesReply](w, "ChangeMachines", &api.ChangeMachinesArgs{
		Op: api.MachineMove, Class: "y",
		MachineSelector: api.MachineSelector{Addrs: []string{other.alias}}})
	w.ended(w.submit(api.JobSpec{Class: "y", Cmd: w.marked("sleep 0.1; echo")}), "done", "exited")
	w.cleanEnd()
}

// TestRecordsRemoved: a job that removes or damages its run's directory runs once, wherever the
// daemon is killed meanwhile, and is told of; it keeps its machine from nothing.
func TestRecordsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add()
	const dir = `d=$(dirname "$JOBSERVER_SCRATCH"); `
	all := []struct{ place, harm string }{
		{"fleet.start-answered", `rm -rf "$d"`},
		{"fleet.start-answered", `: > "$d/run"`},
		{"fleet.start-answered", `rm -rf "$d"; mkdir -p "$d/scratch"`},
		{"fleet.start-answered", `rm "$d/run"`},
		{"fleet.start-due", `rm -rf "$d"`},
		{"fleet.run-ended", `rm -rf "$d"`},
		{"fleet.run-forgotten", `rm -rf "$d"`},
	}
	for _, tt := range all[:scaled(t, 2, int64(len(all)))] {
		w.restart("JOBSERVER_FAILPOINT=" + tt.place + ":1")
		id := w.submit(api.JobSpec{Cmd: w.marked(dir + tt.harm)})
		w.dies()
		w.start()
		if w.wait(id); w.began(id, 1) > 1 {
			t.Errorf("a job that does %s ran %d times, as the daemon died at %s", tt.harm,
				w.began(id, 1), tt.place)
		}
	}
	w.ended(w.submit(api.JobSpec{Cmd: w.marked("true")}), "done", "exited")
	w.cleanEnd()
}

// TestReboot: what ran on a machine that rebooted, after a crash or in order, is lost, and said to
// be; the machine is free again, and a job that may retry runs again. Then the machine is reimaged
// between a start and its answer.
func TestReboot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.add(canReboot, slots(2))
	for why, goDown := range map[string]func(testing.TB){"rebooted": m.crash,
		"shut down": m.shutDown} {
		g := w.gate(why[:4])
		gone := w.submit(api.JobSpec{Cmd: w.marked("echo before; " + g.wait())})
		again := w.submit(api.JobSpec{Cmd: w.marked(g.wait()), MaxFailures: -1})
		w.running(gone)
		w.running(again)
		eventually(t, "both are at the gate", func() bool {
			return w.began(again, 1) == 1 && read(t, w.job(gone).Log) == "before\n"
		})
		goDown(t)
		m.boots(t, fmt.Sprintf("22222222-2222-4222-8222-%012d", gone))
		must(t, m.up())
		j := w.ended(gone, "lost", "lost")
		if !strings.Contains(j.Error, why) || read(t, j.Log) != "before\n" {
			t.Errorf("the reason is %q, want %q; it printed %q", j.Error, why, read(t, j.Log))
		}
		g.open(t)
		w.ended(again, "done", "lost", "exited")
		w.ended(w.submit(api.JobSpec{Cmd: w.marked("true")}), "done", "exited")
	}

	shut := w.gate("reimaged")
	w.restart("JOBSERVER_FAILPOINT=fleet.start-answered:1")
	id := w.submit(api.JobSpec{Cmd: w.marked(shut.wait()), MaxFailures: -1})
	w.dies()
	eventually(t, "the job runs", func() bool { return w.began(id, 1) == 1 })
	m.crash(t)
	must(t, os.RemoveAll(filepath.Join(m.Home, ".local")))
	m.boots(t, "33333333-3333-4333-8333-333333333333")
	must(t, m.up())
	w.start()
	shut.open(t)
	w.ended(id, "done", "lost", "exited")
	w.cleanEnd()
}

// stubborn is a tree of processes that changed session, double forked, ignore SIGTERM and start
// each other again.
func stubborn(pids string) string {
	return fmt.Sprintf(`trap '' TERM
(setsid sh -c 'trap "" TERM; echo $$ >> %[1]s; while :; do sleep 1000; done' &)
setsid setsid sh -c 'trap "" TERM; echo $$ >> %[1]s; while :; do sleep 1000; done' &
(sh -c '(trap "" TERM; echo $$ >> %[1]s; while :; do sleep 1000; done) &')
echo $$ >> %[1]s
while :; do sleep 1000; done`, pids)
}

// TestTreesEnd: cancel and timeout end the whole tree, also when they fall due while the machine is
// away.
func TestTreesEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ids []uint64
	pids := filepath.Join(w.dir, "pids")
	for range 3 {
		w.add()
	}
	for _, timeout := range []time.Duration{0, 0, 4 * time.Second} {
		ids = append(ids, w.submit(api.JobSpec{Cmd: w.marked(stubborn(pids)), Timeout: timeout}))
	}
	for _, id := range ids {
		w.running(id)
	}
	eventually(t, "the trees have grown", func() bool {
		return strings.Count(read(t, pids), "\n") == 12
	})
	var away []*machine // those that the second and the third job run on
	for _, m := range w.machines {
		if m.alias != w.job(ids[0]).Machine {
			away = append(away, m)
			must(t, m.Stop())
		}
	}
	w.change(api.OpCancel, ids[0])
	w.change(api.OpCancel, ids[1])
	w.restart() // the cancels are obligations
	eventually(t, "the third job's time is up", func() bool {
		for _, m := range away {
			for _, dir := range m.runs(t) {
				if strings.Contains(read(t, filepath.Join(dir, "run")), "timed out") {
					return true
				}
			}
		}
		return false
	})
	for _, m := range away {
		must(t, m.up())
	}
	w.ended(ids[0], "canceled", "canceled")
	w.ended(ids[1], "canceled", "canceled")
	w.ended(ids[2], "failed", "timed out")
	for _, pid := range strings.Fields(read(t, pids)) {
		if _, err := os.Stat("/proc/" + pid + "/exe"); err == nil {
			t.Errorf("process %s of a tree is alive", pid)
		}
	}
	w.cleanEnd()
}

// TestOrphans: a run that a daemon doesn't know, as its state is another, is listed, holds on, and
// ends by `machine clean` alone.
func TestOrphans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.add()
	shut := w.gate("never")
	id := w.submit(api.JobSpec{Cmd: w.marked(shut.wait())})
	w.running(id)
	w.stop()
	kept := w.StateDir + ".kept"
	must(t, os.Rename(w.StateDir, kept))
	must(t, os.Mkdir(w.StateDir, 0o700))
	write(t, filepath.Join(w.StateDir, "server-id"), read(t, filepath.Join(kept, "server-id")),
		0o600)
	w.start()
	call[api.Empty](w, "AddMachines", &api.AddMachinesArgs{Addrs: []string{m.alias}, Class: "x"})
	w.link(m, "connected")
	if orphans := w.machine(m).Orphans; len(orphans) != 1 {
		t.Fatalf("the orphans are %q", orphans)
	}
	cleaned := call[api.ChangeMachinesReply](w, "ChangeMachines", &api.ChangeMachinesArgs{
		Op: api.MachineClean, MachineSelector: api.MachineSelector{Addrs: []string{m.alias}}})
	if len(cleaned.Notes) != 1 || !strings.Contains(cleaned.Notes[0], "1 run ended") {
		t.Fatalf("it was not cleaned: %q", cleaned.Notes)
	}
	w.cleanEnd()
}

// TestCutOff: the daemon dies while the network is cut, so that the machine never hears of it. Its
// agent doesn't wait for ever.
func TestCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.add(inNamespace, withSSH(envOption("JOBSERVER_INSTEAD=silence=3s")))
	eventually(t, "an agent is there", func() bool { return len(m.ours(t, false)) > 0 })
	m.network.Cut()
	w.kill()
	eventually(t, "the agent has ended", func() bool { return len(m.ours(t, true)) == 0 })
	m.network.Heal()
}
