package sched

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// says has Slurm say something of an allocation that has a node.
func (c *partition) says(id uint64, state string, left time.Duration) {
	c.t.Helper()
	must(c.t, c.report(Allocated{ID: id, Job: fmt.Sprint(1000 + id), State: state,
		Node: fmt.Sprintf("n%d", id), End: c.now.Add(left)}))
}

// TestSuspended: what Slurm keeps an allocation from is known before its agent is missed, and
// whatever is known of its link. It is given nothing, what runs there is shown to stand still and
// isn't ended for want of time, and goes on when the allocation does.
func TestSuspended(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]struct {
		reason    string
		suspended bool
	}{
		"SUSPENDED":     {"its allocation is suspended", true},
		"STOPPED":       {"its allocation is stopped", true},
		"COMPLETING":    {"its allocation is completing", false},
		"PENDING":       {"its allocation is pending", false},
		"SPECIAL_EXIT":  {"its allocation is special exit", false},
		"of the future": {"its allocation is of the future", false},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			c := newPartition(t, ProviderSpec{Time: ptr(time.Hour), Slots: ptr(2), Max: ptr(1)})
			job := c.jobs(1, JobSpec{})[0]
			id := c.asked()[0]
			addr := c.runs(id)
			c.begin()
			must(t, c.pass(10*time.Minute))
			c.says(id, state, 50*time.Minute)
			late := c.jobs(1, JobSpec{})[0]
			c.status(late, Waiting)
			if m, _ := c.s.Machine(addr); m.Link != LinkAway || m.Reason != want.reason ||
				!m.Since.Equal(c.now) {
				t.Errorf("the pilot is %s since %v: %s", m.Link, m.Since, m.Reason)
			}
			why, _ := c.s.Why(job, c.now)
			if !strings.Contains(strings.Join(why.Details, "\n"), want.reason) {
				t.Errorf("why it runs: %+v", why)
			}
			if why, _ := c.s.Why(late, c.now); !strings.Contains(strings.Join(why.Details, "\n"),
				addr+" is away: "+want.reason) {
				t.Errorf("why it waits: %+v", why)
			}
			if got := c.s.IsSuspended(c.s.Job(job)); got != want.suspended ||
				c.s.IsSuspended(c.s.Job(late)) {
				t.Errorf("it is suspended: %v", got)
			}
			// What its agent is heard of, or not, makes no difference; nor does its time.
			must(t, c.connect(addr))
			c.status(late, Waiting)
			must(t, c.report(Away{Addr: addr, Reason: "the agent gave no answer"}))
			must(t, c.report(Connecting{Addr: addr}))
			must(t, c.pass(2*time.Hour))
			for _, r := range c.running() {
				if r.Cancel {
					t.Error("it is canceled though its time stands still")
				}
			}
			// A daemon that is started again hears it of Slurm, before or after it dials.
			again, err := restored(nil, c.journal)
			must(t, err)
			again.Resume(newMemory())
			again.React(Connecting{Addr: addr}, c.now)
			again.React(Allocated{ID: id, Job: fmt.Sprint(1000 + id), State: state, Node: "n"},
				c.now)
			again.React(Connecting{Addr: addr}, c.now)
			if m, _ := again.Machine(addr); m.Link != LinkAway || m.Reason != want.reason {
				t.Errorf("after a restart, the pilot is %s: %s", m.Link, m.Reason)
			}
			c.says(id, "RUNNING", 50*time.Minute)
			c.status(late, Waiting) // until its agent is there again
			must(t, c.connect(addr))
			c.status(late, Running)
			if c.s.IsSuspended(c.s.Job(job)) {
				t.Error("it is suspended still")
			}
			c.finish()
			c.status(job, Done)
			c.status(late, Done)
		})
	}
}

// TestSuspendedShortly: an agent that is never missed goes on at once.
func TestSuspendedShortly(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Slots: ptr(2), Max: ptr(1)})
	first := c.jobs(1, JobSpec{})[0]
	id := c.asked()[0]
	addr := c.runs(id)
	c.begin()
	c.says(id, "SUSPENDED", time.Hour)
	second := c.jobs(1, JobSpec{})[0]
	c.status(second, Waiting)
	c.says(id, "RUNNING", time.Hour)
	c.status(second, Running)
	if m, _ := c.s.Machine(addr); m.Link != LinkConnected || m.Reason != "" {
		t.Errorf("the pilot is %s: %s", m.Link, m.Reason)
	}
	// One that has gone meanwhile is gone.
	c.says(id, "SUSPENDED", time.Hour)
	c.gone(id, "CANCELLED")
	for _, job := range []uint64{first, second} {
		if j := c.s.Job(job); j.Vanished != 1 || j.Status != Waiting ||
			last(j).Cause != statepb.Cause_MACHINE_LOST {
			t.Errorf("job %d is %v", job, j)
		}
	}
}

// TestNobodyAnswers: where no agent can be reached, three allocations are held, and no more.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	c := newPartition(t, ProviderSpec{Max: ptr(9), Backlog: ptr(9)})
	job := c.jobs(1, JobSpec{})[0]
	for i := range maxUnanswered {
		id := c.asked()[i]
		must(t, c.report(Away{Addr: c.starts(id), Reason: "no agent answered"}))
		must(t, c.pass(2*time.Minute))
	}
	if got := len(c.asked()); got != maxUnanswered {
		t.Errorf("%d allocations were asked for", got)
	}
	if why, _ := c.s.Why(job, c.now); !strings.Contains(strings.Join(why.Details, "\n"),
		"no agent answers in 3 allocations") || why.Hint == "" {
		t.Errorf("%+v", why)
	}
	must(t, c.connect(c.s.allocations[c.asked()[0]].addr()))
	c.status(job, Running)
	c.jobs(5, JobSpec{})
	if got := len(c.asked()); got <= maxUnanswered {
		t.Errorf("%d allocations were asked for when one had answered", got)
	}
}
