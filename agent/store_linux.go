package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A store has what was put on the machine under the hash of its content, as copies
//
//	DIR/<hash>/files   what was packed, read-only
//	DIR/<hash>/seal    what each of these files was when it was unpacked; its own time is that of
//	                   the last use
//
// A copy never changes: it is unpacked beside, checked against its hash, sealed, and renamed into
// place as a whole. Runs that have another keep theirs. Root can write where nobody may: before
// each use the files are compared with the seal, and where they differ another copy is put beside,
// as <hash>.2, and the first is left to the runs that have it.
//
// What is used no more is removed when something else arrives; see prune.
type store struct {
	dir   string
	what  string        // that it has, for messages
	most  int           // copies that are kept
	bytes int64         // that are kept of them
	rest  time.Duration // what was asked for within it is about to be used
	// inUse has the directory of each copy that a run has which isn't known to have ended
	inUse func() (map[string]bool, error)
}

const (
	storeFiles = "files"
	storeSeal  = "seal"
	// storeLock is held by all who look for something, and by who removes some, alone.
	storeLock = "lock"
)

// maxCopies is how many copies of the same there may be: as often it may be written to.
const maxCopies = 100

// copyName names the copies of something.
func copyName(hash string, i int) string {
	if i == 1 {
		return hash
	}
	return hash + "." + strconv.Itoa(i)
}

// find looks for a copy that is as it was sent, and notes that it is used.
func (s *store) find(hash string) (codeReply, error) {
	lock, err := s.lock(unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return codeReply{}, nil
	} else if err != nil {
		return codeReply{}, err
	}
	defer lock.Close()
	var reply codeReply
	for i := 1; i <= maxCopies; i++ {
		dir := filepath.Join(s.dir, copyName(hash, i))
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) && i > 1 {
			break // the first may have been removed while others are there
		}
		found, err := checkSeal(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist): // not there, or not sealed
		case err != nil:
			return codeReply{}, fmt.Errorf("look at the %s: %w", s.what, err)
		case found.changed != "":
			reply.Changed = found.changed
		default:
			reply.Dir = filepath.Join(dir, storeFiles)
			now := time.Now()
			return reply, os.Chtimes(filepath.Join(dir, storeSeal), now, now)
		}
	}
	return reply, nil
}

// place gives a copy that was made the first name that is free.
func (s *store) place(temp, hash string) error {
	for i := 1; i <= maxCopies; i++ {
		err := os.Rename(temp, filepath.Join(s.dir, copyName(hash, i)))
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		// Somebody else may have been faster with the same.
		if found, err := s.find(hash); err != nil || found.Dir != "" {
			return errors.Join(err, removeAll(temp))
		}
	}
	return fmt.Errorf("jobs have written into %d copies of it", maxCopies)
}

// lock locks the directory of all copies, until what it gives is closed. The error is
// fs.ErrNotExist where nothing was ever put.
func (s *store) lock(how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, storeLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// take answers whether something is there, and takes it in pieces.
func (s *store) take(r *codeRequest) (codeReply, error) {
	if !isHash(r.Hash) {
		return codeReply{}, errorf(KindBadRequest, "%q is no hash of %s", r.Hash, s.what)
	}
	if len(r.Data) == 0 && !r.Last {
		return s.find(r.Hash)
	}
	if !validPart(r.Token) || r.Offset < 0 {
		return codeReply{}, errorf(KindBadRequest, "a piece of %s from %q at %d", s.what, r.Token,
			r.Offset)
	}
	temp := s.temp(r.Hash, r.Token)
	if !r.Last {
		return codeReply{}, s.withRoom(func() error { return keepPiece(temp+".tar.gz", r) })
	}
	defer os.Remove(temp + ".tar.gz")
	return s.add(r.Hash, temp, func() error { return unpack(temp+".tar.gz", temp, r.Hash) })
}

// temp is where a copy is made.
func (s *store) temp(hash, token string) string {
	return filepath.Join(s.dir, "."+hash+"-"+token)
}

// add puts a copy into its place that is made in temp, and makes room for others.
func (s *store) add(hash, temp string, make func() error) (codeReply, error) {
	err := s.withRoom(make)
	if err == nil {
		err = s.place(temp, hash)
	}
	if err != nil {
		return codeReply{}, errors.Join(fmt.Errorf("unpack the %s: %w", s.what, err),
			removeAll(temp))
	}
	_ = s.prune(time.Now()) // what it can't remove stays until something else arrives
	return s.find(hash)
}

// isFull says that a disk has no room, or that its user may have no more of it.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// withRoom carries out what needs room on the disk; where there is none, what no run has makes it.
func (s *store) withRoom(do func() error) error {
	err := do()
	if !isFull(err) {
		return err
	}
	all := *s
	all.most, all.bytes = 0, 0
	if failed := all.prune(time.Now()); failed != nil {
		return errors.Join(err, failed)
	}
	return do()
}

// abandonedAfter is when an archive whose sender has vanished is removed.
const abandonedAfter = 24 * time.Hour

// keepPiece writes a piece of an archive. The first one makes
// the directory, and removes what was abandoned there.
func keepPiece(file string, r *codeRequest) error {
	if r.Offset == 0 {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		sweepAbandoned(filepath.Dir(file), time.Now().Add(-abandonedAfter))
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // a later piece was faster than the first
		if err = os.MkdirAll(filepath.Dir(file), 0o700); err == nil {
			f, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(r.Data, r.Offset)
	return errors.Join(err, f.Close())
}

// sweepAbandoned removes what nobody has written to since; what it can't remove stays.
func sweepAbandoned(dir string, since time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), ".") &&
			info.ModTime().Before(since) {
			_ = removeAll(filepath.Join(dir, e.Name()))
		}
	}
}

// writtenRest is for how long those copies are kept that no run has and that were written to:
// nobody gets them any more, but a run may be about to begin. Of others those are kept that were
// used last, so many and so many bytes of them.
const writtenRest = time.Minute

// storeCopy is a copy, as it counts against what is kept.
type storeCopy struct {
	dir     string
	used    time.Time
	bytes   int64
	written bool
}

// prune removes copies beyond what is kept, those first that were not used for the longest time,
// but none that a run has that may still be alive, of whichever daemon.
func (s *store) prune(now time.Time) error {
	trash, err := s.discard(now)
	for _, dir := range trash {
		err = errors.Join(err, removeAll(dir))
	}
	return err
}

// discard takes what is to be removed out of the sight of those who look for it. A copy that has
// lost only some of its files would be taken for one that was written to.
func (s *store) discard(now time.Time) (trash []string, err error) {
	lock, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	surplus, err := s.surplus(now)
	if err != nil || len(surplus) == 0 {
		return nil, err
	}
	inUse, err := s.inUse()
	if err != nil {
		return nil, err
	}
	for _, c := range surplus {
		if inUse[c.dir] {
			continue
		}
		gone := filepath.Join(filepath.Dir(c.dir), "."+filepath.Base(c.dir)+"-gone")
		if err := removeAll(gone); err != nil { // the rest of an earlier attempt
			return trash, err
		}
		if err := os.Rename(c.dir, gone); err != nil {
			return trash, err
		}
		trash = append(trash, gone)
	}
	return trash, nil
}

// surplus lists the copies beyond what is kept.
func (s *store) surplus(now time.Time) ([]storeCopy, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var copies []storeCopy
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		c, err := copyOf(filepath.Join(s.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		copies = append(copies, c)
	}
	slices.SortFunc(copies, func(x, y storeCopy) int { return y.used.Compare(x.used) })
	var surplus []storeCopy
	var bytes int64
	for i, c := range copies {
		bytes += c.bytes
		unused := now.Sub(c.used)
		if (i >= s.most || bytes > s.bytes) && unused > s.rest ||
			c.written && unused > writtenRest {
			surplus = append(surplus, c)
		}
	}
	return surplus, nil
}

// copyOf looks at a copy: how large it is stands in its seal. One without a seal is as old as its
// directory.
func copyOf(dir string) (storeCopy, error) {
	c := storeCopy{dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, storeSeal))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info, err := os.Stat(dir)
		if err == nil {
			c.used = info.ModTime()
		}
		return c, err
	case err != nil:
		return c, err
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.SplitN(line, " ", 3); len(words) == 3 && line != sealHead+"\n" {
			n, _ := strconv.ParseInt(words[1], 10, 64) // what is no number nobody here wrote
			c.bytes += n
		}
	}
	info, err := os.Stat(filepath.Join(dir, storeSeal))
	if err != nil {
		return c, err
	}
	c.used = info.ModTime()
	found, err := checkSeal(dir)
	if errors.Is(err, fs.ErrNotExist) { // of another format: nobody gets it any more
		return storeCopy{dir: dir, used: c.used, bytes: c.bytes, written: true}, nil
	}
	c.written = found.changed != ""
	return c, err
}

// eachRun calls f with the directory of every run here that isn't known to have ended, of whichever
// daemon.
func (a *agent) eachRun(f func(dir string) error) error {
	runs := runsDir(a.root)
	return eachName(runs, "", func(server string) error {
		return eachName(filepath.Join(runs, server), "", func(machine string) error {
			return eachName(filepath.Join(runs, server, machine), "", func(name string) error {
				dir := filepath.Join(runs, server, machine, name)
				v, err := look(dir, a.bootID)
				if err == nil && v.exit == nil {
					err = f(dir)
				}
				if err != nil {
					return fmt.Errorf("look at run %s: %w", name, err)
				}
				return nil
			})
		})
	})
}
