//go:build linux

package daemon

import "jobserver/fleet"

// CheckDriver says why this host can't run a program as a driver; nil when it can.
func CheckDriver(program string) error { return fleet.CheckProgram(program) }
