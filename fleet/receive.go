package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"jobserver/agent"
)

// resumption is what a copy notes about a large file, so that a later one, of this daemon or
// the next, goes on with it. What is in part is trusted within one boot of the host: after a
// power cut it may not be what was written.
type resumption struct {
	BootID  string    `json:"boot_id"`
	Name    string    `json:"name"` // of the file that is being written, or empty
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mtime"`
}

// large is from which size on a cut file is continued and not fetched anew.
const large = 8 << 20

func (c *copying) resumeFile() string { return filepath.Join(c.partDir(), c.partName()+".resume") }

// openPart makes the directory for gathering, or takes up what is in it.
func (t *transfer) openPart() error {
	if err := os.MkdirAll(t.c.partDir(), 0o777); err != nil {
		return fmt.Errorf("make the destination: %w", err)
	}
	noted := t.noted()
	if noted.BootID == "" || noted.BootID != t.f.bootID {
		if err := t.c.discard(); err != nil {
			return fmt.Errorf("remove what an earlier copy left: %w", err)
		}
	}
	parent, err := os.OpenRoot(t.c.partDir())
	if err != nil {
		return fmt.Errorf("open the destination: %w", err)
	}
	defer parent.Close()
	err = parent.Mkdir(t.c.partName(), 0o700)
	if t.fresh, t.strays = err == nil, err != nil; err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the destination: %w", err)
	}
	if t.part, err = parent.OpenRoot(t.c.partName()); err != nil {
		return fmt.Errorf("open the destination: %w", err)
	}
	return t.note(resumption{Name: noted.Name, Size: noted.Size, ModTime: noted.ModTime})
}

func (t *transfer) noted() resumption {
	var r resumption
	data, err := os.ReadFile(t.c.resumeFile())
	if err != nil || json.Unmarshal(data, &r) != nil {
		return resumption{} // as if there were nothing to go on with
	}
	return r
}

func (t *transfer) note(r resumption) error {
	r.BootID = t.f.bootID
	data, err := json.Marshal(r)
	if err == nil {
		err = renameio.WriteFile(t.c.resumeFile(), data, 0o600, renameio.WithTempDir(t.c.partDir()))
	}
	if err != nil {
		return fmt.Errorf("note how far a copy is: %w", err)
	}
	return nil
}

// fetch brings what of the manifest isn't in part yet, and names what changed on the machine meanwhile.
func (t *transfer) fetch(ctx context.Context) (changed []string, err error) {
	in := &receiver{t: t, sum: sha256.New()}
	defer func() {
		if closeErr := in.close(); err == nil { // else it may be the same
			err = closeErr
		}
	}()
	partial := t.noted()
	t.have = map[string]*item{}
	for _, e := range t.manifest.Entries {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		switch e.Kind {
		case agent.Dir:
			err = t.makeDir(e)
		case agent.Symlink:
			err = t.makeLink(e)
		case agent.File:
			err = t.planFile(in, e, partial)
		}
		if err != nil {
			return nil, err
		}
	}
	t.fresh = false
	if len(in.files) > 0 {
		if err := t.l.client.Fetch(ctx, agent.FetchRequest{Files: in.requests}, in); err != nil {
			return nil, err
		}
	}
	return in.changed, nil
}

func (t *transfer) makeDir(e agent.Entry) error {
	err := t.part.Mkdir(e.Name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if info, statErr := t.part.Lstat(e.Name); statErr == nil && info.IsDir() {
			return nil
		}
		if err = t.part.RemoveAll(e.Name); err == nil {
			err = t.part.Mkdir(e.Name, 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("make a directory of the results: %w", err)
	}
	return nil
}

func (t *transfer) makeLink(e agent.Entry) error {
	if target, err := t.part.Readlink(e.Name); err == nil && target == e.Target {
		return nil
	}
	err := t.part.RemoveAll(e.Name)
	if err == nil {
		err = t.part.Symlink(e.Target, e.Name)
	}
	if err != nil {
		return fmt.Errorf("make a link of the results: %w", err)
	}
	return nil
}

// planFile decides what is still to be fetched of a file. A
// whole one is told by its size and time, which it gets last.
func (t *transfer) planFile(in *receiver, e agent.Entry, partial resumption) error {
	offset := int64(0)
	var info fs.FileInfo
	err := fs.ErrNotExist
	if !t.fresh {
		info, err = t.part.Lstat(e.Name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("look for a result: %w", err)
	case !info.Mode().IsRegular():
		if err := t.part.RemoveAll(e.Name); err != nil {
			return fmt.Errorf("remove what isn't a result: %w", err)
		}
	case info.Size() == e.Size && sameTime(info.ModTime(), e.ModTime):
		sum, err := t.hash(e.Name)
		t.have[e.Name] = &item{Entry: e, sha256: sum}
		return err
	case partial.Name == e.Name && partial.Size == e.Size && sameTime(partial.ModTime, e.ModTime) && info.Size() < e.Size:
		offset = info.Size()
	}
	in.files = append(in.files, e)
	in.requests = append(in.requests, agent.FetchFile{Source: e.Source, Offset: offset, Size: e.Size, ModTime: e.ModTime})
	return nil
}

func (t *transfer) hash(name string) ([]byte, error) {
	f, err := t.part.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read a result: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return nil, fmt.Errorf("read a result: %w", err)
	}
	return sum.Sum(nil), nil
}

// prune removes from part what is no result: what an earlier copy left, or the machine doesn't have any more.
func (t *transfer) prune() error {
	if !t.strays {
		return nil
	}
	belongs := make(map[string]bool, len(t.manifest.Entries))
	for _, e := range t.manifest.Entries {
		belongs[e.Name] = e.Kind != agent.File || t.have[e.Name] != nil
	}
	return t.pruneDir(".", belongs)
}

func (t *transfer) pruneDir(dir string, belongs map[string]bool) error {
	d, err := t.part.Open(dir)
	if err != nil {
		return fmt.Errorf("look for what is no result: %w", err)
	}
	entries, err := d.ReadDir(-1)
	d.Close()
	if err != nil {
		return fmt.Errorf("look for what is no result: %w", err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case !belongs[name]:
			if err := t.part.RemoveAll(name); err != nil {
				return fmt.Errorf("remove what is no result: %w", err)
			}
		case e.IsDir():
			if err := t.pruneDir(name, belongs); err != nil {
				return err
			}
		}
	}
	return nil
}

// receiver writes what Fetch brings into part: small files through writers of their own, see smallfiles.go, others as their bytes come.
type receiver struct {
	t        *transfer
	files    []agent.Entry // to be fetched
	requests []agent.FetchFile
	changed  []string

	dir     *folder // of the current file; it stays open for its neighbours
	small   smallFiles
	whole   *smallFile // the current one, if it is small
	file    *os.File   // else, once it was opened
	at      int64      // its length
	sum     hash.Hash  // of file
	flush   flusher
	written int64 // since space was looked at
}

// lookAfter is how much is written between two looks at the free space.
const lookAfter = 64 << 20

// Data implements agent.Sink.
func (in *receiver) Data(i int, p []byte) error {
	if err := in.begin(i); err != nil {
		return err
	}
	if in.written += int64(len(p)); in.written > lookAfter {
		in.written = 0
		if err := in.t.enough(); err != nil {
			return err
		}
	}
	if in.whole != nil {
		return in.whole.add(p)
	}
	if e := in.files[i]; in.at+int64(len(p)) > e.Size {
		return fmt.Errorf("more bytes of %s came than it has, %d", e.Source, e.Size)
	}
	in.at += int64(len(p))
	in.sum.Write(p)
	if _, err := in.file.Write(p); err != nil {
		return fmt.Errorf("write a result: %w", err)
	}
	in.flush.wrote(in.file, len(p))
	return nil
}

// begin makes the current file ready for its bytes, if it isn't.
func (in *receiver) begin(i int) error {
	if in.whole != nil || in.file != nil {
		return nil
	}
	e := in.files[i]
	if dir := path.Dir(e.Name); in.dir == nil || in.dir.name != dir {
		in.leave()
		var err error
		if in.dir, err = openFolder(in.t.part, dir); err != nil {
			return err
		}
	}
	if e.Size <= smallSize {
		in.whole = in.small.begin(e, in.dir)
		return nil
	}
	return in.open(e, in.requests[i].Offset)
}

// open opens the current file, within its directory.
func (in *receiver) open(e agent.Entry, offset int64) error {
	flags := os.O_RDWR
	if offset == 0 {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	name := path.Base(e.Name)
	f, err := in.dir.root.OpenFile(name, flags, 0o600)
	if errors.Is(err, fs.ErrPermission) && offset == 0 { // one that was left may not be written to
		if err = in.dir.root.Remove(name); err == nil {
			f, err = in.dir.root.OpenFile(name, flags, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("open a result: %w", err)
	}
	in.file, in.at = f, offset
	in.sum.Reset()
	if offset == 0 {
		if e.Size < large {
			return nil
		}
		// Only now that it is empty: nothing that was there before is to be gone on with.
		return in.t.note(resumption{Name: e.Name, Size: e.Size, ModTime: e.ModTime})
	}
	if n, err := io.Copy(in.sum, f); err != nil || n != offset {
		return fmt.Errorf("go on with %s at %d bytes: %d are there: %w", e.Name, offset, n, err)
	}
	return nil
}

// Done implements agent.Sink.
func (in *receiver) Done(i int, f agent.Fetched) error {
	e := in.files[i]
	switch f.Status {
	case agent.FetchChanged:
		in.changed = append(in.changed, e.Name)
		return in.drop(e.Name)
	case agent.FetchFailed:
		in.t.problems = append(in.t.problems, "not copied: "+e.Source+": "+f.Reason)
		return in.drop(e.Name)
	}
	if err := in.begin(i); err != nil {
		return err
	}
	if got := in.requests[i].Offset + f.Bytes; got != e.Size {
		return fmt.Errorf("%d bytes of %s came, it has %d", got, e.Source, e.Size)
	}
	have := &item{Entry: e}
	in.t.have[e.Name] = have
	if whole := in.whole; whole != nil {
		in.whole = nil
		whole.item = have
		return in.small.finish(whole)
	}
	file := in.file
	in.file = nil
	have.sha256 = in.sum.Sum(nil)
	err := errors.Join(file.Chmod(e.Mode.Perm()|0o400), file.Close())
	if err == nil { // the time is what tells a whole one
		err = in.dir.setTime(path.Base(e.Name), e.ModTime)
	}
	if err != nil {
		return fmt.Errorf("finish a result: %w", err)
	}
	return nil
}

// drop removes a file that can't be used.
func (in *receiver) drop(name string) error {
	if in.whole != nil {
		in.small.drop(in.whole)
		in.whole = nil
	}
	if in.file != nil {
		in.file.Close()
		in.file = nil
	}
	if err := in.t.part.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove half a result: %w", err)
	}
	return nil
}

// leave lets go of the current directory.
func (in *receiver) leave() {
	if in.dir != nil {
		in.dir.leave()
		in.dir = nil
	}
}

// close returns when nothing is written any more.
func (in *receiver) close() error {
	if in.whole != nil {
		in.small.drop(in.whole)
	}
	if in.file != nil {
		in.file.Close()
	}
	in.leave()
	return in.small.close()
}
