// Command bench measures jobserver beside the programs that people would use instead, on this
// machine and in the same run: ours and theirs in turn, the first of each not counted, since it is
// cold. What counts is the ratio, or a count that doesn't depend on the clock. Every line also
// checks that exit codes, logs and results are all there and right: a line whose work was done
// badly is an error, not a figure.
//
// The daemon is a process of its own on a real disk, with every sync that it has elsewhere; its
// machines are sshds on loopback, with host keys checked. bench/run starts this; one goroutine does
// it all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"jobserver/daemontest"
)

// A line is one of the figures.
type line struct {
	number  int
	measure func(ctx context.Context, w *world) ([]row, error)
	needs   string // the programs of others that it is compared with
}

// missing is the first of these programs that isn't here, or "".
func (l line) missing() string {
	for _, program := range strings.Fields(l.needs) {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

// lines are all of them, in the order of the table.
func lines() []line {
	return []line{
		{1, measureThousandSSH, "parallel"},
		{2, measureThousandLocal, "parallel"},
		{3, measureSubmitToStart, ""},
		{4, measureNextStart, ""},
		{5, measureSubmitProcess, "tsp"},
		{6, measureMatrix, "strace"},
		{7, measureListing, ""},
		{8, measureStat, "jq"},
		{9, measureStart, ""},
		{10, measureLargeResult, "scp openssl"},
		{11, measureSmallResults, "scp rsync"},
		{12, measureLog, ""},
		{13, measureIdle, ""},
		{14, measureManyMachines, "parallel"},
		{15, measureGrowth, ""},
		{16, measureAgainstPueue, "pueue pueued"},
		{17, measureHyperQueue, "hyperqueue-python"},
		{18, measureFar, "scp rsync"},
		{19, measurePings, ""},
		{20, measureOrderlyStart, "pueue pueued"},
		{21, measureViewers, ""},
		{22, measureProcesses, ""},
		{23, measureFleet, "parallel"},
		{24, measureSlurm, "slurmctld slurmd sbatch munged"},
	}
}

// options come from the command line of a world.
type options struct {
	binary, history string
	machines        int // of line 23, at most
}

// report says what becomes of what was measured.
type report struct {
	document string
	merge    bool   // into it, line by line
	note     string // what is said of the lines that are merged
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	binary := flag.String("binary", "", "the jobserver that is measured; by default it is built")
	history := flag.String("history", "",
		"where the state directory with a million jobs is kept; it is made if there is none")
	times := flag.Int("times", 0, "how often all lines are measured, one after another; by "+
		"default 3 times, and named ones once")
	document := flag.String("document", "docs/benchmarks.md", "where the table of a whole run goes")
	merge := flag.Bool("merge", false,
		"write the rows of the named lines anew, and keep the others")
	note := flag.String("note", "", "what to say beside the lines that are merged")
	machines := flag.Int("machines", fleetSize, "how many machines line 23 has, at most")
	flag.Parse()
	world, to := options{*binary, *history, *machines}, report{*document, *merge, *note}
	if err := run(ctx, world, *times, to, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// run measures the lines that the words number, or all of them.
func run(ctx context.Context, o options, times int, to report, words []string) (err error) {
	chosen := lines()
	if times == 0 && len(words) == 0 {
		times = 3
	}
	times = max(times, 1)
	if len(words) > 0 {
		wanted := make([]int, 0, len(words))
		for _, word := range words {
			n, err := strconv.Atoi(word)
			if err != nil ||
				!slices.ContainsFunc(lines(), func(l line) bool { return l.number == n }) {
				return fmt.Errorf("there is no line %q: lines() in bench/main.go has them", word)
			}
			wanted = append(wanted, n)
		}
		chosen = slices.DeleteFunc(chosen, func(l line) bool {
			return !slices.Contains(wanted, l.number)
		})
	}
	if o.binary == "" {
		if o.binary, err = daemontest.Build("slim"); err != nil {
			return err
		}
		defer daemontest.Cleanup()
	}
	var runs []table
	for i := range times {
		if times > 1 {
			fmt.Fprintf(os.Stderr, "Run %d of %d.\n", i+1, times)
		}
		measured, err := measureAll(ctx, o, chosen)
		if err != nil {
			return err
		}
		runs = append(runs, measured)
		if len(words) > 0 && !to.merge {
			continue
		}
		// After each: an error later on loses none of them.
		if err := writeDocument(ctx, to.document, runs, to.merge, to.note); err != nil {
			return err
		}
	}
	return nil
}

// measureAll measures lines in a world of their own, and prints each row as soon as it is known.
func measureAll(ctx context.Context, o options, chosen []line) (t table, err error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	fmt.Println(header)
	for _, l := range chosen {
		fmt.Fprintf(os.Stderr, "Line %d …\n", l.number)
		if program := l.missing(); program != "" {
			r := row{name: strconv.Itoa(l.number), missing: "there is no " + program + " here"}
			fmt.Println(r)
			t.rows = append(t.rows, r)
			continue
		}
		rows, err := l.measure(ctx, w)
		if ctx.Err() != nil {
			return t, context.Cause(ctx)
		}
		if err != nil {
			return t, fmt.Errorf("line %d: %w", l.number, err)
		}
		for _, r := range rows {
			fmt.Println(r)
		}
		t.rows = append(t.rows, rows...)
	}
	return t, nil
}
