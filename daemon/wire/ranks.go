package wire

import (
	"time"

	"jobserver/api"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// ranks are the machines of an attempt that has several.
func ranks(logDir string, j *statepb.Job, a *statepb.Attempt) []api.Rank {
	var out []api.Rank
	for i, r := range a.Ranks {
		one := api.Rank{
			Machine: r.Machine, Slot: int(r.Slot), Slots: slotsOf(r), With: r.With,
			Outcome: outcomeName(r.Cause), ExitCode: exitCodeOf(r), Signal: r.Signal,
			Error:     r.Error,
			First:     int(a.First) == i+1 && r.Cause != statepb.Cause_CANCELED_BY_USER,
			StartedAt: timeOf(r.StartedAt), EndedAt: timeOf(r.EndedAt),
			DurationSeconds: time.Duration(r.Duration).Seconds(),
			CPUSeconds:      time.Duration(r.UserCpu + r.SystemCpu).Seconds(),
			MaxRSSBytes:     r.MaxRss, Given: grants(r.Given), ResultsError: r.CopyError,
		}
		if r.Copy != statepb.Results_RESULTS_NONE {
			one.ResultsStatus = resultsName(r.Copy)
		}
		switch {
		case r.Idle && r.Cause == statepb.Cause_CAUSE_NONE:
			one.Outcome = "held"
		case !r.Idle:
			run := &statepb.RunRef{Job: j.Id, Attempt: a.Number, Rank: r.Rank}
			one.Log = sched.LogPath(logDir, run, false)
			one.ErrLog = sched.LogPath(logDir, run, true)
		}
		if r.Rank > 0 {
			one.Rank = api.Some(int(r.Rank) - 1)
		}
		out = append(out, one)
	}
	return out
}

// machines are the addresses of an attempt's machines, when it has several.
func machines(a *statepb.Attempt) (addrs []string) {
	for _, r := range a.Ranks {
		addrs = append(addrs, r.Machine)
	}
	return addrs
}

func slotsOf(a *statepb.Attempt) (slots []int) {
	for _, slot := range a.Given.GetSlots() {
		slots = append(slots, int(slot))
	}
	return slots
}

// logRef names the run whose log stands for an attempt's: its first rank's.
func logRef(j *statepb.Job, a *statepb.Attempt) *statepb.RunRef {
	r := &statepb.RunRef{Job: j.Id, Attempt: a.Number, Step: a.Step}
	if len(a.Ranks) > 0 {
		r.Rank = a.Ranks[0].Rank
	}
	return r
}
