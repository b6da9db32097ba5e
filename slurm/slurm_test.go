package slurm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

func TestNames(t *testing.T) {
	for _, server := range []string{"a", "a-1", "A_b-C"} {
		for _, n := range []uint64{0, 1, 1 << 63} {
			name := Name(server, n)
			if got, ok := ParseName(server, name); !ok || got != n {
				t.Errorf("%q is %d, %v", name, got, ok)
			}
			if _, ok := ParseName(server+"x", name); ok {
				t.Errorf("%q is another server's, too", name)
			}
		}
	}
	for _, name := range []string{"", "js-a-", "js-a-x", "js-a-01", "js-a--1", "js-a-1-1",
		"js-a-+1",
		"js-a-18446744073709551616", "xjs-a-1", "js-a-1 "} {
		if _, ok := ParseName("a", name); ok {
			t.Errorf("%q is a name of ours", name)
		}
	}
}

func TestCheckArg(t *testing.T) {
	for _, arg := range []string{
		"--gres=gpu:1", "--mem=64G", "--account=ml", "--qos=high", "--constraint=a100&nvlink",
		"--cpus-per-task=8", "-c8", "-Aml", "--exclusive", "--exclusive=user", "--nodes=2",
		"--export=NONE", "--nodelist=n[1-3]", "--time-min=10", "--reservation=x", "--exclude=n1",
		"--comment=two words", "--begin=now+1hour", "--wckey=x", "--gpus=2", "--no-kill",
	} {
		if err := CheckArg(arg); err != nil {
			t.Errorf("%s: %v", arg, err)
		}
	}
	for _, arg := range []string{
		"", "-", "--", "x", "--=x", "--job-name=x", "--job=x", "-Jx", "--array=1-3", "--arr=1",
		"-a1",
		"--requeue", "--req", "--no-requeue", "--time=5", "--ti=5", "-t5", "--output=x", "--out=x",
		"-ox", "--error=x", "--err=x", "-N2", "--nodes=0", "--nodes=1-2", "--nodes", "--node=2",
		"--no=2", "--partition=x", "-px", "--hold", "-H", "--wrap=x", "--signal=USR1@60",
		"--parsable",
		"--account", "--mem 5", "-c", "-c\n8", "--x=\ny", "--x=\x00", "--export-file=x", "--é=1",
		"--wait", "--test-only", "--help", "-h", "--clusters=x", "-Mx", "--uid=5", "script.sh",
	} {
		err := CheckArg(arg)
		var refused *ArgError
		if !errors.As(err, &refused) || refused.Hint() == "" {
			t.Errorf("%q: %v", arg, err)
		}
	}
	for _, name := range []string{"", "-x", "a b", "a/b", "a,b", "$x", "ä"} {
		if err := CheckPartition(name); err == nil {
			t.Errorf("%q is a partition", name)
		}
	}
	if err := CheckPartition("gpu_a100-2.x"); err != nil {
		t.Error(err)
	}
	if got := Nodes([]string{"--mem=5", "--nodes=3"}); got != 3 {
		t.Errorf("%d nodes", got)
	}
}

// TestExpand: lists of nodes are written out as `scontrol show hostnames` does.
func TestExpand(t *testing.T) {
	for list, want := range map[string]string{
		"n1":                 "n1",
		"n1,n2":              "n1 n2",
		"n[1-3]":             "n1 n2 n3",
		"n[08-11,20],login":  "n08 n09 n10 n11 n20 login",
		"r[1-2]n[1-2]":       "r1n1 r1n2 r2n1 r2n2",
		"gpu-[1,3]-ib.x.org": "gpu-1-ib.x.org gpu-3-ib.x.org",
		"":                   "",
		"n[1-3":              "",
		"n1]":                "",
		"n[3-1]":             "",
		"n[x]":               "",
		"n[1-2000]":          "",
		"a[1-100]b[1-100]":   "",
		"n1,,n2":             "",
		"n;1":                "",
		"(null)":             "",
	} {
		if got := strings.Join(expand(list), " "); got != want {
			t.Errorf("%q is %q, not %q", list, got, want)
		}
	}
}

// TestStates: what isn't known holds, and nothing is gone by mistake.
func TestStates(t *testing.T) {
	for state, want := range map[string]Kind{
		"PENDING": Waits, "CONFIGURING": Waits, "RUNNING": Runs,
		"SUSPENDED": Holds, "COMPLETING": Holds, "STOPPED": Holds, "REQUEUED": Holds,
		"REVOKED": Holds, "RESIZING": Holds, "SIGNALING": Holds, "": Holds, "completed": Holds,
		"COMPLETED": Gone, "CANCELLED": Gone, "TIMEOUT": Gone, "DEADLINE": Gone, "PREEMPTED": Gone,
		"FAILED": Gone, "OUT_OF_MEMORY": Gone, "BOOT_FAIL": Gone, Unknown: Gone, NotSubmitted: Gone,
		"NODE_FAIL": Unsure,
	} {
		if got := KindOf(state); got != want || Final(state) != (want == Gone || want == Unsure) {
			t.Errorf("%q is of kind %d", state, got)
		}
		if GoneText(state) == "" && state != "" {
			t.Errorf("no words for %q", state)
		}
	}
	for reason, want := range map[string]string{
		"Priority": hintWait, "Resources": hintWait, "PartitionTimeLimit": hintTime,
		"ReqNodeNotAvail, UnavailableNodes:n1": hintReserved, "AssocGrpGRES": hintLimits,
		"QOSMaxWallDurationPerJobLimit": hintTime, "QOSMaxGRESPerUser": hintLimits,
		"JobHeldAdmin": hintSite, "launch failed requeued held": hintSite,
		"PartitionDown": hintPartition, "BadConstraints": hintArguments,
		"Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority " +
			"partitions": hintNodes,
		"Job's account not permitted to use this partition (gpu allows ml not x)": hintAccount,
		"InvalidAccount": hintAccount, "InvalidQOS": hintAccount, "SomethingNew": "", "": "",
	} {
		if got := ReasonHint(reason); got != want {
			t.Errorf("%q: %q", reason, got)
		}
	}
}

func TestReadAnswer(t *testing.T) {
	const job = "jobserver-out jobserver-job|5|js-s-7|"
	said := "Welcome!\r\njobserver-now 1000\nmotd without an end" + "\n" +
		job + "RUNNING|n1|2000|3000|1000|n[1-2]|None\r\n" +
		"jobserver-job|6|js-s-8|RUNNING|n1|1|1|1|n1|not of a command of ours\n" +
		job + "PENDING|n/a|N/A|N/A|1000||a|b, c\n" +
		"jobserver-out jobserver-job|5|other|RUNNING|n1|2000|3000|1000|n1|None\n" +
		"jobserver-out jobserver-job|x|js-s-7|RUNNING|n1|2000|3000|1000|n1|None\n" +
		"jobserver-out a word\njobserver-end list 0\n" +
		"jobserver-out squeue: error: slurm_load_jobs error: Invalid job id specified\n" +
		"jobserver-end 9 1\njobserver-out no end\njobserver-end x\n"
	got := ReadAnswer(said, func(name string) bool { return name == "js-s-7" })
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	want := Answer{
		Now: at(1000),
		Jobs: []Job{
			{ID: "5", Name: "js-s-7", State: "RUNNING", Node: "n1", Nodes: []string{"n1", "n2"},
				Start: at(2000), End: at(3000), Submitted: at(1000)},
			{ID: "5", Name: "js-s-7", State: "PENDING", Reason: "a|b, c", Submitted: at(1000)},
		},
		Others: map[string]bool{"5": true},
		Ends: map[string]End{
			"list": {Said: "jobserver-job|x|js-s-7|RUNNING|n1|2000|3000|1000|n1|None\na word"},
			"9": {Code: 1,
				Said: "squeue: error: slurm_load_jobs error: Invalid job id specified"},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !got.Unknown("9") || got.Unknown("5") || got.Unknown("7") {
		t.Error("who is unknown")
	}
	if words := got.Ends["9"].Words(); words != "Invalid job id specified" {
		t.Errorf("the words are %q", words)
	}
}

func TestSubmitted(t *testing.T) {
	for _, c := range []struct {
		said       string
		code       int
		id         string
		unanswered bool
	}{
		{"7", 0, "7", true},
		{"7;cluster", 0, "7", true},
		{"Your quota is 5 TB\nsbatch: lua: welcome\n7", 0, "7", true},
		{"", 0, "", true},
		{"7\n8", 0, "", true},
		{"7", 1, "", false},
		{"sbatch: error: Batch job submission failed: Invalid account", 1, "", false},
		{"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", 1,
			"",
			true},
		{"sbatch: error: Batch job submission failed: Unable to contact slurm controller " +
			"(connect " +
			"failure)", 1, "", true},
		{"sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", 124, "",
			true},
		{"sh: 5: sbatch: not found", 127, "", true},
		{"Killed", 137, "", true},
		{"sbatch: unrecognized option '--x'", 255, "", false},
	} {
		a := Answer{Ends: map[string]End{"submit": {Code: c.code, Said: c.said}}}
		id, ok := a.Submitted()
		if id != c.id || ok != (c.id != "") || a.Unanswered() != c.unanswered {
			t.Errorf("%q, %d: %q, %v, unanswered %v", c.said, c.code, id, ok, a.Unanswered())
		}
	}
	if _, ok := (Answer{}).Submitted(); ok || !(Answer{}).Unanswered() {
		t.Error("no answer is one")
	}
}

func TestWords(t *testing.T) {
	r := Request{Name: "js-s-7", Partition: "gpu", Time: 61 * time.Second, Nodes: 1,
		Exclude: []string{"n1", "n2"}, Args: []string{"--comment=it's", "--exclude=n3"}}
	want := `sbatch '--comment=it'\''s' --exclude='n1,n2,n3' --parsable --no-requeue ` +
		`--output=/dev/null --error=/dev/null --nodes=1 --time=2 --partition='gpu' --job-name='js-s-7'`
	if got := r.words(); got != want {
		t.Errorf("the words are %s", got)
	}
	if !strings.Contains(Request{Args: []string{"--nodes=3"}}.words(), "--nodes=3 --time=1 ") {
		t.Error("three nodes are asked for, and a minute at least")
	}
}

// FuzzReadAnswer: whatever a login prints, only jobs of ours are read, and only what Slurm said of
// them.
func FuzzReadAnswer(f *testing.F) {
	f.Add("jobserver-now 5\njobserver-out jobserver-job|5|js-s-7|RUNNING|n1|2000|3000|" +
		"1000|n[01-10]|None\n" +
		"jobserver-end list 0\n")
	f.Add("jobserver-out jobserver-job||||||||\njobserver-end  \n\x00jobserver-out")
	f.Fuzz(func(t *testing.T, said string) {
		defer budget.Hold(t, 1<<20+64*len(said))()
		a := ReadAnswer(said, func(name string) bool {
			_, ok := ParseName("s", name)
			return ok
		})
		for _, j := range a.Jobs {
			if _, ok := ParseName("s", j.Name); !ok || !isNumber(j.ID) || j.State == "" ||
				!strings.Contains(said, "|"+j.Name+"|") {
				t.Errorf("%+v", j)
			}
			if a.Unknown(j.ID) || !a.Answered(j.ID) {
				t.Errorf("job %s is listed and unknown", j.ID)
			}
		}
		if id, ok := a.Submitted(); ok && !isNumber(id) {
			t.Errorf("submitted %q", id)
		}
		for _, j := range a.Jobs {
			if len(j.Nodes) > MaxNodes {
				t.Errorf("%d nodes", len(j.Nodes))
			}
		}
		for _, e := range a.Ends {
			if strings.Contains(e.Words(), "\n") {
				t.Errorf("%q has two lines", e.Words())
			}
		}
	})
}
