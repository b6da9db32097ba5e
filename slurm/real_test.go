package slurm_test

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"jobserver/slurm"
	"jobserver/slurm/slurmtest"
)

// login runs scripts on this host, as the fleet does.
type login struct {
	*slurmtest.Cluster
	t *testing.T
}

func (l login) run(script string) slurm.Answer {
	l.t.Helper()
	cmd := exec.Command("sh", "-c", slurm.Shell)
	cmd.Stdin = strings.NewReader(script)
	// What would hide the jobs, and send them elsewhere.
	cmd.Env = append(append(os.Environ(), l.Env()...), "SQUEUE_PARTITION=other",
		"SQUEUE_ACCOUNT=other", "SQUEUE_STATES=failed", "SQUEUE_FORMAT=%i", "SCANCEL_STATE=FAILED",
		"SCANCEL_INTERACTIVE=1", "SBATCH_PARTITION=short", "SBATCH_TIMELIMIT=5",
		"SBATCH_JOB_NAME=other", "SLURM_CLUSTERS=other", "SLURM_TIME_FORMAT=relative")
	out, err := cmd.Output()
	if err != nil {
		l.t.Error(err)
	}
	return slurm.ReadAnswer(string(out), func(name string) bool {
		_, ok := slurm.ParseName("s-1", name)
		return ok
	})
}

// TestOneAllocation submits, finds and cancels an allocation with the real commands, in an
// environment that upsets them.
func TestOneAllocation(t *testing.T) {
	l := login{slurmtest.Start(t, slurmtest.Nodes(1), slurmtest.Partition("short", "MaxTime=1"),
		slurmtest.Config("EnforcePartLimits=ALL")), t}
	r := slurm.Request{Name: slurm.Name("s-1", 7), Partition: "test", Time: 90 * time.Second,
		Args: []string{"--comment=it's a \"test\" $HOME"}, Script: "#!/bin/sh\nexec sleep 1000"}
	if a := l.run(slurm.TestOnly(r)); a.Ends["submit"].Code != 0 {
		t.Fatalf("the test of it answers %q", a.Ends["submit"].Said)
	}
	if a := l.run(slurm.List()); len(a.Jobs) != 0 || a.Ends["list"].Code != 0 {
		t.Fatalf("the test of it left %+v", a)
	}
	submitted := l.run(slurm.Submit(r))
	id, ok := submitted.Submitted()
	if !ok {
		t.Fatalf("sbatch answered %+v", submitted)
	}
	var j slurm.Job
	for j.State != "RUNNING" {
		a := l.run(slurm.List())
		if len(a.Jobs) != 1 || slurm.Final(a.Jobs[0].State) {
			t.Fatalf("squeue lists %+v", a)
		}
		j = a.Jobs[0]
		if d := a.Now.Sub(j.Submitted); d < -time.Minute || d > time.Hour {
			t.Errorf("it was submitted %v before now", d)
		}
	}
	if j.ID != id || j.Name != r.Name || j.Node != "n1" || j.Reason != "" ||
		j.End.Sub(j.Start) != 2*time.Minute {
		t.Errorf("squeue lists %+v", j)
	}
	if out, err := l.Run("scontrol", "show", "job", id); err != nil ||
		!strings.Contains(out, "Comment=it's a \"test\" $HOME") {
		t.Errorf("scontrol shows %s, %v", out, err)
	}
	a := l.run(slurm.Look([]string{id, "999"}))
	if len(a.Jobs) != 1 || a.Jobs[0].ID != j.ID || a.Unknown(id) || !a.Unknown("999") {
		t.Errorf("a look at two finds %+v", a)
	}
	if a := l.run(slurm.CancelJob(id, slurm.Name("other", 7))); a.Ends[id].Code != 0 {
		t.Errorf("canceling one of another name answers %+v", a)
	}
	if a := l.run(slurm.List()); len(a.Jobs) != 1 || slurm.KindOf(a.Jobs[0].State) != slurm.Runs {
		t.Errorf("after canceling one of another name there are %+v", a.Jobs)
	}
	for range 2 {
		if a := l.run(slurm.Cancel([]string{r.Name, slurm.Name("s-1", 8)})); len(a.Ends) != 2 {
			t.Errorf("canceling answers %+v", a)
		}
	}
	for !slurm.Final(j.State) {
		a := l.run(slurm.List())
		if len(a.Jobs) != 1 || slurm.KindOf(a.Jobs[0].State) == slurm.Runs {
			t.Fatalf("after canceling there are %+v", a)
		}
		j = a.Jobs[0]
	}
	if j.State != "CANCELLED" {
		t.Errorf("in the end it is %s", j.State)
	}
	refusals(t, l, r)
	silence(t, l, r)
}

// refusals are answers of the controller's that say that there is no such allocation.
func refusals(t *testing.T, l login, good slurm.Request) {
	for words, change := range map[string]func(*slurm.Request){
		"Invalid partition name":          func(r *slurm.Request) { r.Partition = "other" },
		"Requested time limit is invalid": func(r *slurm.Request) { r.Partition = "short" },
		"Invalid generic resource": func(r *slurm.Request) {
			r.Args = []string{"--gres=gpu:1"}
		},
		"Invalid feature specification": func(r *slurm.Request) {
			r.Args = []string{"-Cother"}
		},
		"More processors requested": func(r *slurm.Request) {
			r.Args = []string{"-c100"}
		},
		"unrecognized option": func(r *slurm.Request) {
			r.Args = []string{"--x=5"}
		},
		"node configuration is not available": func(r *slurm.Request) {
			r.Exclude = []string{"n1"}
		},
		"Memory specification can not be satis": func(r *slurm.Request) {
			r.Args = []string{"--mem=64T"}
		},
	} {
		r := good
		r.Name, r.Time = slurm.Name("s-1", 9), time.Hour
		change(&r)
		a := l.run(slurm.Submit(r))
		if _, ok := a.Submitted(); ok || a.Unanswered() ||
			!strings.Contains(a.Ends["submit"].Words(), words) {
			t.Errorf("instead of %q sbatch answered %+v", words, a)
		}
	}
}

// silence is when the controller gives no answer.
func silence(t *testing.T, l login, r slurm.Request) {
	if err := l.Controller.Kill(); err != nil {
		t.Fatal(err)
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	asked.Go(func() {
		a := l.run(slurm.Submit(r))
		if _, ok := a.Submitted(); ok || !a.Unanswered() {
			t.Errorf("without a controller sbatch answered %+v", a)
		}
	})
	asked.Go(func() {
		if a := l.run(slurm.Look([]string{"1"})); a.Unknown("1") {
			t.Errorf("without a controller the job is unknown: %+v", a)
		}
	})
	asked.Go(func() {
		if a := l.run(slurm.List()); a.Ends["list"].Code == 0 {
			t.Errorf("without a controller the list is %+v", a)
		}
	})
}
