//go:build !linux

package report

import "time"

var started = time.Now()

// threadTime is the time of the clock: that of a thread isn't told here.
func threadTime() time.Duration { return time.Since(started) }
