package torture_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"jobserver/api"
)

// longIdle is how long a slot may be free beside a job that could run in it.
const longIdle = 10 * time.Second

// crowd is a pool of many local machines, what it is given to do, and who watches it.
type crowd struct {
	*world
	addrs []string
	jobs  int
	// since when a machine has had a free slot beside a job that it could run
	idle   map[string]time.Time
	looks  int
	killed int
	moved  int
}

// scripts is what the jobs do, by their number; what isn't here exits 0. Those that are rarer come
// with more jobs: a machine whose supervisors die is tried less and less often.
const scripts = `
d=$(dirname "$JOBSERVER_SCRATCH")
echo "$JOBSERVER_JID.$JOBSERVER_ATTEMPT" >> %[1]s
case $((JOBSERVER_JID %% 50)) in
0) [ $JOBSERVER_ATTEMPT -gt 1 ] || exit 3;;
1) exit 4;;
2) mkdir -p "$JOBSERVER_SCRATCH/a/b"; chmod 0 "$JOBSERVER_SCRATCH/a";;
3) (env -i setsid sleep 1000 &);;
4) echo x > "$JOBSERVER_SCRATCH/r"; echo "RESULTS: $JOBSERVER_SCRATCH/r";;
5) sleep 1;;
esac
case $((JOBSERVER_JID %% 2000)) in
555) [ $JOBSERVER_ATTEMPT -gt 1 ] || rm -rf "$d"; sleep 1;;
777) [ $JOBSERVER_ATTEMPT -gt 1 ] || kill -KILL $PPID; sleep 1;;
esac
exit 0
`

// TestNothingWaits has a pool of many machines run a matrix of very many jobs, which fail, are
// tried again, lose their supervisors and directories, and leave what can't be removed at once,
// while machines leave and come back and the daemon is killed. All the while no job waits beside
// a slot that it could have, and in the end nothing holds what isn't used, and every attempt has
// run once.
func TestNothingWaits(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	c := &crowd{
		world: newWorld(t),
		idle:  map[string]time.Time{},
	}
	for i := range int(scaled(t, 6, 300)) {
		c.addrs = append(c.addrs, fmt.Sprintf("local:n%d", i))
	}
	c.join(c.addrs...)
	inputs := api.Axis{Name: "INPUT"}
	for i := range int(scaled(t, 270, 50_000)) {
		inputs.Values = append(inputs.Values, strconv.Itoa(i))
	}
	c.jobs = call[api.AddMatrixReply](c.world, "AddMatrix", &api.AddMatrixArgs{
		Matrix: api.MatrixSpec{Vars: []api.Axis{inputs}, Job: api.JobSpec{
			Class:       "many",
			Cmd:         fmt.Sprintf(scripts, c.ledger) + "# {INPUT}",
			Repeat:      3,
			MaxFailures: 1,
			CpPath:      c.results,
		}},
	}).Cells
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	every := time.Duration(scaled(t, 3, 7)) * time.Second
	disturbed := time.Now()
	for end := time.Now().Add(10 * patience()); ; <-tick.C {
		left := c.look()
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d jobs have not ended:\n%s", left, c.J(t, "job", "ls", "-n", "20"))
		}
		if time.Since(disturbed) >= every { // a look may take longer than a second
			c.disturb(rng)
			disturbed = time.Now()
		}
	}
	c.verify()
	count(t, c.jobs, "jobs in a pool in which nothing waits")
	t.Logf("%d looks, %d kills, %d machines removed", c.looks, c.killed, c.moved)
}

// join adds machines.
func (c *crowd) join(addrs ...string) {
	c.t.Helper()
	call[api.Empty](
		c.world,
		"AddMachines",
		&api.AddMachinesArgs{Addrs: addrs, Class: "many", Slots: 2},
	)
}

// disturb kills the daemon, or removes a machine and adds it again.
func (c *crowd) disturb(rng *rand.Rand) {
	c.t.Helper()
	if rng.IntN(2) == 0 {
		c.kill()
		c.start()
		c.killed++
		return
	}
	addr := c.addrs[rng.IntN(len(c.addrs))]
	call[api.ChangeMachinesReply](c.world, "ChangeMachines", &api.ChangeMachinesArgs{
		Op: api.MachineRemove, MachineSelector: api.MachineSelector{Addrs: []string{addr}}})
	c.join(addr)
	c.moved++
}

// look checks that nothing waits that could run, and gives how many jobs haven't ended.
func (c *crowd) look() int {
	c.t.Helper()
	c.looks++
	status := call[api.Status](c.world, "Status", &api.Empty{})
	machines := call[api.ListMachinesReply](c.world, "ListMachines",
		&api.ListMachinesArgs{}).Machines
	ending := map[string]bool{}
	for _, m := range machines {
		ending[m.Addr] = m.Ending > 0
	}
	now, runnable := time.Now(), []string{}
	waiting, err := try[api.ListJobsReply](c.world, "ListJobs", &api.ListJobsArgs{
		Selectors: []string{"status=waiting"}, Limit: 1000, Light: true})
	switch {
	case err == nil:
		for _, job := range waiting.Jobs {
			// A job that is tried again waits until what lives of its attempt before has ended.
			if (job.NotBefore == nil || job.NotBefore.Before(now)) &&
				(job.Attempt == 0 || !ending[job.Machine]) {
				runnable = append(runnable, fmt.Sprint(job.JID))
			}
		}
	case api.KindOf(err) != api.NoMatch:
		c.t.Fatal(err)
	}
	for _, m := range machines {
		free := m.Slots - len(m.Running) - m.Ending - m.OrphanCount
		if m.State != "connected" || m.Draining || m.Verdict != "" || free <= 0 ||
			len(runnable) == 0 {
			delete(c.idle, m.Addr)
			continue
		}
		since, known := c.idle[m.Addr]
		if !known {
			c.idle[m.Addr] = now
		} else if now.Sub(since) > longIdle {
			c.t.Errorf(
				"%s has %d free slots since %v, and %d jobs wait:\n%s%s",
				m.Addr,
				free,
				now.Sub(since),
				len(runnable),
				c.J(c.t, "why", runnable[0]),
				c.J(c.t, "machine", "ls"),
			)
			delete(c.idle, m.Addr)
		}
	}
	return status.Jobs.Unfinished()
}

// verify checks the ledger, and that nothing is held.
func (c *crowd) verify() {
	c.t.Helper()
	ran := map[string]int{}
	for _, line := range strings.Fields(read(c.t, c.ledger)) {
		if ran[line]++; ran[line] > 1 {
			c.t.Errorf("attempt %s ran %d times", line, ran[line])
		}
	}
	kept := 0 // for a recopy: their machine was removed while they were copied
	for _, job := range c.allJobs() {
		if job.ResultsStatus == "failed" {
			kept++
		}
		bad := job.JID%50 == 1
		if want := map[bool]string{false: "done", true: "failed"}[bad]; job.Status != want {
			c.t.Errorf("job %d is %s, not %s: %s", job.JID, job.Status, want, job.Error)
		}
		if ran[strconv.FormatUint(job.JID, 10)+"."+strconv.Itoa(job.Attempt)] != 1 {
			c.t.Errorf(
				"attempt %d of job %d, which is %s, has not run",
				job.Attempt,
				job.JID,
				job.Status,
			)
		}
	}
	eventually(c.t, "nothing is held any more", func() bool {
		for _, m := range call[api.ListMachinesReply](c.world, "ListMachines",
			&api.ListMachinesArgs{}).Machines {
			if len(m.Running)+m.Ending+m.OrphanCount+len(m.Unremoved) > 0 {
				return false
			}
		}
		return true
	})
	runs := filepath.Join(c.StateDir, "local", "runs")
	eventually(c.t, "no other run is left", func() bool {
		left, err := filepath.Glob(filepath.Join(runs, "*", "*", "*"))
		return err == nil && len(left) == kept
	})
	if left := c.escaped(runs); len(left) > 0 {
		c.t.Errorf("processes %v live", left)
	}
	c.stop()
	c.check()
}

// escaped lists processes that stand in a directory of runs.
func (c *crowd) escaped(runs string) (pids []string) {
	c.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	must(c.t, err)
	for _, file := range all {
		env, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(env), "JOBSERVER_SCRATCH="+runs) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
