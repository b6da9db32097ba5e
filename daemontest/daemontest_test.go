package daemontest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestStartLeavesNothing: a daemon that doesn't answer in time is not left behind.
func TestStartLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	silent := filepath.Join(dir, "silent")
	if err := os.WriteFile(silent, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Binary: silent, StateDir: filepath.Join(dir, "state")}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Start(impatient); err == nil {
		t.Fatal("Start succeeded")
	}
	select {
	case <-d.Ended():
	default:
		t.Error("the process lives on")
		if err := d.Kill(); err != nil {
			t.Error(err)
		}
	}
}
