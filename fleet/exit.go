package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// result is an exit record as sched keeps it. Texts of the job are made valid UTF-8, as the records
// require; the log has them byte for byte.
func (r *run) result(x *agent.Exit, note string) *statepb.Attempt {
	cause, known := causes[x.Cause]
	if !known {
		cause = statepb.Cause_EXITED // whatever a newer supervisor calls it
	}
	return &statepb.Attempt{
		Number:           r.ref.Attempt,
		Machine:          r.ref.Machine,
		Token:            r.ref.Token,
		Step:             r.ref.Step,
		Driver:           r.ref.Driver,
		BootId:           plain(x.BootID),
		MachineStartedAt: unixNano(x.StartedAt),
		MachineEndedAt:   unixNano(x.EndedAt),
		Duration:         int64(x.Duration),
		PausedFor:        int64(x.Paused),
		Cause:            cause,
		ExitCode:         int32(x.Code),
		Signal:           plain(x.SignalName),
		UserCpu:          int64(x.UserCPU),
		SystemCpu:        int64(x.SystemCPU),
		MaxRss:           x.MaxRSS,
		OutLen:           x.OutLen - r.out.excess,
		ErrLen:           x.ErrLen - r.err.excess,
		OutCrc:           kept(&r.out, x.OutCRC),
		ErrCrc:           kept(&r.err, x.ErrCRC),
		Dropped:          x.OutDropped + x.ErrDropped + r.out.excess + r.err.excess,
		Results:          validUTF8(r.results),
		ResultsRaw:       raw(r.results),
		Overlooked:       plain(r.secrets().Redact(x.Overlooked)),
		Measurements:     validUTF8(r.measurements),
		Error:            r.complaints(x, note),
	}
}

var causes = map[agent.Cause]statepb.Cause{
	agent.Exited:     statepb.Cause_EXITED,
	agent.Canceled:   statepb.Cause_CANCELED_BY_USER,
	agent.TimedOut:   statepb.Cause_TIMED_OUT,
	agent.NotStarted: statepb.Cause_NOT_STARTED,
}

// complaints collects what went wrong around a run, besides how it ended.
func (r *run) complaints(x *agent.Exit, note string) string {
	var all []string
	if x.StartError != "" {
		all = append(all, x.StartError)
	}
	if x.OOM {
		all = append(all, outOfMemory(r.spec))
	}
	if x.LogError != "" {
		all = append(all, "the machine could not keep all of the log: "+x.LogError)
	}
	if lines := x.MarksDropped + int64(r.unmarked); lines > 0 {
		all = append(all, fmt.Sprintf("%d RESULTS or METRIC lines were too much to keep", lines))
	}
	if note != "" {
		all = append(all, "the log is not what the machine recorded: "+note)
	}
	return plain(strings.Join(all, "; "))
}

// outOfMemory says which limit a run has come to, where that is known.
func outOfMemory(spec *sched.Run) string {
	if spec == nil || spec.Memory <= 0 {
		return sched.OutOfMemory
	}
	return sched.OutOfMemory + ": it had used up mem=" + sched.AmountText(spec.Memory, true)
}

// validUTF8 are texts as records have them.
func validUTF8(all []string) []string {
	var valid []string
	for _, s := range all {
		valid = append(valid, strings.ToValidUTF8(s, "\uFFFD"))
	}
	return valid
}

// raw are texts byte for byte, nil if they are UTF-8 anyway.
func raw(all []string) (bytes [][]byte) {
	if !slices.ContainsFunc(all, func(s string) bool { return !utf8.ValidString(s) }) {
		return nil
	}
	for _, s := range all {
		bytes = append(bytes, []byte(s))
	}
	return bytes
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// kept is the checksum of what is kept of a log: the machine's, unless some of that was too much.
func kept(log *logFile, sum uint32) uint32 {
	if log.excess > 0 {
		return log.crc
	}
	return sum
}
