package pool_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/api"
	"jobserver/notify"
	"jobserver/ssh/sshtest"
)

// A machine that goes away is announced, gives no job and loses none; the job that runs there is
// taken up again.
func TestAway(t *testing.T) {
	news, gate := pipe(t), pipe(t)
	p := newPool(t, "--away-timeout", "200ms", "--on", "machine-away=cat > "+news)
	m := p.machine("gpu1")
	p.J(t, "machine", "add", "gpu1", "foo")
	p.J(t, "add", "foo", "echo before; cat "+gate+"; echo after; exit 7")
	p.happens("job.started", 1)
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.KillSessions(); err != nil {
		t.Fatal(err)
	}
	// What was to be told before, as that it took a while to connect, may come first.
	heard := func(words string) (got notify.Message) {
		t.Helper()
		for !strings.Contains(got.Text, words) {
			b, err := os.ReadFile(news)
			if err == nil {
				got = notify.Message{}
				err = json.Unmarshal(b, &got)
			}
			if err != nil {
				t.Fatalf("%v: %q", err, b)
			}
		}
		return got
	}
	got := heard("machine gpu1 has been away")
	contains(t, got.Text, "1 job there")
	if got.Kind != notify.MachineAway {
		t.Errorf("the command got %+v", got)
	}
	if m := p.look("gpu1"); m.State != "away" || m.Since == nil || m.LastError == "" ||
		len(m.Running) != 1 {
		t.Errorf("the machine is %+v", m)
	}
	p.J(t, "add", "foo", "true")
	contains(t, p.J(t, "why", "2"), "job 2 is waiting", "gpu1 is away")
	contains(t, p.J(t, "why", "1"), "it runs on gpu1",
		"it goes on by itself when the machine is back", "job lost 1")
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	heard("machine gpu1 is back after")
	contains(t, p.J(t, "events", "--no-wait"), " machine.away ", " machine.back ")
	if err := os.WriteFile(gate, []byte("through the gate\n"), 0); err != nil {
		t.Fatal(err)
	}
	if _, _, code, err := p.Run(t.Context(), "wait", "1"); err != nil || code != 7 {
		t.Errorf("the job ended with %d, %v", code, err)
	}
	p.J(t, "wait", "2")
	if log := p.J(t, "log", "-c", "1"); log != "before\nthrough the gate\nafter\n" {
		t.Errorf("its log is %q", log)
	}
	if j := p.job(1); j.Attempt != 1 {
		t.Errorf("it took %d attempts", j.Attempt)
	}
}

// A cut that nobody is told of, healed before anybody notices: nothing is lost.
func TestCutAndHealed(t *testing.T) {
	gate := pipe(t)
	p := newPool(t)
	m := p.machine("behind")
	proxy := sshtest.NewProxy(t, fmt.Sprintf("%s:%d", m.Host, m.Port))
	key, err := os.ReadFile(m.HostKeyFile("ed25519") + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.client.Know(proxy.Host, proxy.Port, string(key)); err != nil {
		t.Fatal(err)
	}
	if err := p.client.AddHost("gpu1", m.User, proxy.Host, proxy.Port); err != nil {
		t.Fatal(err)
	}
	p.J(t, "machine", "add", "gpu1", "foo")
	p.J(t, "add", "foo", "cat "+gate+"; seq 1 20000")
	p.happens("job.started", 1)
	proxy.Cut()
	if err := os.WriteFile(gate, nil, 0); err != nil { // it ends while the network is cut
		t.Fatal(err)
	}
	p.J(t, "add", "foo", "true") // waits for the slot
	proxy.Heal()
	p.J(t, "wait", "1", "2")
	if log := p.J(t, "log", "-c", "1"); !strings.HasSuffix(log, "\n20000\n") ||
		strings.Count(log, "\n") != 20000 {
		t.Errorf("its log ends with %q", log[max(len(log)-20, 0):])
	}
	proxy.Reset() // this one is noticed
	p.J(t, "add", "foo", "true")
	p.J(t, "wait", "3")
}

// After a reboot jobs are lost, and run again where they may.
func TestReboot(t *testing.T) {
	p := newPool(t)
	m := p.machine("gpu1")
	p.J(t, "machine", "add", "gpu1", "foo", "--slots", "2")
	p.J(t, "add", "foo", "[ {ATTEMPT} = 2 ] || sleep 1000", "--max-failures", "1")
	p.J(t, "add", "foo", "sleep 1000")
	p.happens("job.started", 1, 2)
	m.reboot("second boot")
	p.J(t, "wait", "1")
	if _, _, code, err := p.Run(t.Context(), "wait", "2"); err != nil || code != 1 {
		t.Errorf("the lost job gives %d, %v", code, err)
	}
	if j := p.job(2); j.Status != "lost" {
		t.Errorf("job 2 is %s", j.Status)
	}
	contains(t, p.J(t, "why", "2"), "how it ended can't be known", "reboot")
	if j := p.job(1); j.Attempt != 2 || j.Failures != 0 {
		t.Errorf("job 1 took %d attempts, %d failures", j.Attempt, j.Failures)
	}
	if m := p.look("gpu1"); m.Class != "foo" || m.Failures != 0 {
		t.Errorf("the machine is %+v", m)
	}
}

// A machine that fails every job is suspect and rests, which is announced and said everywhere; no
// job is lost by it, and its standing is restored by hand.
func TestBroken(t *testing.T) {
	p := newPool(t)
	p.machine("gpu1")
	p.machine("gpu2").program("experiment", "echo no such device >&2; exit 3")
	p.J(t, "machine", "add", "gpu1", "gpu2", "foo")
	p.becomes("gpu1", connected)
	p.becomes("gpu2", connected)
	// The good one's first job waits until the other has failed its trial, too.
	gate, mark := pipe(t), filepath.Join(t.TempDir(), "first")
	p.J(t, "matrix", "add", "foo", "command -v experiment > /dev/null || { mkdir "+mark+
		" 2> /dev/null && read x < "+gate+"; exit 0; }; experiment {I}", t.TempDir(),
		"I=1..40", "--max-failures", "1")
	p.await("the machine to be suspect", func(e *api.Event) bool {
		return e.Kind == "machine.suspect" && e.Machine == "gpu2" &&
			strings.Contains(e.Text, "`jobserver machine resume -m gpu2`")
	})
	p.becomes("gpu2", func(m api.Machine) bool { return m.Failures == 5 && m.Resting })
	feed(t, gate, "go\n")
	p.J(t, "wait", "%1")
	m := p.look("gpu2")
	if m.Class != "foo" || m.State != "connected" {
		t.Errorf("the suspect is %+v", m)
	}
	contains(t, m.Hint, "it is suspect, as 5 jobs in a row failed there", "exited with code 3",
		"it is tried with one job at", "machine resume -m gpu2")
	contains(t, p.J(t, "status"), "held back", "gpu2 is suspect, as 5 jobs in a row failed there",
		"machine resume -m gpu2` ends that")
	contains(t, p.J(t, "machine", "ls"), "connected (resting)")
	contains(t, p.J(t, "matrix", "why", "1"), "40 done, 0 failed", "exited with code 3",
		"no such device", "machine gpu2 stands out")
	p.J(t, "machine", "resume", "gpu2")
	if m := p.look("gpu2"); m.Class != "foo" || m.Failures != 0 || m.LastError != "" || m.Resting ||
		m.Hint != "" {
		t.Errorf("after resume it is %+v", m)
	}
}

// Rows of the rule of blame, with real machines: everything that can run does, and no machine
// leaves its class.
func TestBlame(t *testing.T) {
	for name, test := range map[string]struct {
		machines int
		command  string
		jobs     string
		lost     int // of those that fail by themselves
	}{
		"a block of bad cells on one machine": {1, "test {I} -le 20 -o {I} -gt 40",
			"I=1..60", 20},
		"a block of bad cells behind a long one on two": {2,
			"test {I} -ne 20 || sleep 3; test {I} -le 20 -o {I} -gt 40", "I=1..60", 20},
		"every cell of the first value is bad, on two": {2, "test {V} != bad",
			"V=bad,good I=1..30", 30},
		"every second cell is bad, on three": {3, "test $(({I} % 2)) -eq 0", "I=1..60",
			30},
		"a block of bad cells in the middle, on six": {6, "test {I} -le 20 -o {I} -gt 40",
			"I=1..60", 20},
		"ten bad commands of the user's own, one machine": {1, "", "", 10},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t)
			add := []string{"machine", "add"}
			var addrs []string
			for i := range test.machines {
				addrs = append(addrs, fmt.Sprintf("local:m%d", i))
			}
			p.J(t, append(append(add, addrs...), "foo")...)
			for _, addr := range addrs {
				p.becomes(addr, connected)
			}
			selector, total := "%1", 60
			if test.command == "" {
				for i := range 10 {
					p.J(t, "add", "foo", fmt.Sprintf("grep nothing%d /etc/hostname", i))
				}
				p.J(t, "add", "foo", "true", "-x", "10")
				selector, total = "1..20", 20
			} else {
				p.J(t,
					append([]string{"matrix", "add", "foo", test.command, t.TempDir(),
						"--max-failures", "0"}, strings.Fields(test.jobs)...)...)
			}
			if _, _, code, err := p.Run(t.Context(), "wait", selector); err != nil || code != 1 {
				t.Errorf("they end with %d, %v", code, err)
			}
			contains(t, p.J(t, "why", selector),
				fmt.Sprintf("%d jobs: %d done, %d failed, 0 lost, 0 canceled, 0 to go", total,
					total-test.lost, test.lost))
			for _, addr := range addrs {
				if m := p.look(addr); m.Class != "foo" {
					t.Errorf("%s is in %s: %s", addr, m.Class, m.LastError)
				}
			}
		})
	}
}

// A matrix that can't succeed empties no class: it is held.
func TestBrokenMatrix(t *testing.T) {
	p := newPool(t)
	p.J(t, "machine", "add", "local:a", "local:b", "local:c", "foo")
	p.J(t, "matrix", "add", "foo", "exit 1", t.TempDir(), "I=1..100", "--max-failures", "1")
	p.await("the matrix to be held", func(e *api.Event) bool {
		return e.Kind == "matrix.held" && e.Matrix == 1
	})
	p.J(t, "add", "foo", "true", "-x", "9")
	p.J(t, "wait", "102..110")
	for _, addr := range []string{"local:a", "local:b", "local:c"} {
		if m := p.look(addr); m.Class != "foo" {
			t.Errorf("%s is in %s", addr, m.Class)
		}
	}
	undo := "matrix unhold 1`"
	contains(t, p.J(t, "matrix", "ls", "1"), "held", "it is tried with one cell at", undo)
	held := mustSelectOne(t, p, ":held")
	contains(t, p.J(t, "why", held), "its matrix 1 is held by the system",
		"it is tried with one cell at", undo)
	contains(t, p.J(t, "status"), "held back", "matrix 1 is held by the system", undo)
	// Who waits for it is told, and what ends it.
	_, told, code, err := p.Run(t.Context(), "wait", held, "--timeout", "4s")
	if err != nil || code != 124 {
		t.Errorf("the wait ends with %d, %v", code, err)
	}
	contains(t, told, "nothing runs", "held by the system", "it is tried with one cell at", undo)
}

// mustSelectOne gives the id of the first job that a selector selects.
func mustSelectOne(t *testing.T, p *pool, selector string) string {
	t.Helper()
	var reply api.ListJobsReply
	if err := p.api.Call(t.Context(), "ListJobs", &api.ListJobsArgs{Selectors: []string{selector}},
		&reply); err != nil || len(reply.Jobs) == 0 {
		t.Fatal(err, len(reply.Jobs))
	}
	return fmt.Sprint(reply.Jobs[0].JID)
}

func TestCheck(t *testing.T) {
	p := newPool(t)
	m := p.machine("gpu1")
	p.J(t, "machine", "add", "gpu1", "foo")
	out, errs, code, err := p.Run(t.Context(), "machine", "check", "gpu1", "local:here",
		"no.such.host.invalid", "-o", "json")
	if err != nil || code != 1 {
		t.Errorf("exit code %d, %v: %s", code, err, errs)
	}
	var checks []api.MachineCheck
	if err := json.Unmarshal([]byte(out), &checks); err != nil || len(checks) != 3 {
		t.Fatal(err, out)
	}
	for _, c := range checks {
		switch {
		case c.Addr == "no.such.host.invalid":
			if c.OK || !strings.Contains(c.Error, "no.such.host.invalid") || c.Hint == "" {
				t.Errorf("an unresolvable host: %+v", c)
			}
		case !c.OK || c.OS != "linux" || c.Arch == "" || c.Cores < 1 || c.MemoryBytes == 0 ||
			c.FreeBytes == 0 || c.LatencySeconds <= 0:
			t.Errorf("%+v", c)
		case c.Addr == "gpu1" && !strings.HasPrefix(c.Fingerprint, "SHA256:"):
			t.Errorf("no fingerprint: %+v", c)
		}
	}
	p.becomes(m.Name, connected)
	contains(t, p.J(t, "machine", "ls", "-o", "wide"), "gpu1", "linux", "GiB", " ms")
}
