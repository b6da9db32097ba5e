package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"jobserver/ssh"
)

// measureManyMachines is line 14: machines that are not connected yet, and a command on each. The
// scheduler with 1 and with 500 machines is compared by its own benchmark.
func measureManyMachines(ctx context.Context, w *world) (rows []row, err error) {
	machines, err := w.crowd(ctx, crowdSize)
	if err != nil {
		return nil, err
	}
	err = w.withDaemon(ctx, func(d *daemon) error {
		// it knows the configuration after the first turn, as the daemon does
		dialer := ssh.NewDialer(ssh.Options{ConfigFile: w.user.ConfigFile})
		runs, err := inTurn(ctx, 5,
			func() (time.Duration, error) { return d.oneOnEach(ctx, machines) },
			func() (time.Duration, error) {
				_, took, err := output(ctx,
					append([]string{"parallel", "--will-cite", "--ssh", "ssh -F " + w.fresh, "-j1",
						"-S", "1/" + strings.Join(machines, ",1/"), "true", ":::"},
						numbers(len(machines))...)...)
				return took, err
			},
			func() (time.Duration, error) { return connectAll(ctx, dialer, machines) })
		if err != nil {
			return err
		}
		r := row{name: "14a",
			what:    fmt.Sprintf("connect to %d machines, one command on each", len(machines)),
			ourCmd:  "j machine setup -q -m c0 … c99 -c x -- true; j wait …",
			peerCmd: "seq 100 | parallel --ssh 'ssh -F fresh' -j1 -S 1/c0,…,1/c99 true"}
		r.note = floorNote("the same connections and `true` by itself on each, without an agent",
			runs[2], runs[1].over(runs[2]))
		rows = append(rows, r.faster(runs[0], runs[1], 3))
		return nil
	})
	if err != nil {
		return nil, err
	}
	simulated, err := measureDispatch(ctx)
	return append(rows, simulated), err
}

func numbers(n int) []string {
	words := make([]string, n)
	for i := range words {
		words[i] = strconv.Itoa(i + 1)
	}
	return words
}

// oneOnEach sets up machines that the daemon isn't connected to, with one command, and removes them
// again.
func (d *daemon) oneOnEach(ctx context.Context, machines []string) (time.Duration, error) {
	start := time.Now()
	out, _, err := d.j(ctx,
		append(append([]string{"machine", "setup", "-q", "-c", "x", "-m"}, machines...), "--",
			"true")...)
	if err != nil {
		return 0, err
	}
	ids := strings.Fields(out)
	if _, _, err := d.j(ctx, append([]string{"wait"}, ids...)...); err != nil {
		return 0, err
	}
	took := time.Since(start)
	all, err := d.jobs(ctx, ids...)
	if err != nil {
		return 0, err
	}
	used := map[string]bool{}
	for _, j := range all {
		if j.Status != "done" || j.Attempt != 1 {
			return 0, fmt.Errorf("job %d on %s: %s, %s", j.JID, j.Machine, j.Status, j.Error)
		}
		used[j.Machine] = true
	}
	if len(used) != len(machines) {
		return 0, fmt.Errorf("%d machines ran a job, not %d", len(used), len(machines))
	}
	_, _, err = d.j(ctx, "machine", "rm", "-c", "x", "--yes")
	return took, err
}

var dispatched = regexp.MustCompile(`BenchmarkDispatch/machines=(\d+)\S*\s+\d+\s+([\d.]+) ns/op`)

// measureDispatch compares one dispatch among 500 machines with one on a single machine; 100,000
// jobs wait.
func measureDispatch(ctx context.Context) (row, error) {
	words := []string{"go", "test", "-run", "^$", "-bench", "^BenchmarkDispatch$", "-count", "3",
		"jobserver/sched"}
	out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return row{}, fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err,
			tail(string(out), 2000))
	}
	times := map[string]samples{}
	for _, m := range dispatched.FindAllStringSubmatch(string(out), -1) {
		ns, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return row{}, err
		}
		times[m[1]] = append(times[m[1]], time.Duration(ns))
	}
	if len(times["500"]) == 0 || len(times["500"]) != len(times["1"]) {
		return row{}, fmt.Errorf("the benchmark printed no times:\n%s", tail(string(out), 2000))
	}
	r := row{name: "14b", what: "one dispatch among 500 machines, 100,000 waiting",
		ourCmd: strings.Join(words, " "), peerCmd: "the same with one machine"}
	return r.slower(times["500"], times["1"], 1.3), nil
}
