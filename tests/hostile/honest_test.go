package hostile_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/daemontest"
)

// maxResident is what a daemon may take at most, whatever is done to it.
const maxResident = 150 << 20

// resident is the most memory that a process has had, in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value),
				"kB")))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("the process tells nothing of its memory")
	return 0
}

// honestDaemon is a daemon with two honest machines.
func honestDaemon(t *testing.T, args ...string) *daemontest.Daemon {
	t.Helper()
	d := daemontest.New(t, args...)
	d.J(t, "machine", "add", "local:a", "local:b", "good", "--slots", "4")
	return d
}

// honestJobs is how many jobs the honest machines have to do beside an attack.
const honestJobs = 200

// honest is what goes on beside an attack: the honest machines' jobs, and a client that has one job
// after another run until stop is called. All of them must end well, and the daemon take little
// memory.
func honest(t *testing.T, d *daemontest.Daemon) (stop func()) {
	t.Helper()
	d.J(t, "add", "good", "-x", fmt.Sprint(honestJobs), "echo $JOBSERVER_JID")
	client, err := d.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran, done := 0, make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := runOne(client); err != nil {
				done <- fmt.Errorf("after %d jobs: %w", ran, err)
				return
			}
			ran++
		}
		done <- nil
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the honest client: %v", err)
		}
		client.Close()
		wait, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if out, errs, code, err := d.Run(wait, "wait", "class=good"); err != nil || code != 0 {
			t.Errorf("the honest machines' jobs: code %d, %v\n%s%s", code, err, out, errs)
		}
		t.Logf("%d jobs ran one after another meanwhile", ran)
		if got := resident(t, d.PID()); got > maxResident {
			t.Errorf("the daemon took %d MiB", got>>20)
		} else {
			t.Logf("the daemon took %d MiB", got>>20)
		}
	}
}

// runOne has a job run to its end. All of it has a time, as nobody may be kept from it for long.
func runOne(client *api.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	added, err := api.Call[api.AddJobsReply](ctx, client, "AddJobs", &api.AddJobsArgs{
		Jobs: []api.JobSpec{{Class: "good", Cmd: "true", Priority: 1}}, // before the 200
	})
	if err != nil {
		return err
	}
	for {
		reply, err := api.Call[api.WaitReply](ctx, client, "Wait", &api.WaitArgs{
			Selectors: []string{fmt.Sprint(added.JIDs[0])}, Wait: 10 * time.Second,
		})
		if err != nil {
			return err
		}
		if reply.Done {
			if reply.ExitCode != 0 {
				return fmt.Errorf("job %d: exit code %d, %s", added.JIDs[0], reply.ExitCode,
					reply.Error)
			}
			return nil
		}
	}
}
