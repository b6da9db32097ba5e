package code

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// maxDiff is how much of an uncommitted difference is kept.
const maxDiff = 4 << 20

// Revision says which commit code is of. Without git it is empty.
type Revision struct {
	Commit string // "" : not in a work tree, or nothing is committed
	Diff   []byte // what isn't committed, as git shows it; empty: nothing
	Cut    bool   // Diff was longer
}

// revisionOf asks git about a directory, but for the names in without. No git, or no work tree, is
// no error.
func revisionOf(ctx context.Context, dir string, without []string) (Revision, error) {
	var r Revision
	out, err := git(ctx, dir, "rev-parse", "--verify", "-q", "HEAD")
	if err != nil {
		return r, refusal(ctx, dir, err)
	}
	r.Commit = strings.TrimSpace(string(out))
	args := []string{"diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--relative", "--",
		"."}
	for _, name := range without {
		args = append(args, ":(exclude,literal)"+name)
	}
	if r.Diff, err = git(ctx, dir, args...); err != nil {
		return r, err
	}
	out, err = git(ctx, dir, "ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return r, err
	}
	for name := range bytes.SplitSeq(out, []byte{0}) {
		if len(name) == 0 || len(r.Diff) > maxDiff || leftOut(without, string(name)) {
			continue
		}
		one, err := git(ctx, dir, "diff", "--no-index", "--binary", "--no-color", "--no-ext-diff",
			"--", "/dev/null", string(name))
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
			// 1: there is a difference
			return r, err
		}
		r.Diff = append(r.Diff, one...)
	}
	if len(r.Diff) > maxDiff {
		r.Diff, r.Cut = r.Diff[:maxDiff], true
	}
	return r, nil
}

// git runs git in a directory, with the user's settings of how it prints left out.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git",
		append([]string{"-C", dir, "-c", "core.quotepath=off", "-c", "core.fsmonitor=false"},
			args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(cmd.Environ(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0")
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// refusal is what keeps git from answering, nil where it has nothing to say: it isn't installed, or
// the directory is in no work tree, or has no commit. A tool's refusal is not its absence: the
// record of a job would say "of no commit" of code that has one.
func refusal(ctx context.Context, dir string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var exit *exec.ExitError
	switch {
	case !errors.As(err, &exit), exit.ExitCode() == 1:
		return nil
	case strings.Contains(err.Error(), "up to mount point"):
		return nil
	case strings.Contains(err.Error(), "not a git repository") && !inRepository(dir):
		return nil
	}
	next := "make `git -C " + dir + " status` work"
	if strings.Contains(err.Error(), "dubious ownership") {
		next = "if the directory is yours to trust: git config --global --add safe.directory " + dir
	}
	return &Error{fmt.Sprintf("git can't say what code %s is: %v", dir, err), next}
}

// inRepository tells whether a directory or one above it has a .git, also where that is broken or,
// as in a work tree whose repository was moved, leads nowhere: git takes both for none.
func inRepository(dir string) bool {
	dir, err := filepath.Abs(dir)
	for err == nil {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return true
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return false
}
