package job

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// Pull is `job pull JID… [DIR]`.
type Pull struct {
	Words []string `arg:"" name:"JID… [DIR]" sep:"none" predictor:"job" help:"The jobs, as for 'job show', and the directory that gets DIR/JID for each; here by default. A last word that looks like a path is the directory: write ./results."`
	To    string   `name:"to" placeholder:"DIR" predictor:"dir" help:"The directory, whatever it is called."`
	narrow
}

// Run fetches what jobs left on the daemon's host, their results and logs, over the connection that
// there is. Files that are here already are left, parts of files are taken up where they end, and
// each is compared with its sum.
func (c *Pull) Run(ctx context.Context, e *cli.Env) error {
	words, dir := c.Words, c.To
	if last := len(words) - 1; dir == "" && last > 0 && isPath(words[last]) {
		words, dir = words[:last], e.Path("", words[last])
	}
	words, d, err := selectors{JID: words, narrow: c.narrow}.connect(ctx, e)
	if err != nil {
		return err
	}
	defer d.Close()
	jobs, err := jobsFull(ctx, d, words)
	if err != nil {
		return err
	}
	failed := 0
	for i := range jobs {
		to := filepath.Join(cmp.Or(dir, "."), fmt.Sprint(jobs[i].JID))
		p := &puller{d: d, job: &jobs[i]}
		err := p.pull(ctx, to)
		if ctx.Err() != nil || api.KindOf(err) == api.Unavailable {
			return api.Errorf(api.KindOf(err), "pull job %d: %v", jobs[i].JID, err).
				WithHint("run the same command again: it goes on where it was")
		}
		if err != nil {
			return fmt.Errorf("pull job %d: %w", jobs[i].JID, err)
		}
		for _, problem := range p.problems {
			e.Note("job %d: %s", jobs[i].JID, view.Clean(problem))
		}
		if len(p.problems) > 0 {
			failed++
		}
		if jobs[i].ResultsStatus != "copied" {
			e.Note("job %d has no results: %s", jobs[i].JID, whyNone(&jobs[i]))
		}
		e.Note("job %d: %d files, %s; %d of them were here already", jobs[i].JID, p.files,
			view.FormatSize(p.bytes), p.here)
		if _, err := fmt.Fprintln(e.Stdout, to); err != nil {
			return err
		}
	}
	if failed > 0 {
		return cli.ExitStatus(cli.ExitFailed)
	}
	return nil
}

// isPath tells whether the last word is a directory rather than a job.
func isPath(word string) bool {
	switch {
	case word == "":
		return false
	case word == ".", word == "..":
		return true
	case strings.HasPrefix(word, "/"), strings.HasPrefix(word, "./"),
		strings.HasPrefix(word, "../"), strings.HasPrefix(word, "~"):
		return true
	case strings.ContainsAny(word[:1], "0123456789%@:"), strings.Contains(word, "="):
		return false
	case strings.Contains(word, "/"):
		return true
	}
	st, err := os.Stat(word)
	return err == nil && st.IsDir()
}
