// Package budget holds fuzz targets to an amount of memory: no input may become much more of it
// than it is long, whatever else is right about what is made of it.
package budget

import (
	"flag"
	"runtime"
	"testing"
)

// Hold begins to count what this process allocates, and the function that it returns ends that: the
// test fails if it is more than most bytes. A target says so in its first line, in proportion to
// its input:
//
//	defer budget.Hold(t, 1<<20+64*len(p))()
//
// What is allocated is more than what is held at a time, so that a limit on it is one on that. It
// is only judged while fuzzing, by a process that does nothing else: among other tests, what they
// have left running allocates, too.
func Hold(t testing.TB, most int) (end func()) {
	t.Helper()
	if worker := flag.Lookup("test.fuzzworker"); worker == nil || worker.Value.String() != "true" {
		return func() {}
	}
	return hold(t, most)
}

func hold(t testing.TB, most int) (end func()) {
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	return func() {
		t.Helper()
		var after runtime.MemStats
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(most) {
			t.Errorf("it allocated %d bytes, and %d are its budget", took, most)
		}
	}
}
