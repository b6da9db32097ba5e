//go:build !failpoints

package failpoint

import "time"

// Variables are none.
func Variables() []string { return nil }

// Hit does nothing.
func Hit(place string) {}

// Breaks is false.
func Breaks(promise string) bool { return false }

// File is the usual one.
func File(what, usual string) string { return usual }

// Duration is the usual one.
func Duration(what string, usual time.Duration) time.Duration { return usual }

// Pause does nothing.
func Pause() {}
