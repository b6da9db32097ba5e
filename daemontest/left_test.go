package daemontest

import (
	"path/filepath"
	"testing"
)

// TestNothingIsLeft: a run outlives its daemon, but not the test that began both.
func TestNothingIsLeft(t *testing.T) {
	var dir string
	t.Run("test", func(t *testing.T) {
		d := New(t)
		dir = filepath.Dir(d.StateDir)
		d.J(t, "machine", "add", "--slots", "2", "local:red", "x")
		d.J(t, "add", "x", "echo begun; sleep 600 & sleep 600", "-x", "2")
		d.J(t, "wait", "--status", "running", "1..2")
		if len(below(t, dir)) == 0 {
			t.Error("nothing runs")
		}
	})
	if left := below(t, dir); len(left) > 0 {
		t.Errorf("processes %v are left in %s", left, dir)
	}
}
