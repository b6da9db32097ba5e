package report

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the processor time of the thread that asks.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0 // there is no such system
	}
	return time.Duration(t.Nano())
}
