//go:build !failpoints

package failpoint

// Hit does nothing.
func Hit(place string) {}

// Breaks is false.
func Breaks(promise string) bool { return false }

// Pause does nothing.
func Pause() {}
