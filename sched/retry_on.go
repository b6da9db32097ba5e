package sched

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jobserver/sched/statepb"
)

// Which failures are tried again: exit=75, signal=9, oom, timeout, lost. It never touches what
// could not be started.

// OutOfMemory begins the error of an attempt that was ended since it had used up its memory.
const OutOfMemory = "out of memory"

// parseFailures checks the words of --retry-on, and writes them in one way.
func parseFailures(words []string) ([]string, error) {
	var out []string
	for _, word := range words {
		name, value, hasValue := strings.Cut(strings.ToLower(strings.TrimSpace(word)), "=")
		n, err := strconv.Atoi(value)
		switch {
		case name == "exit" && hasValue && err == nil && n > 0 && n < 256:
		case name == "signal" && hasValue:
			signal := signalOf(value)
			if signal == 0 {
				return nil, errorf(Invalid, "%q names no signal", word).
					hint("write signal=9 or signal=KILL")
			}
			value = strings.TrimPrefix(signalName(signal), "SIG")
		case (name == "oom" || name == "timeout" || name == "lost") && !hasValue:
		default:
			return nil, errorf(Invalid, "%q is no kind of failure", word).
				hint("write exit=N (1 to 255), signal=N, oom, timeout or lost, with commas " +
					"between them")
		}
		if hasValue {
			name += "=" + value
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, nil
}

// signalOf is the signal that a number or a name, with or without SIG, stands for; 0: none.
func signalOf(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		n = int(unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")))
	}
	if signalName(n) == "" {
		return 0
	}
	return n
}

// signalName names a signal: SIGKILL for 9.
func signalName(n int) string { return unix.SignalName(unix.Signal(n)) }

// failureWords name how an attempt ended.
func failureWords(a *statepb.Attempt) []string {
	switch {
	case a.Cause == statepb.Cause_MACHINE_LOST:
		return []string{"lost"}
	case a.Cause == statepb.Cause_TIMED_OUT:
		return []string{"timeout"}
	case a.Signal != "":
		words := []string{"signal=" + strings.TrimPrefix(a.Signal, "SIG")}
		if strings.HasPrefix(a.Error, OutOfMemory) {
			words = append(words, "oom")
		}
		return words
	}
	return []string{"exit=" + strconv.Itoa(int(a.ExitCode))}
}

// triesAgain says whether a failure is one of those that are tried again.
func triesAgain(j *statepb.Job, a *statepb.Attempt) bool {
	words := failureWords(a)
	in := func(list []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(list, w) })
	}
	return !in(j.NoRetryOn) && (len(j.RetryOn) == 0 || in(j.RetryOn))
}

// losesAgain says the same of an attempt that was lost: today's rule counts unless it is named.
func losesAgain(j *statepb.Job, otherwise bool) bool {
	switch {
	case slices.Contains(j.NoRetryOn, "lost"):
		return false
	case slices.Contains(j.RetryOn, "lost"):
		return true
	}
	return otherwise
}
