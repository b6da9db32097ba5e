package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"jobserver/agent"
	"jobserver/failpoint"
	"jobserver/sched"
)

// Where results go. Each path that a RESULTS line named stands in the destination under its last element: a
// file as a file, a directory with all that is in it. Beside them stands the record (see record.go). Two
// results of one name are an error, said by the manifest. A result of the record's name keeps it, and the record
// takes a longer one; only a result that has that one as well is left out.
//
// Until everything is there and durable, it is gathered in a directory .jobserver-<jid>.<attempt>.part beside
// the destination (or within, where jobs share one). If the destination doesn't exist, the gathered directory
// becomes it by one rename. If it does, what was gathered is moved into it name by name, and nothing in it is
// ever replaced: a name that is taken by something else is an error, found before anything is moved; a file
// that is there already with the same content is taken for ours, left by an earlier copy.

var (
	errStopped  = errors.New("the copy was stopped")
	errLowSpace = errors.New("the host's disk has too little free space")
)

// partName is the directory in which an attempt's results are gathered.
func (c *copying) partName() string {
	return fmt.Sprintf(".jobserver-%d.%d.part", c.job(), c.Attempt.Number)
}

// partDir is where partName is: on the destination's file system.
func (c *copying) partDir() string {
	if c.Shared {
		return c.Dest
	}
	return filepath.Dir(c.Dest)
}

// discard removes what was gathered.
func (c *copying) discard() error {
	return errors.Join(os.RemoveAll(filepath.Join(c.partDir(), c.partName())), removeIfThere(c.resumeFile()))
}

func removeIfThere(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// carry brings one job's results over. It waits for its turn and for space as long as it takes. An error
// means that nothing is in the destination.
func (m *machine) carry(l *link, c *copying) (sched.CopyEnded, error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })()
	for {
		if err := m.turn(ctx, c); err != nil {
			return sched.CopyEnded{}, m.copyError(l, c, err)
		}
		t := &transfer{f: m.f, l: l, c: c}
		began := time.Now()
		out, err := t.run(ctx)
		out.Took = time.Since(began)
		m.f.copies.Release(1)
		switch {
		case err == nil:
			return out, nil
		case isFull(err):
			m.copyWaits(c, err.Error())
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
	case linkBroke(l):
		return err
	}
	if discard := c.discard(); discard != nil {
		m.log.Warn("what was copied of results stays", "job", c.job(), "err", discard)
	}
	return err
}

// turn waits until fewer than Options.Copies run. A long wait is said, once.
func (m *machine) turn(ctx context.Context, c *copying) error {
	if m.f.copies.TryAcquire(1) {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	err := m.f.copies.Acquire(wait, 1)
	cancel()
	if err == nil || ctx.Err() != nil {
		return err
	}
	m.copyWaits(c, "other copies are under way")
	if err := m.f.copies.Acquire(ctx, 1); err != nil {
		return err
	}
	c.waits = ""
	return nil
}

func isFull(err error) bool {
	return errors.Is(err, errLowSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// space waits until the destination's disk has room again.
func (m *machine) space(ctx context.Context, c *copying) error {
	for {
		if err := m.f.disk.pause(ctx); err != nil {
			return err
		}
		if free, err := freeBytes(existing(c.partDir())); err != nil || free >= max(m.f.opt.MinFree, room) {
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

// transfer is one try of a copy.
type transfer struct {
	f *Fleet
	l *link
	c *copying

	part       *os.Root
	fresh      bool // part was empty when the copy began
	strays     bool // part may have what is not of the manifest
	manifest   agent.Manifest
	plainTaken bool             // a result is called as the record would be
	have       map[string]*item // what of the manifest's files is in part, by name
	problems   []string         // what isn't copied, and why
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
		if err := c.discard(); err != nil {
			t.f.opt.Log.Warn("what was copied of results stays", "job", c.job(), "err", err)
		}
		return out, nil
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
	defer t.part.Close()
	if err := t.gather(ctx); err != nil {
		return sched.CopyEnded{}, err
	}
	if err := t.prune(); err != nil {
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
	if err := t.place(record); err != nil {
		return sched.CopyEnded{}, err
	}
	failpoint.Hit("fleet.results-placed")
	return out, nil
}

// list asks the machine what the RESULTS lines stand for.
func (t *transfer) list(ctx context.Context) error {
	opt := &t.f.opt
	request := agent.ManifestRequest{Paths: unique(t.c.Attempt.Results), MaxFiles: max(opt.MaxFiles, 0), MaxBytes: max(opt.MaxBytes, 0)}
	if opt.MaxFiles < 0 {
		request.MaxFiles = 1 << 30
	}
	var err error
	if t.manifest, err = t.l.client.Manifest(ctx, request); err != nil {
		return fmt.Errorf("look at the results on %s: %w", t.c.Machine.Addr, err)
	}
	t.problems = nil
	if missing := t.manifest.Missing; len(missing) > 0 {
		t.problems = append(t.problems, "results are missing: "+strings.Join(missing, ", "))
	}
	for _, e := range t.manifest.Errors {
		t.problems = append(t.problems, "not copied: "+e.Path+": "+e.Reason)
	}
	t.screen()
	return nil
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

// screen takes out of the manifest what could reach beyond the destination, or stands where the record will.
func (t *transfer) screen() {
	t.plainTaken = slices.ContainsFunc(t.manifest.Entries, func(e agent.Entry) bool { return t.isRecord(e.Name, plainRecord) })
	dirs := map[string]bool{".": true}
	kept := t.manifest.Entries[:0]
	for _, e := range t.manifest.Entries {
		why := ""
		switch {
		case !dirs[path.Dir(e.Name)]:
			why = "it stands in no directory of the results"
		case t.isRecord(e.Name, t.recordName()):
			why = "the job's record has that name"
		case e.Kind == agent.Symlink && (e.Escapes || !inside(e.Name, e.Target)):
			why = "a link that leads out of the results, to " + e.Target
		}
		if why != "" {
			t.problems = append(t.problems, "not copied: "+e.Source+": "+why)
			continue
		}
		if e.Kind == agent.Dir {
			dirs[e.Name] = true
		}
		kept = append(kept, e)
	}
	t.manifest.Entries = kept
}

// inside tells whether a link stays below the first element of its name. Only a target whose ".." all come
// first can be judged without following other links.
func inside(name, target string) bool {
	if target == "" || path.IsAbs(target) {
		return false
	}
	rest := target
	for strings.HasPrefix(rest, "../") {
		rest = rest[len("../"):]
	}
	if slices.Contains(strings.Split(rest, "/"), "..") && rest != ".." {
		return false
	}
	top, _, below := strings.Cut(name, "/")
	end := path.Join(path.Dir(name), target)
	return below && (end == top || strings.HasPrefix(end, top+"/"))
}

// complaint is what wasn't copied, for people: not more than they would read.
func (t *transfer) complaint() string {
	const most = 10
	all := t.problems
	if len(all) == 0 {
		return ""
	}
	if n := len(all) - most; n > 0 {
		all = append(slices.Clone(all[:most]), fmt.Sprintf("and %d more", n))
	}
	return strings.Join(all, "; ")
}

// enough fails with errLowSpace when the disk has less than Options.MinFree left.
func (t *transfer) enough() error {
	free, err := freeBytes(existing(t.c.partDir()))
	if err != nil {
		return err
	}
	if free < t.f.opt.MinFree {
		return fmt.Errorf("%w: %d MiB, and %d MiB are to stay free", errLowSpace, free>>20, t.f.opt.MinFree>>20)
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
		t.strays = true // what was there for the first manifest may not be for the next
		if err := t.list(ctx); err != nil {
			return err
		}
		if changed, err = t.fetch(ctx); err != nil {
			return err
		}
	}
	for _, name := range changed {
		t.problems = append(t.problems, "not copied: "+name+": it changes while it is copied")
		if err := t.part.RemoveAll(name); err != nil {
			return fmt.Errorf("remove half a result: %w", err)
		}
	}
	return t.finishModes()
}

// many is how many files make a record that takes its time.
const many = 1000

// settle makes the record of what was gathered. Where that is long, the disk takes meanwhile what was written: the sync that
// counts then has little left to do.
func (t *transfer) settle() (record []byte, err error) {
	var sync errgroup.Group
	if len(t.have) >= many {
		sync.Go(func() error { return syncRoot(t.part, unix.Syncfs) })
	}
	if err = t.putDiff(t.c.Job.Code); err == nil {
		record, err = t.record().marshal()
	}
	return record, cmp.Or(err, sync.Wait())
}

// finishModes gives directories the permissions that they have on the machine, when nothing is written to
// them any more; we can always look into them.
func (t *transfer) finishModes() error {
	for _, e := range slices.Backward(t.manifest.Entries) {
		if e.Kind == agent.Dir {
			if err := t.part.Chmod(e.Name, e.Mode.Perm()|0o700); err != nil {
				return fmt.Errorf("set the permissions of a result: %w", err)
			}
		}
	}
	return nil
}

// sameTime compares times as file systems keep them.
func sameTime(a, b time.Time) bool { return a.UnixNano() == b.UnixNano() }
