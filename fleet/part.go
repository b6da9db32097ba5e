package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A part is the directory in which an attempt's results are gathered, on the destination's file
// system:
//
//	.jobserver-<server>-<job>.<attempt>.part/lock    locked by who gathers
//	.jobserver-<server>-<job>.<attempt>.part/files   what has come so far, and nothing else
//
// Daemons that share a destination have parts of their own, and one whose state directory was
// copied finds the lock taken. Each part has a note in the daemon's own directory, which no job can
// write to: there is said where the part is, so that whatever becomes of the copy, the part is
// removed, and how far it is.
type part struct {
	dir   *beneath
	files *beneath
	lock  *os.File
	fresh bool // files was empty when the copy began
}

// close lets go of the part, and unlocks it. It may be called twice.
func (p *part) close() {
	_, _, _ = p.files.close(), p.dir.close(), p.lock.Close() // directories, and an empty file
}

// copyID tells copies apart: of an attempt on several machines, each rank has one.
type copyID struct {
	job     uint64
	attempt int32
	rank    int32 // as Attempt.rank
}

func (id copyID) String() string {
	if id.rank > 0 {
		return fmt.Sprintf("%d.%d.r%d", id.job, id.attempt, id.rank-1)
	}
	return fmt.Sprintf("%d.%d", id.job, id.attempt)
}

// partName is the name of a copy's part.
func (f *Fleet) partName(id copyID) string {
	return fmt.Sprintf("%s%s-%s.part", ourNames, f.opt.ServerID, id)
}

// ourNames begins every name that we use for a while in directories of the user's.
const ourNames = ".jobserver-"

const (
	partFiles = "files"
	partLock  = "lock"
)

// partDir is where the part is: on the destination's file system.
func (c *copying) partDir() string {
	if c.Shared {
		return c.Dest
	}
	return filepath.Dir(c.Dest)
}

// openPart makes the part, or takes up what is in it.
func (t *transfer) openPart() error {
	dir := t.c.partDir()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("make the destination: %w", err)
	}
	parent, err := openBeneath(dir)
	if err != nil {
		return fmt.Errorf("open the destination: %w", err)
	}
	defer parent.close()
	name := t.f.partName(t.c.id())
	t.note = t.f.copyNote(t.c)
	if old := t.note; old.BootID == "" || old.BootID != t.f.bootID ||
		old.Part != parent.path(name) {
		// After a power cut what is in a part may not be what was written.
		t.note = copyNote{Part: parent.path(name), BootID: t.f.bootID}
		if err := t.keepNote(); err != nil {
			return err
		}
		if err := t.f.removePart(t.c); err != nil {
			return fmt.Errorf("remove what an earlier copy left: %w", err)
		}
	}
	if t.part, err = takePart(parent, name); err != nil {
		return fmt.Errorf("gather the results in %s: %w", parent.path(name), err)
	}
	return nil
}

func takePart(parent *beneath, name string) (_ *part, err error) {
	err = parent.mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = nil
		if !parent.isOurs(name) { // another user's, who may write here: it could change at any time
			if err = parent.removePart(name); err == nil {
				err = parent.mkdir(name, 0o700)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	p := &part{}
	if p.dir, err = parent.sub(name); err != nil {
		return nil, err
	}
	if p.lock, err = p.dir.lockFile(partLock); err != nil {
		return nil, errors.Join(err, p.dir.close())
	}
	switch err = p.dir.mkdir(partFiles, 0o700); {
	case err == nil:
		p.fresh = true
	case errors.Is(err, fs.ErrExist):
		err = nil
	}
	if err == nil {
		p.files, err = p.dir.sub(partFiles)
	}
	if err != nil {
		return nil, errors.Join(err, p.dir.close(), p.lock.Close())
	}
	return p, nil
}

// errGathered says that the part is another process's.
var errGathered = errors.New(
	"another daemon with the same server id is gathering them: was its state directory copied?",
)

// lockFile opens a file and locks it as long as it is open, without waiting. Where the file system
// has no locks, there is none.
func (b *beneath) lockFile(name string) (*os.File, error) {
	f, err := b.open(name, unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	if err == unix.EAGAIN || err == unix.EACCES {
		return nil, errors.Join(errGathered, f.Close())
	}
	return f, nil
}

// discard removes all of a copy: its part and its note.
func (f *Fleet) discard(c *copying) error {
	if err := f.removePart(c); err != nil {
		return err
	}
	f.forgetCopy(c.id())
	return nil
}

// removePart removes what was gathered, and what versions before this one called so.
func (f *Fleet) removePart(c *copying) error {
	legacy := filepath.Join(
		c.partDir(),
		fmt.Sprintf("%s%d.%d.part", ourNames, c.job(), c.Attempt.Number),
	)
	errs := []error{
		removePartAt(filepath.Join(c.partDir(), f.partName(c.id()))),
		os.RemoveAll(legacy),
	}
	if os.Remove(legacy+".resume") == nil {
		left, _ := filepath.Glob(
			filepath.Join(filepath.Dir(legacy), "."+filepath.Base(legacy)+".resume*"),
		)
		for _, name := range left {
			errs = append(errs, os.Remove(name))
		}
	}
	return errors.Join(errs...)
}

// removePartAt removes a part, unless another process has it.
func removePartAt(path string) error {
	parent, err := openBeneath(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer parent.close()
	return parent.removePart(filepath.Base(path))
}

// removePart is removePartAt in a directory that is open. A link of that name, which whoever may
// write there could have made, leads nowhere: it is removed itself.
func (b *beneath) removePart(name string) error {
	dir, err := b.sub(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return b.remove(name)
	case err != nil:
		return err
	}
	defer dir.close()
	lock, err := dir.lockFile(partLock)
	if errors.Is(err, errGathered) {
		return err
	}
	err = dir.removeAll(partFiles)
	if lock != nil { // before it is removed: some file systems keep what is open under another name
		err = errors.Join(err, lock.Close())
	}
	return errors.Join(err, b.removeAll(name))
}

// isOurs tells whether nobody but this user may write to a directory.
func (b *beneath) isOurs(name string) bool {
	st, err := b.lstat(name)
	return err == nil && int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0
}

// copyNote has what the daemon notes about a copy that it has begun.
type copyNote struct {
	Part   string `json:"part"`    // its path
	BootID string `json:"boot_id"` // the host's: what is in part is trusted within one boot
	// The large file that is being written, if any: one that was cut is gone on with.
	Name    string    `json:"name,omitempty"`
	Size    int64     `json:"size,omitempty"`
	ModTime time.Time `json:"mtime,omitzero"`
	// Record is the SHA-256 of the record that goes with the results, from when they are complete:
	// whether they were put in place is told by this, and not by what a job could have written.
	Record string `json:"record,omitempty"`
}

// newNote begins the name of a note that is being written.
const newNote = ".new-"

// copiesDir has the notes.
func (f *Fleet) copiesDir() string {
	dir := f.opt.StateDir
	if dir == "" {
		dir = f.opt.LocalRoot
	}
	return filepath.Join(dir, "copies")
}

func (f *Fleet) notePath(id copyID) string { return filepath.Join(f.copiesDir(), id.String()) }

// copyNote reads the note of a copy. One that can't be read says nothing.
func (f *Fleet) copyNote(c *copying) copyNote {
	return readCopyNote(f.notePath(c.id()))
}

func readCopyNote(file string) (n copyNote) {
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &n) != nil {
		return copyNote{}
	}
	return n
}

// keepNote writes the transfer's note. It isn't synced: after a power cut the results are copied
// anew.
func (t *transfer) keepNote() error {
	file := t.f.notePath(t.c.id())
	data, err := json.Marshal(t.note)
	temp := filepath.Join(filepath.Dir(file), newNote+filepath.Base(file))
	if err == nil {
		err = os.WriteFile(temp, data, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(t.f.copiesDir(), 0o700); err == nil {
			err = os.WriteFile(temp, data, 0o600)
		}
	}
	if err == nil {
		err = os.Rename(temp, file)
	}
	if err != nil {
		return fmt.Errorf("note how far a copy is: %w", err)
	}
	return nil
}

// forgetCopy removes a note. One that can't be removed is found at the next start.
func (f *Fleet) forgetCopy(id copyID) { _ = os.Remove(f.notePath(id)) }

// LeftCopies lists the jobs of which there are notes of copies: of those that are under way, and of
// those that a daemon which died has left.
func (f *Fleet) LeftCopies() ([]uint64, error) {
	entries, err := os.ReadDir(f.copiesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list what copies have left: %w", err)
	}
	var jobs []uint64
	for _, e := range entries {
		if id, ok := noteOf(strings.TrimPrefix(e.Name(), newNote)); ok {
			jobs = append(jobs, id.job)
		}
	}
	return jobs, nil
}

func noteOf(name string) (id copyID, ok bool) {
	first, rest, _ := strings.Cut(name, ".")
	second, rank, ranked := strings.Cut(rest, ".r")
	job, err1 := strconv.ParseUint(first, 10, 64)
	n, err2 := strconv.ParseInt(second, 10, 32)
	id = copyID{job: job, attempt: int32(n)}
	if ranked {
		r, err := strconv.ParseInt(rank, 10, 31)
		if err != nil || r < 0 {
			return id, false
		}
		id.rank = int32(r) + 1
	}
	return id, err1 == nil && err2 == nil
}

// RemoveLeft removes the parts and notes of jobs of which no results are copied any more.
func (f *Fleet) RemoveLeft(jobs []uint64) error {
	entries, err := os.ReadDir(f.copiesDir())
	if err != nil {
		return fmt.Errorf("list what copies have left: %w", err)
	}
	left := map[uint64]bool{}
	for _, job := range jobs {
		left[job] = true
	}
	var errs []error
	for _, e := range entries {
		half, isHalf := strings.CutPrefix(e.Name(), newNote)
		id, ok := noteOf(half)
		if !ok || !left[id.job] || f.copiesNow(id.job) {
			continue
		}
		if isHalf {
			errs = append(errs, os.Remove(filepath.Join(f.copiesDir(), e.Name())))
			continue
		}
		note := readCopyNote(filepath.Join(f.copiesDir(), e.Name()))
		name := f.partName(id)
		if filepath.Base(note.Part) == name { // else it names something that isn't ours
			if err := removePartAt(note.Part); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		f.forgetCopy(id)
	}
	return errors.Join(errs...)
}

// copiesNow tells whether a copy of the job was asked for.
func (f *Fleet) copiesNow(job uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, is := f.copiers[job]
	return is
}
