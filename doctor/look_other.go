//go:build !linux

package doctor

import "context"

// The daemon runs on Linux only: of other hosts there is nothing to look at.

// LookAtProcess knows nothing here.
func LookAtProcess(context.Context, int) Process { return Process{} }

// Words knows nothing here.
func Words(int) []string { return nil }

// LookAtClock knows nothing here.
func LookAtClock() ClockFacts { return ClockFacts{} }

// InotifyInstances knows nothing here.
func InotifyInstances() int { return 0 }

// LookAtService knows nothing here.
func LookAtService(context.Context, int) ServiceFacts { return ServiceFacts{} }
