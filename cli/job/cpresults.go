package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/joblog"
)

// CpResults is `job cpresults TO JID…`.
type CpResults struct {
	To string `arg:"" name:"TO" predictor:"dir" help:"The directory; each job gets TO/JID."`
	selectors
}

// Run copies what the jobs left behind: their results and logs. Jobs without results are named and
// passed over.
func (c *CpResults) Run(ctx context.Context, e *cli.Env) error {
	if e.Remote() {
		return api.Errorf(api.Usage, "cpresults: the results are on %s, and are copied there only",
			e.Globals.Host).
			WithHint("ssh %s jobserver job cpresults %s JID…", e.Globals.Host, c.To)
	}
	words, d, err := c.connect(ctx, e)
	if err != nil {
		return err
	}
	defer d.Close()
	jobs, err := jobsFull(ctx, d, words)
	if err != nil {
		return err
	}
	without := 0
	for i := range jobs {
		if err := ctx.Err(); err != nil {
			e.Note("interrupted: the results of %d of %d jobs were copied", i, len(jobs))
			return err
		}
		if jobs[i].ResultsStatus != "copied" {
			e.Note("job %d has no results here: %s", jobs[i].JID, whyNone(&jobs[i]))
			without++
			continue
		}
		to := filepath.Join(c.To, fmt.Sprint(jobs[i].JID))
		if err := copyJob(&jobs[i], to); err != nil {
			return fmt.Errorf("copy the results of job %d: %w", jobs[i].JID, err)
		}
		if _, err := fmt.Fprintln(e.Stdout, to); err != nil {
			return err
		}
	}
	if without == len(jobs) {
		return api.Errorf(api.NoMatch, "none of these jobs has results")
	}
	return nil
}

// whyNone says why a job's results aren't on this host.
func whyNone(job *api.Job) string {
	if job.Unwanted() {
		return "it named some, but was submitted without CP_PATH, so that nothing was copied"
	}
	return fmt.Sprintf("it is %s, its results are %s", job.Status,
		cmp.Or(job.ResultsStatus, "none"))
}

// copyJob copies a job's results and logs to a directory.
func copyJob(job *api.Job, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	names, err := resultNames(job)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := copyTree(filepath.Join(job.ResultsDir, name),
			filepath.Join(to, name)); err != nil {
			return err
		}
	}
	logs := append([]string{job.Log, job.ErrLog}, job.LogFull...)
	for _, log := range logs {
		if log == "" {
			continue
		}
		if err := copyText(log, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyText copies the text of a log, which may be compressed, to a directory.
func copyText(path, to string) error {
	log, err := joblog.Open(path)
	if err != nil {
		return err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	return copyContent(log.Reader(), filepath.Join(to, filepath.Base(joblog.Plain(path))), info)
}

// resultNames are the entries of the job's results directory that are its own: all of them, unless
// it shares the directory with other jobs; then those that its RESULTS named, by name, pattern or
// beginning.
func resultNames(job *api.Job) ([]string, error) {
	entries, err := os.ReadDir(job.ResultsDir)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(job.ResultsDir, "job.json"))
	shared := job.Flat || err != nil
	var names []string
	for _, entry := range entries {
		if !shared || ownResult(job, entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func ownResult(job *api.Job, name string) bool {
	if name == fmt.Sprintf("%d.job.json", job.JID) {
		return true
	}
	for _, result := range job.Results {
		base := filepath.Base(result)
		if matched, _ := filepath.Match(base, name); matched || strings.HasPrefix(name, base) {
			return true
		}
	}
	return false
}

// copyTree copies a file, a symbolic link or a directory with all that is in it, over what is
// there.
func copyTree(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return copyDir(from, to, info.Mode())
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Symlink(target, to)
	case info.Mode().IsRegular():
		return copyFile(from, to, info)
	}
	return fmt.Errorf("%s is neither a file nor a directory", from)
}

func copyDir(from, to string, mode fs.FileMode) error {
	if err := os.MkdirAll(to, mode.Perm()|0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := copyTree(filepath.Join(from, entry.Name()),
			filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
