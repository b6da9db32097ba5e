package pool_test

import (
	"fmt"
	"strings"
	"testing"

	"jobserver/api"
)

// A night: 500 jobs over six machines, of which one fails each job at once and one lets each hang.
// Every job that can succeed does, and no machine is set aside that is well.
func TestNight(t *testing.T) {
	p := newPool(t)
	for i := 1; i <= 6; i++ {
		p.machine(fmt.Sprintf("gpu%d", i))
	}
	for i := 1; i <= 6; i++ {
		p.J(t, "machine", "add", fmt.Sprintf("gpu%d", i), "foo", "--slots", "2")
	}
	p.J(t, "matrix", "add", "foo", "case {MACHINE} in gpu2) echo no such device >&2; exit 3;; "+
		"gpu5) sleep 1000;; esac; test {I} -ne 13", t.TempDir(),
		"I=1..50", "-x", "10", "--timeout", "3s", "--max-failures", "3")
	_, _, code, err := p.Run(t.Context(), "wait", "%1")
	if err != nil || code != 1 {
		t.Errorf("the matrix ends with %d, %v", code, err)
	}
	why := p.J(t, "matrix", "why", "1")
	contains(t, why, "500 jobs: 490 done, 10 failed, 0 lost, 0 canceled, 0 to go", "no such device",
		"timed out", "I=13 stands out")
	for i := 1; i <= 6; i++ {
		addr := fmt.Sprintf("gpu%d", i)
		m := p.look(addr)
		// It is over before a verdict is carried out, which takes a minute and another trial.
		if m.Class != "foo" || i == 2 && m.Failures < 4 {
			t.Errorf("%s is in class %s with %d failures: %s", addr, m.Class, m.Failures,
				m.LastError)
		}
	}
	var failed []uint64
	for jid := uint64(2); jid <= 501; jid++ {
		if p.status(jid) == "failed" {
			failed = append(failed, jid)
		}
	}
	for _, jid := range failed {
		if j := p.job(jid); j.Vars["I"] != "13" {
			t.Errorf("job %d, which can succeed, has failed: %s", jid, j.Error)
		}
	}
	if t.Failed() {
		t.Log(why, strings.Join(strings.Fields(fmt.Sprint(failed)), " "))
	}
}

// status is a job's status, by the connection that is there.
func (p *pool) status(jid uint64) string {
	p.t.Helper()
	var reply api.ListJobsReply
	if err := p.api.Call(p.t.Context(), "ListJobs",
		&api.ListJobsArgs{Selectors: []string{fmt.Sprint(jid)}}, &reply); err != nil ||
		len(reply.Jobs) != 1 {
		p.t.Fatal(err, len(reply.Jobs))
	}
	return reply.Jobs[0].Status
}
