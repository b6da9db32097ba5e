//go:build linux

package daemon

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"jobserver/logging"
	"jobserver/sched"
)

// TestFirstTurnIsLogged: what the loop does before anybody follows its events is in the log too.
func TestFirstTurnIsLogged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var console bytes.Buffer
	log, err := logging.Open(logging.Options{StateDir: dir, Stdout: &console, Stderr: &console})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{o: Options{StateDir: dir, LogDir: dir + "/logs", Now: time.Now}, log: log}
	state, err := d.open(log.Logger("server"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.store.Close()
	if err := d.build(state); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.loop.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if _, _, err := d.loop.Do(ctx, "", false,
		func(st *sched.State, _ time.Time) (sched.Plan, error) {
			return st.PlanVar("FIRST", "of all", false, false)
		}); err != nil {
		t.Fatal(err)
	}
	cancel()
	running.Wait()
	d.logEvents(t.Context()) // to the end, as the loop has stopped
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	if text := console.String(); !strings.Contains(text, "FIRST was set") {
		t.Errorf("the log is\n%s", text)
	}
}
