package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/sched"
	"jobserver/suggest"
)

// waitShare is for how long a wait that has news rests, in times of what its look took.
const waitShare = 9

// Wait waits until all jobs that the selectors match have ended, or something changed.
func (s *service) Wait(args *api.WaitArgs, reply *api.WaitReply) error {
	if len(args.Selectors) == 0 {
		return api.Errorf(api.Invalid, "no jobs are named").
			WithHint("name them, for example 17, last, %%93 or @nightly")
	}
	var took time.Duration
	look := func() error {
		*reply = api.WaitReply{}
		return s.read(func(st *sched.State) error {
			start := time.Now()
			defer func() { took = time.Since(start) }()
			return s.progress(st, args, reply)
		})
	}
	if err := checkUntil(args.Until); err != nil {
		return err
	}
	if err := look(); err != nil || reply.Done || reply.Stuck || args.Wait <= 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, min(args.Wait, maxWait))
	defer cancel()
	if args.Cursor != 0 && reply.Cursor != args.Cursor {
		// In a busy pool something has changed each time: who waits for thousands of jobs, and asks
		// again at once, would keep the loop busy with nothing else.
		select {
		case <-time.After(waitShare * took):
		case <-ctx.Done():
		}
		return nil
	}
	if _, _, _, err := s.Loop.Events().After(ctx, reply.Cursor, 1); err != nil {
		return wire.Error(err)
	}
	return look()
}

func (s *service) progress(st *sched.State, args *api.WaitArgs, reply *api.WaitReply) error {
	ids, err := selectJobs(st, args.Selectors)
	if err != nil {
		return err
	}
	counts := st.Count(ids)
	reply.Counts, reply.Total, reply.Cursor = wire.Counts(counts), len(ids), st.Changes()
	reply.Knows = true
	reply.Done = counts.Unfinished() == 0
	reply.Reached = len(ids) - counts.Unfinished()
	if args.Any || args.Until != "" {
		ids = s.partly(st, ids, args, reply)
	}
	if !reply.Done {
		reply.Left = leftOfJobs(st, ids, time.Now())
	}
	if counts.By[sched.Running]+counts.By[sched.Copying] == 0 {
		reply.Blocked = blocked(st, ids)
		reply.Stuck = !reply.Done && allBlocked(st, ids)
	}
	if len(ids) == 1 {
		j := wire.Job(st, s.About.LogDir, st.Job(ids[0]), false)
		reply.JID, reply.Error = ids[0], j.Error
		switch {
		case j.ResultsStatus == "failed":
			reply.Error = sched.Uncopied(st.Job(ids[0]))
		case j.Status == api.StatusDone && j.Unwanted():
			reply.Error = "the results that it named were not copied: no CP_PATH was given"
		case j.Status == "canceled" && j.Error == "":
			reply.Error = "was canceled"
		}
		if args.Until == "" {
			reply.ExitCode = wire.WaitCode(st.Job(ids[0]))
		}
		return nil
	}
	if args.Until != "" {
		return nil
	}
	bad := counts.By[sched.Failed] + counts.By[sched.Canceled] + counts.By[sched.Lost]
	if counts.Uncopied > 0 || bad > 0 && !allFine(st, ids) {
		reply.ExitCode = 1
	}
	return nil
}

// partly judges who waits for one of the jobs, or for another status than their end. What it gives
// is whom the reply is about: the one that has come to it first, or all.
func (s *service) partly(
	st *sched.State, ids []uint64, args *api.WaitArgs, reply *api.WaitReply,
) []uint64 {
	var first, lost uint64
	var at int64
	reply.Reached = 0
	never := 0
	for _, id := range ids {
		yes, no, since := reached(st, id, args.Until)
		switch {
		case yes:
			reply.Reached++
			if first == 0 || since < at {
				first, at = id, since
			}
		case no:
			never++
			lost = cmp.Or(lost, id)
		}
	}
	switch {
	case args.Any:
		reply.Done, reply.Never = reply.Reached > 0, reply.Reached == 0 && never == len(ids)
	default:
		reply.Done, reply.Never = reply.Reached == len(ids), never > 0
	}
	switch {
	case reply.Never:
		reply.JID, reply.Done = lost, true
		reply.Error = fmt.Sprintf("it is %s: it never will be %s",
			sched.StatusName(st.Status(lost)), args.Until)
		return nil
	case args.Any && reply.Done:
		return []uint64{first}
	}
	return ids
}

// untilPaused can be waited for, beside the statuses.
const untilPaused = "paused"

// checkUntil refuses what no job comes to be.
func checkUntil(until string) error {
	words := []string{"", untilPaused}
	for status := sched.Waiting; status <= sched.Lost; status++ {
		words = append(words, sched.StatusName(status))
	}
	if slices.Contains(words, until) {
		return nil
	}
	err := api.Errorf(api.Invalid, "%q is no status of a job", until)
	if near := suggest.Closest(until, words); near != "" {
		return err.WithHint("did you mean %s?", near)
	}
	return err.WithHint("it is one of %s", strings.Join(words[1:], ", "))
}

// reached says whether a job has come to what is waited for, or never will, and since when.
func reached(st *sched.State, id uint64, until string) (yes, never bool, since int64) {
	j := st.Job(id)
	status := j.Status
	final := sched.Final(status)
	started := int64(0)
	if n := len(j.Attempts); n > 0 {
		started = j.Attempts[n-1].StartedAt
	}
	switch until {
	case "":
		return final, false, j.EndedAt
	case untilPaused:
		return sched.PauseOf(j) == untilPaused, final || status == sched.Copying, started
	case "running":
		return started != 0, final && started == 0, started
	}
	return sched.StatusName(status) == until, final && sched.StatusName(status) != until, j.EndedAt
}

// allBlocked says that none of the jobs that haven't ended can start.
func allBlocked(st *sched.State, ids []uint64) bool {
	return !slices.ContainsFunc(ids, func(id uint64) bool {
		return !sched.Final(st.Status(id)) && st.CanMove(id)
	})
}

// allFine says that all jobs have succeeded, or were not needed.
func allFine(st *sched.State, ids []uint64) bool {
	for _, id := range ids {
		switch st.Status(id) {
		case sched.Failed, sched.Lost:
			return false
		case sched.Canceled:
			if !st.Job(id).Unneeded {
				return false
			}
		}
	}
	return true
}

// blocked says in one sentence why the first of the jobs that waits does, or "" when none does.
func blocked(st *sched.State, ids []uint64) string {
	for _, id := range ids {
		if status := st.Status(id); status != sched.Waiting && status != sched.Held {
			continue
		}
		why, err := st.Why(id, time.Now())
		if err != nil {
			return ""
		}
		words := []string{fmt.Sprintf("job %d: %s", id, why.Summary)}
		if len(why.Details) > 0 {
			words = append(words, why.Details[0])
		}
		if why.Hint != "" {
			words = append(words, why.Hint)
		}
		return strings.Join(words, "; ")
	}
	return ""
}
