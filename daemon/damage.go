package daemon

import (
	"fmt"

	"jobserver/snapshot"
)

// DamageIn describes what is wrong inside a file whose name has been said.
func DamageIn(e *snapshot.CorruptError) string {
	if e.Offset < 0 {
		return e.Reason
	}
	return fmt.Sprintf("offset %d: %s", e.Offset, e.Reason)
}

// DamageHint says what can be done about a state that can't be read.
func DamageHint(dir string) string {
	return fmt.Sprintf("put back a copy of %s, or start with --allow-snap-fail, which sets what "+
		"is there aside and begins empty", dir)
}
