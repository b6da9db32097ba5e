package fleet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"jobserver/agent"
)

// large is from which size on a cut file is continued and not fetched anew.
const large = 8 << 20

// fetch brings what of the manifest isn't in part yet, and names what changed on the machine
// meanwhile.
func (t *transfer) fetch(ctx context.Context) (changed []string, err error) {
	in := &receiver{t: t, sum: sha256.New()}
	in.small.clash = t.clash
	defer func() {
		if closeErr := in.close(); err == nil { // else it may be the same
			err = closeErr
		}
		t.refused(in.small.refused)
	}()
	t.have, t.there = map[string]*item{}, map[string]bool{}
	offsets := map[string]int64{}
	if !t.part.fresh {
		if err := t.survey(".", offsets); err != nil {
			return nil, err
		}
	}
	t.part.fresh = false
	for _, e := range t.manifest.Entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		switch e.Kind {
		case agent.Dir:
			err = t.makeDir(e)
		case agent.File:
			t.planFile(in, e, offsets[e.Name])
		}
		if err != nil {
			return nil, err
		}
	}
	if len(in.files) > 0 {
		if err := t.from.Fetch(
			ctx,
			agent.FetchRequest{Files: in.requests, Patience: t.c.patience()},
			in,
		); err != nil {
			return nil, err
		}
	}
	return in.changed, nil
}

// survey finds out what an earlier copy has left in a directory of the part, and removes all that
// isn't of use. A whole file is told by its size and time, which it gets last.
func (t *transfer) survey(dir string, offsets map[string]int64) error {
	entries, err := t.part.files.list(dir)
	if err != nil {
		return fmt.Errorf("look for what an earlier copy left: %w", err)
	}
	for _, d := range entries {
		name := path.Join(dir, d.Name())
		i, known := t.index[name]
		kept := false
		switch {
		case !known:
		case t.manifest.Entries[i].Kind == agent.Dir && d.IsDir():
			t.there[name], kept = true, true
			err = t.survey(name, offsets)
		case t.manifest.Entries[i].Kind == agent.File && d.Type().IsRegular():
			kept, err = t.surveyFile(t.manifest.Entries[i], offsets)
		}
		if err == nil && !kept {
			err = t.part.files.removeAll(name)
		}
		if err != nil {
			return fmt.Errorf("look for what an earlier copy left: %w", err)
		}
	}
	return nil
}

func (t *transfer) surveyFile(e agent.Entry, offsets map[string]int64) (kept bool, err error) {
	st, err := t.part.files.lstat(e.Name)
	if err != nil {
		return false, err
	}
	n := &t.note
	switch {
	case st.Size == e.Size && unix.TimespecToNsec(st.Mtim) == e.ModTime.UnixNano():
		sum, err := sum(t.part.files, e.Name)
		t.have[e.Name] = &item{Entry: e, sha256: sum}
		return true, err
	case n.Name == e.Name && n.Size == e.Size && sameTime(n.ModTime, e.ModTime) && st.Size < e.Size:
		offsets[e.Name] = st.Size
		return st.Size > 0, nil
	}
	return false, nil
}

// makeDir makes a directory of the results, unless the destination can't have it; then it has
// nothing below it either.
func (t *transfer) makeDir(e agent.Entry) error {
	if t.there[e.Name] || !t.hasRoom(e) {
		return nil
	}
	err := t.part.files.mkdir(e.Name, 0o700)
	switch {
	case err == nil:
		t.there[e.Name] = true
	case errors.Is(err, fs.ErrExist):
		return t.clashBelow(e.Name)
	case cannotName(err):
		t.cannotHave(e, err)
	default:
		return fmt.Errorf("make a directory of the results: %w", err)
	}
	return nil
}

// hasRoom tells whether the directory that an entry stands in could be made.
func (t *transfer) hasRoom(e agent.Entry) bool {
	dir := path.Dir(e.Name)
	return dir == "." || t.there[dir]
}

// clashBelow is the error for a name that a fresh part has already.
func (t *transfer) clashBelow(name string) error {
	dir, err := t.part.files.sub(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.close()
	return t.clash(dir, name)
}

// cannotName tells whether a file system can't have something of this name, kind or size, however
// often it is tried. Its directory is open: what doesn't exist is a name that can't.
func cannotName(err error) bool {
	for _, why := range []error{
		unix.EINVAL, unix.ENAMETOOLONG, unix.EILSEQ, unix.ENOENT, unix.EFBIG,
	} {
		if errors.Is(err, why) {
			return true
		}
	}
	return false
}

func (t *transfer) cannotHave(e agent.Entry, err error) {
	var errno unix.Errno
	errors.As(err, &errno)
	if errno == unix.ENOENT {
		errno = unix.EINVAL
	}
	t.problem("not copied: %s: the file system of %s can't have it: %v", e.Source, t.c.Dest, errno)
}

// makeLinks makes the results' links, when all else is there: now the kernel can say where they
// lead.
func (t *transfer) makeLinks() error {
	for _, e := range t.manifest.Entries {
		if e.Kind != agent.Symlink || !t.hasRoom(e) {
			continue
		}
		if !t.leadsInside(t.part.files, e.Name, e.Target) {
			t.problem(
				"not copied: %s: a link that leads out of the results, to %s",
				e.Source,
				e.Target,
			)
			continue
		}
		err := t.part.files.symlink(e.Target, e.Name)
		switch {
		case err == nil:
			t.there[e.Name] = true
		case errors.Is(err, fs.ErrExist):
			return t.clashBelow(e.Name)
		case cannot(err):
			t.problem(
				"not copied: %s: the file system of %s has no symbolic links",
				e.Source,
				t.c.Dest,
			)
		case cannotName(err):
			t.cannotHave(e, err)
		default:
			return fmt.Errorf("make a link of the results: %w", err)
		}
	}
	return nil
}

// leadsInside tells whether a link that screen has let pass stays inside of its result in a
// directory.
func (t *transfer) leadsInside(dir *beneath, name, target string) bool {
	top, rest, _ := strings.Cut(name, "/")
	result, err := dir.sub(top)
	if err != nil {
		return false
	}
	defer result.close()
	switch result.whereLinkLeads(path.Dir(rest), target) {
	case inside:
		return true
	case outside:
		return false
	default:
		return leadsUpFirst(target)
	}
}

// planFile asks for what is still to be fetched of a file.
func (t *transfer) planFile(in *receiver, e agent.Entry, offset int64) {
	if t.have[e.Name] != nil || !t.hasRoom(e) {
		return
	}
	in.files = append(in.files, e)
	in.requests = append(
		in.requests,
		agent.FetchFile{Source: e.Source, Offset: offset, Size: e.Size, ModTime: e.ModTime},
	)
}

// refused notes the files that the destination can't have.
func (t *transfer) refused(all []refusal) {
	for _, r := range all {
		delete(t.have, r.entry.Name)
		t.cannotHave(r.entry, r.err)
	}
}

// verify compares what is in part with what is to be there. It finds names that the file system has
// made one of, and whatever else it has done to them.
func (t *transfer) verify() error {
	names := map[string]int{".": 0} // by directory
	kinds := map[agent.EntryKind]uint32{
		agent.File: unix.S_IFREG, agent.Dir: unix.S_IFDIR, agent.Symlink: unix.S_IFLNK,
	}
	for _, e := range t.manifest.Entries {
		if t.have[e.Name] == nil && !t.there[e.Name] {
			continue
		}
		names[path.Dir(e.Name)]++
		if e.Kind == agent.Dir {
			names[e.Name] += 0
		}
		st, err := t.part.files.lstat(e.Name)
		if err != nil {
			return fmt.Errorf("compare what came with the manifest: %w", err)
		}
		kind := kinds[e.Kind]
		if st.Mode&unix.S_IFMT != kind || e.Kind == agent.File && st.Size != e.Size {
			return fmt.Errorf(
				"%s isn't what came from the machine: it has %d bytes and mode %o",
				t.part.files.path(e.Name),
				st.Size,
				st.Mode,
			)
		}
	}
	for dir, n := range names {
		entries, err := t.part.files.list(dir)
		if err != nil {
			return fmt.Errorf("compare what came with the manifest: %w", err)
		}
		if len(entries) != n {
			return fmt.Errorf(
				"%s has %d names, where the machine has %d",
				t.part.files.path(dir),
				len(entries),
				n,
			)
		}
	}
	return nil
}

// receiver writes what Fetch brings into part: small files through writers of their own, see
// smallfiles.go, others as their bytes come.
type receiver struct {
	t        *transfer
	files    []agent.Entry // to be fetched
	requests []agent.FetchFile
	changed  []string

	dir     *folder // of the current file; it stays open for its neighbours
	small   smallFiles
	whole   *smallFile // the current one, if it is small
	file    *os.File   // else, once it was opened
	cannot  error      // why the destination can't have the current file; its bytes are dropped
	at      int64      // how much of it has come
	holed   bool       // what came last was a hole
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
	switch {
	case in.cannot != nil:
		return nil
	case in.whole != nil:
		return in.whole.add(p)
	}
	if e := in.files[i]; in.at+int64(len(p)) > e.Size {
		return fmt.Errorf("more bytes of %s came than it has, %d", e.Source, e.Size)
	}
	in.at += int64(len(p))
	in.holed = false
	in.sum.Write(p)
	if _, err := in.file.Write(p); errors.Is(err, unix.EFBIG) {
		in.cannot = err
		return nil
	} else if err != nil {
		return fmt.Errorf("write a result: %w", err)
	}
	in.flush.wrote(in.file, len(p))
	return nil
}

// Hole implements agent.Sink: the file gets a hole as well.
func (in *receiver) Hole(i int, n int64) error {
	if err := in.begin(i); err != nil || in.cannot != nil {
		return err
	}
	e := in.files[i]
	if in.whole != nil {
		if n > smallSize {
			return fmt.Errorf("more bytes of %s came than it has, %d", e.Source, e.Size)
		}
		return in.whole.add(make([]byte, n))
	}
	if n > e.Size-in.at {
		return fmt.Errorf("more bytes of %s came than it has, %d", e.Source, e.Size)
	}
	if in.t.holes += n; in.t.holes > maxHoles {
		return fmt.Errorf("the holes in the results have more than %d GiB", maxHoles>>30)
	}
	in.at += n
	in.holed = true
	for left := n; left > 0; left -= min(left, int64(len(zeros))) {
		if err := in.t.c.ctx.Err(); err != nil {
			return err
		}
		in.sum.Write(zeros[:min(left, int64(len(zeros)))])
	}
	if _, err := in.file.Seek(n, io.SeekCurrent); err != nil {
		return fmt.Errorf("write a result: %w", err)
	}
	return nil
}

// maxHoles is how many bytes of a copy's files may be holes: they cost a machine nothing, and us
// the time of hashing them, about a second for each GiB.
const maxHoles = 1 << 40

// zeros stand for a hole.
var zeros [64 << 10]byte

// begin makes the current file ready for its bytes, if it isn't.
func (in *receiver) begin(i int) error {
	if in.whole != nil || in.file != nil || in.cannot != nil {
		return nil
	}
	e := in.files[i]
	if dir := path.Dir(e.Name); in.dir == nil || in.dir.name != dir {
		in.leave()
		var err error
		if in.dir, err = openFolder(in.t.part.files, dir); err != nil {
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
func (in *receiver) open(e agent.Entry, offset int64) (err error) {
	name := path.Base(e.Name)
	in.at, in.holed = offset, false
	in.sum.Reset()
	if offset > 0 {
		if in.file, err = in.dir.open(name, os.O_RDWR, 0); err != nil {
			return fmt.Errorf("open a result: %w", err)
		}
		if n, err := io.Copy(in.sum, in.file); err != nil || n != offset {
			return fmt.Errorf("go on with %s at %d bytes: %d are there: %w", e.Name, offset, n, err)
		}
		return nil
	}
	file, err := in.dir.create(name, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return in.t.clash(in.dir.beneath, e.Name)
	case err != nil && cannotName(err):
		in.cannot = err
		return nil
	case err != nil:
		return fmt.Errorf("open a result: %w", err)
	}
	in.file = file
	if e.Size < large {
		return nil
	}
	// Only now that it is there, and empty: nothing that was there before is to be gone on with.
	in.t.note.Name, in.t.note.Size, in.t.note.ModTime = e.Name, e.Size, e.ModTime
	return in.t.keepNote()
}

// Done implements agent.Sink.
func (in *receiver) Done(i int, f agent.Fetched) error {
	e := in.files[i]
	switch f.Status {
	case agent.FetchChanged:
		in.changed = append(in.changed, e.Name)
		return in.drop(i)
	case agent.FetchFailed:
		in.t.problem("not copied: %s: %s", e.Source, f.Reason)
		return in.drop(i)
	}
	if err := in.begin(i); err != nil {
		return err
	}
	if in.cannot != nil {
		in.t.cannotHave(e, in.cannot)
		return in.drop(i)
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
	if in.holed {
		if err := file.Truncate(e.Size); err != nil {
			return fmt.Errorf("finish a result: %w", errors.Join(err, file.Close()))
		}
	}
	err := errors.Join(setMode(int(file.Fd()), e.Mode|0o400), file.Close())
	if err == nil { // the time is what tells a whole one
		err = in.dir.setTime(path.Base(e.Name), e.ModTime)
	}
	if err != nil {
		return fmt.Errorf("finish a result: %w", err)
	}
	return nil
}

// drop removes a file that can't be used.
func (in *receiver) drop(i int) error {
	name := in.files[i].Name
	if in.whole != nil {
		in.small.drop(in.whole)
		in.whole = nil
	}
	in.cannot = nil
	if in.file == nil &&
		in.requests[i].Offset == 0 { // it wasn't made; what is called so isn't this one
		return nil
	}
	if in.file != nil {
		in.file.Close()
		in.file = nil
	}
	if err := in.t.part.files.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
