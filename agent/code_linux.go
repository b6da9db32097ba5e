package agent

import (
	"crypto/sha256"
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

// Code that jobs run stands on the machine as
//
//	ROOT/code/<hash>/files   what was packed, read-only: $JOBSERVER_CODE
//	ROOT/code/<hash>/seal    what each of these files was when it was unpacked; its own time is
//	                         that of the last use
//
// It never changes: it is unpacked beside, checked against its hash, sealed, and renamed into place
// as a whole. Runs that have other code keep theirs. Root can write where nobody may: before each
// use the files are compared with the seal, and where they differ another copy is put beside, as
// <hash>.2, and the first is left to the runs that have it.
//
// What is used no more is removed when other code arrives; see pruneCode.

func codeDir(root string) string { return filepath.Join(root, "code") }

const (
	codeFiles = "files"
	codeSeal  = "seal"
	// codeLock is held by all who look for code, and by who removes some, alone.
	codeLock = "lock"
)

// maxCopies is how many copies of the same code there may be: as often it may be written to.
const maxCopies = 100

// copyName names the copies of code.
func copyName(hash string, i int) string {
	if i == 1 {
		return hash
	}
	return hash + "." + strconv.Itoa(i)
}

// code answers whether code is there, and takes it in pieces.
func (a *agent) code(r *codeRequest) (codeReply, error) {
	if len(r.Hash) != 2*sha256.Size || strings.Trim(r.Hash, "0123456789abcdef") != "" {
		return codeReply{}, errorf(KindBadRequest, "%q is no hash of code", r.Hash)
	}
	if len(r.Data) == 0 && !r.Last {
		return a.findCode(r.Hash)
	}
	if !validPart(r.Token) || r.Offset < 0 {
		return codeReply{}, errorf(KindBadRequest, "a piece of code from %q at %d", r.Token,
			r.Offset)
	}
	temp := filepath.Join(codeDir(a.root), "."+r.Hash+"-"+r.Token)
	if !r.Last {
		return codeReply{}, keepPiece(temp+".tar.gz", r)
	}
	defer os.Remove(temp + ".tar.gz")
	err := unpack(temp+".tar.gz", temp, r.Hash)
	if err == nil {
		err = a.placeCode(temp, r.Hash)
	}
	if err != nil {
		return codeReply{}, errors.Join(fmt.Errorf("unpack the code: %w", err), removeAll(temp))
	}
	_ = a.pruneCode(time.Now()) // what it can't remove stays until other code arrives
	return a.findCode(r.Hash)
}

// findCode looks for a copy that is as it was sent, and notes that it is used.
func (a *agent) findCode(hash string) (codeReply, error) {
	lock, err := lockCode(a.root, unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return codeReply{}, nil
	} else if err != nil {
		return codeReply{}, err
	}
	defer lock.Close()
	var reply codeReply
	for i := 1; i <= maxCopies; i++ {
		dir := filepath.Join(codeDir(a.root), copyName(hash, i))
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) && i > 1 {
			break // the first may have been removed while others are there
		}
		found, err := checkSeal(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist): // not there, or not sealed
		case err != nil:
			return codeReply{}, fmt.Errorf("look at the code: %w", err)
		case found.changed != "":
			reply.Changed = found.changed
		default:
			reply.Dir = filepath.Join(dir, codeFiles)
			now := time.Now()
			return reply, os.Chtimes(filepath.Join(dir, codeSeal), now, now)
		}
	}
	return reply, nil
}

// placeCode gives code that was unpacked the first name that is free.
func (a *agent) placeCode(temp, hash string) error {
	for i := 1; i <= maxCopies; i++ {
		err := os.Rename(temp, filepath.Join(codeDir(a.root), copyName(hash, i)))
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		// Somebody else may have been faster with the same.
		if found, err := a.findCode(hash); err != nil || found.Dir != "" {
			return errors.Join(err, removeAll(temp))
		}
	}
	return fmt.Errorf("jobs have written into %d copies of it", maxCopies)
}

// lockCode locks the directory of all code, until what it gives is closed. The error is
// fs.ErrNotExist where no code was ever put.
func lockCode(root string, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(codeDir(root), codeLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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
