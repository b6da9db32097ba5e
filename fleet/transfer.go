package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"jobserver/agent"
	"jobserver/disk"
	"jobserver/failpoint"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// Where results go. Each path that a RESULTS line named stands in the destination under its last
// element: a file as a file, a directory with all that is in it. Beside them stands the record (see
// record.go). Two results of one name are an error, said by the manifest. A result of the record's
// name keeps it, and the record takes a longer one; only a result that has that one as well is left
// out.
//
// Until everything is there and durable, it is gathered in a part (see part.go) beside the
// destination, or within, where jobs share one. Nothing in a part is ever replaced either: two
// names that the file system takes for one are found so. Links come last, and what is there is
// compared with the manifest. If the destination doesn't exist, the gathered directory becomes it
// by one rename. If it does, what was gathered is moved into it name by name: a name that is taken
// by something else is an error, found before anything is moved; a file that is there already with
// the same content is taken for ours, left by an earlier copy.

var (
	errStopped  = errors.New("the copy was stopped")
	errLowSpace = errors.New("the host's disk has too little free space")
)

// carry brings one job's results over. It waits for its turn and for space as long as it takes. An
// error means that nothing is in the destination.
func (m *machine) carry(l *link, c *copying) (sched.CopyEnded, error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })()
	names := m.f.names.share(m)
	defer names.leave()
	for {
		if err := m.turn(ctx, c); err != nil {
			return sched.CopyEnded{}, m.copyError(l, c, err)
		}
		t := &transfer{f: m.f, from: l.source, c: c, names: names}
		began := time.Now()
		out, err := t.run(ctx)
		out.Took = time.Since(began)
		m.f.copies.leave(m)
		switch {
		case err == nil:
			return out, nil
		case errors.Is(err, errCrowded):
			m.copyWaits(c, errCrowded.Error())
			if err := names.wait(ctx); err != nil {
				return sched.CopyEnded{}, m.copyError(l, c, err)
			}
			c.waits = ""
		case isFull(err):
			m.copyWaits(c, err.Error())
			names.leave()
			if err := m.space(ctx, c); err != nil {
				return sched.CopyEnded{}, m.copyError(l, c, err)
			}
			c.waits = ""
		default:
			return sched.CopyEnded{}, m.copyError(l, c, err)
		}
	}
}

// copyError cleans up after a copy that will not go on by itself.
func (m *machine) copyError(l *link, c *copying, err error) error {
	switch {
	case m.ctx.Err() != nil:
		return err
	case c.ctx.Err() != nil:
		err = errStopped
	case linkBroke(l), errors.Is(err, agent.ErrStalled): // it goes on where it was
		return err
	}
	if discard := m.f.discard(c); discard != nil {
		m.log.Warn("what was copied of results stays", "job", c.job(), "err", discard)
	}
	return err
}

// turn waits for a place among the copies. A long wait is said, once.
func (m *machine) turn(ctx context.Context, c *copying) error {
	wait, cancel := context.WithTimeout(ctx, patience)
	err := m.f.copies.take(wait, m)
	cancel()
	if err == nil || ctx.Err() != nil {
		return err
	}
	m.copyWaits(c, "other copies are under way")
	if err := m.f.copies.take(ctx, m); err != nil {
		return err
	}
	c.waits = ""
	return nil
}

func isFull(err error) bool {
	return errors.Is(err, errLowSpace) || errors.Is(err, syscall.ENOSPC) ||
		errors.Is(err, syscall.EDQUOT)
}

// space waits until the destination's disk has room again.
func (m *machine) space(ctx context.Context, c *copying) error {
	for {
		if err := m.f.disk.pause(ctx); err != nil {
			return err
		}
		free, err := disk.Free(existing(c.partDir()))
		if err != nil || free >= max(m.f.opt.MinFree, room) {
			return nil
		}
	}
}

// existing is dir or the nearest directory above that exists.
func existing(dir string) string {
	for dir != "/" && dir != "." {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// source is a machine as a copy needs it.
type source interface {
	Manifest(ctx context.Context, r agent.ManifestRequest) (agent.Manifest, error)
	Fetch(ctx context.Context, r agent.FetchRequest, to agent.Sink) error
}

// transfer is one try of a copy.
type transfer struct {
	f    *Fleet
	from source
	c    *copying

	part       *part
	note       copyNote
	manifest   agent.Manifest
	index      map[string]int // the manifest's entries by name
	names      *share         // of what all manifests may hold
	plainTaken bool           // a result is called as the record would be

	holes int64            // bytes that came as holes
	have  map[string]*item // the manifest's files that are in part, by name
	there map[string]bool  // likewise directories and links

	problems     []string // what isn't copied, and why
	moreProblems int      // that were too many to keep
}

// item is a file that was copied.
type item struct {
	agent.Entry
	sha256 []byte // final when the fetch has ended
}

// run gathers, verifies, makes durable and moves into place.
func (t *transfer) run(ctx context.Context) (sched.CopyEnded, error) {
	c := t.c
	if out, done := t.done(); done {
		// The daemon that finished it died before it had tidied up.
		if err := t.f.removePart(c); err != nil {
			t.f.opt.Log.Warn("what was copied of results stays", "job", c.job(), "err", err)
		}
		return t.ended(out), nil
	}
	if err := t.enough(); err != nil {
		return sched.CopyEnded{}, err
	}
	if err := t.list(ctx); err != nil {
		return sched.CopyEnded{}, err
	}
	if len(t.manifest.Entries) == 0 {
		return sched.CopyEnded{Job: c.job(), Error: t.complaint()}, nil
	}
	if err := t.openPart(); err != nil {
		return sched.CopyEnded{}, err
	}
	defer t.part.close()
	if err := t.gather(ctx); err != nil {
		return sched.CopyEnded{}, err
	}
	if err := t.verify(); err != nil {
		return sched.CopyEnded{}, err
	}
	out := sched.CopyEnded{Job: c.job(), Dir: c.Dest, Error: t.complaint()}
	for _, i := range t.have {
		out.Files++
		out.Bytes += i.Size
	}
	if failpoint.Breaks("copied-is-placed") {
		t.f.opt.Report(out)
		failpoint.Pause() // until that is durable
	}
	failpoint.Hit("fleet.results-gathered")
	record, err := t.settle()
	if err != nil {
		return sched.CopyEnded{}, err
	}
	t.note.Record = sha256Hex(record)
	if err := t.keepNote(); err != nil {
		return sched.CopyEnded{}, err
	}
	if err := t.place(record); err != nil {
		return sched.CopyEnded{}, err
	}
	t.part.close()
	if err := t.f.removePart(c); err != nil {
		t.f.opt.Log.Warn("what was copied of results stays", "job", c.job(), "err", err)
	}
	failpoint.Hit("fleet.results-placed")
	return t.ended(out), nil
}

// ended is called when all that can be copied is in place. The note of a whole copy stays until
// that is durable, see Fleet.Settle; another try of one that isn't whole begins anew.
func (t *transfer) ended(out sched.CopyEnded) sched.CopyEnded {
	if out.Error != "" {
		t.f.forgetCopy(t.c.id())
	}
	return out
}

// list asks the machine what the RESULTS lines stand for.
func (t *transfer) list(ctx context.Context) error {
	opt := &t.f.opt
	request := agent.ManifestRequest{
		Paths:    unique(named(t.c.Attempt)),
		MaxFiles: max(opt.MaxFiles, 0), Patience: t.c.patience(),
		MaxBytes: max(opt.MaxBytes, 0),
		Reserve:  t.names.grow,
	}
	t.manifest, t.index = agent.Manifest{}, nil // of an earlier list
	t.names.restart()
	if t.c.Job.Code != nil {
		request.CodeOf = t.f.runID(attemptRef(t.c.Job, t.c.Attempt))
	}
	if opt.MaxFiles < 0 {
		request.MaxFiles = 1 << 30
	}
	var err error
	if t.manifest, err = t.from.Manifest(ctx, request); err != nil {
		return fmt.Errorf("look at the results on %s: %w", t.c.Machine.Addr, err)
	}
	t.problems, t.moreProblems = nil, 0
	if missing := t.manifest.Missing; len(missing) > 0 {
		first := missing[:min(len(missing), mostMissing)]
		more := ""
		if n := len(missing) - len(first); n > 0 {
			more = fmt.Sprintf(", and %d more", n)
		}
		t.problem("results are missing: %s%s", strings.Join(shown(first), ", "), more)
	}
	if line := t.c.Attempt.Overlooked; line != "" {
		t.problem("a line names something that is there, and doesn't begin with RESULTS: %q: it is"+
			" still on %s, in the job's directory if it was made there", line, t.c.Machine.Addr)
	}
	for _, e := range t.manifest.Errors {
		t.problem("not copied: %s: %s", e.Path, e.Reason)
	}
	return t.screen()
}

// named are the paths of an attempt's RESULTS lines, byte for byte.
func named(a *statepb.Attempt) []string {
	if len(a.ResultsRaw) != len(a.Results) {
		return a.Results
	}
	var paths []string
	for _, p := range a.ResultsRaw {
		paths = append(paths, string(p))
	}
	return paths
}

// shown are paths as messages have them: as they are, unless there would be nothing to see.
func shown(paths []string) []string {
	for i, p := range paths {
		if strings.TrimSpace(p) == "" {
			paths[i] = fmt.Sprintf("%q, which is empty", p)
		}
	}
	return paths
}

// unique leaves out what was named before; there may be a hundred thousand.
func unique(paths []string) []string {
	seen := make(map[string]bool, len(paths))
	var all []string
	for _, p := range paths {
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}

// enough fails with errLowSpace when the disk has less than Options.MinFree left.
func (t *transfer) enough() error {
	free, err := disk.Free(existing(t.c.partDir()))
	if err != nil {
		return err
	}
	if free < t.f.opt.MinFree {
		return fmt.Errorf(
			"%w: %d MiB, and %d MiB are to stay free",
			errLowSpace,
			free>>20,
			t.f.opt.MinFree>>20,
		)
	}
	return nil
}

// gather brings the manifest's files into part. Files that change meanwhile are fetched once more.
func (t *transfer) gather(ctx context.Context) error {
	changed, err := t.fetch(ctx)
	if err != nil {
		return err
	}
	if len(changed) > 0 {
		if err := t.list(ctx); err != nil {
			return err
		}
		if changed, err = t.fetch(ctx); err != nil {
			return err
		}
	}
	for _, name := range changed {
		t.problem("not copied: %s: it changes while it is copied", name)
	}
	if err := t.makeLinks(); err != nil {
		return err
	}
	return t.finishModes()
}

// many is how many files make a record that takes its time.
const many = 1000

// settle makes the record of what was gathered. Where that is long, the disk takes meanwhile what
// was written: the sync that counts then has little left to do.
func (t *transfer) settle() (record []byte, err error) {
	var sync errgroup.Group
	if len(t.have) >= many {
		sync.Go(func() error { return t.part.files.sync(".", unix.Syncfs) })
	}
	if err = t.putDiff(t.c.Job.Code); err == nil {
		record, err = t.record().marshal()
	}
	return record, cmp.Or(err, sync.Wait())
}

// finishModes gives directories the permissions that they have on the machine, when nothing is
// written to them any more; we can always look into them.
func (t *transfer) finishModes() error {
	for _, e := range slices.Backward(t.manifest.Entries) {
		if e.Kind == agent.Dir && t.there[e.Name] {
			if err := t.part.files.chmod(e.Name, e.Mode.Perm()|0o700); err != nil {
				return fmt.Errorf("set the permissions of a result: %w", err)
			}
		}
	}
	return nil
}

// sameTime compares times as file systems keep them.
func sameTime(a, b time.Time) bool { return a.UnixNano() == b.UnixNano() }
