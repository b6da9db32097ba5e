package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"jobserver/sched"
	"jobserver/slurm"
)

// providerError says why a partition can't be used as it is asked for.
type providerError struct {
	Reason, Advice string
	final          bool
}

func (e *providerError) Error() string { return e.Reason }

// Hint is the user's next step.
func (e *providerError) Hint() string { return e.Advice }

// Refused says that waiting doesn't help: Slurm itself has refused, or isn't there.
func (e *providerError) Refused() bool { return e.final }

// CheckProvider asks Slurm whether it would take such an allocation, over a connection of its own.
// Nothing is submitted. The error is the login's, or a refusal in Slurm's words, each with a Hint.
// Without accounting Slurm takes every account.
func (f *Fleet) CheckProvider(ctx context.Context, a sched.Allocation) error {
	conn, err := f.login(ctx, a.Login)
	if err != nil {
		return err
	}
	defer conn.Close()
	said, err := runScript(ctx, conn, slurm.TestOnly(f.request(a)))
	if err != nil {
		return fmt.Errorf("ask Slurm for partition %s: %w", a.Partition, err)
	}
	answer := f.readSlurm(said)
	end, answered := answer.Ends["submit"]
	words := end.Words()
	switch {
	case answered && end.Code == 0:
		return nil
	case !answered:
		return &providerError{"the login gave no answer that could be read",
			"see whether `sh` and Slurm's commands work there", false}
	case end.Code == 127 || strings.Contains(words, "sbatch: not found"):
		return &providerError{"sbatch isn't there: " + words,
			"Slurm's commands have to be in PATH; see /etc/profile there", true}
	case answer.Unanswered():
		return &providerError{"Slurm gives no answer: " + words,
			"try again when its controller answers: `sinfo` there", false}
	}
	return &providerError{"Slurm refuses such an allocation: " + words,
		"change --sbatch, --time or the partition; `sinfo -l` lists what there is", true}
}

// partitionsTime is how long somebody who completes a word waits for the names of partitions.
const partitionsTime = 2 * time.Second

// Partitions are the names of a cluster's partitions.
func (f *Fleet) Partitions(ctx context.Context, login string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, partitionsTime)
	defer cancel()
	conn, err := f.login(ctx, login)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	said, err := runScript(ctx, conn, slurm.Partitions())
	if err != nil {
		return nil, err
	}
	end, answered := f.readSlurm(said).Ends["partitions"]
	if !answered || end.Code != 0 {
		return nil, fmt.Errorf("list the partitions: %s", end.Words())
	}
	var names []string
	for line := range strings.Lines(end.Said) {
		if name := strings.TrimSpace(line); slurm.CheckPartition(name) == nil &&
			!slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
