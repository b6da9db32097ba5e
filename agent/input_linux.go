package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Inputs of jobs stand on the machine in a store, as code does, by the hash of their streams. A run
// has a directory of links to them, under the names that its job knows them by, which is made
// before it is started; an input is in use as long as such a link leads to it.

func inputsDir(root string) string { return filepath.Join(root, "inputs") }

// What is kept of inputs that no run has. Whoever finds one makes its link at once.
const (
	keepInputs     = 256
	keepInputBytes = 32 << 30
	inputRest      = time.Minute
)

// dirInputs is the directory of a run's inputs. While it is made it has another name.
const (
	dirInputs    = "inputs"
	dirNewInputs = "inputs.new"
)

func (a *agent) inputStore() *store {
	return &store{dir: inputsDir(a.root), what: "input", most: keepInputs, bytes: keepInputBytes,
		rest: inputRest, inUse: a.inputsInUse}
}

// input answers whether an input is there, and takes it.
func (a *agent) input(ctx context.Context, r *inputRequest) (codeReply, error) {
	s := a.inputStore()
	if r.From == "" {
		return s.take(&r.codeRequest)
	}
	if !isHash(r.Hash) || !validPart(r.Token) || !filepath.IsAbs(r.From) {
		return codeReply{}, errorf(KindBadRequest, "an input %q at %q", r.Hash, r.From)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return codeReply{}, err
	}
	sweepAbandoned(s.dir, time.Now().Add(-abandonedAfter))
	temp := s.temp(r.Hash, r.Token)
	return s.add(r.Hash, temp, func() error { return clone(ctx, r.From, temp, r.Hash) })
}

// clone copies a tree into a new directory, checks that it is what it is called, and seals it.
// Files share their blocks with those that they come from, where the file system can do that;
// nothing that is written to either is seen in the other.
func clone(ctx context.Context, from, dir, hash string) error {
	tree, err := ReadTree(ctx, from)
	if err != nil {
		return err
	}
	u, err := newUnpacker(dir)
	if err != nil {
		return err
	}
	defer u.root.Close()
	got, err := tree.pack(ctx, io.Discard, func(e treeEntry, src *os.File) (io.ReadCloser, error) {
		if err := u.below(e.name); err != nil {
			return nil, err
		}
		u.names = append(u.names, e.name)
		return u.cloned(e, src)
	})
	if err != nil {
		return err
	}
	if got != hash {
		return fmt.Errorf("what is at %s has the hash %s, not %s", from, got, hash)
	}
	if err := u.rest(tree); err != nil {
		return err
	}
	return u.seal(filepath.Join(dir, storeSeal))
}

// cloned makes a copy of a file, and gives it to be read.
func (u *unpacker) cloned(e treeEntry, src *os.File) (io.ReadCloser, error) {
	f, err := u.root.OpenFile(e.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if unix.IoctlFileClone(int(f.Fd()), int(src.Fd())) != nil {
		if _, err = io.Copy(f, io.LimitReader(src, e.info.Size()+1)); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err == nil {
		err = f.Chmod(0o444 | e.info.Mode()&0o111)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// rest makes what a tree has beside files.
func (u *unpacker) rest(t *Tree) error {
	var src *os.Root
	if !t.Single {
		var err error
		if src, err = os.OpenRoot(t.Path); err != nil {
			return err
		}
		defer src.Close()
	}
	for _, e := range t.entries {
		var err error
		switch mode := e.info.Mode(); {
		case mode.IsDir():
			err = u.dir(e.name)
		case mode&fs.ModeSymlink != 0:
			var target string
			if target, err = src.Readlink(e.name); err == nil {
				err = u.below(e.name)
			}
			if err == nil {
				u.names = append(u.names, e.name)
				err = u.root.Symlink(target, e.name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lay makes the directory of a run's inputs.
func (a *agent) lay(r *layRequest) (layReply, error) {
	if err := r.Run.Valid(); err != nil {
		return layReply{}, &Error{Kind: KindBadRequest, Msg: err.Error()}
	}
	for _, p := range append(r.Links, Pair{r.File, ""}) {
		if strings.ContainsAny(p.Name, "/\x00") || p.Name == "." || p.Name == ".." {
			return layReply{}, errorf(KindBadRequest, "%q can't be the name of an input", p.Name)
		}
	}
	if err := a.holds(); errors.Is(err, errSuperseded) {
		return layReply{}, err // before anything is made
	}
	dir := runDir(a.root, r.Run)
	reply := layReply{Dir: filepath.Join(dir, dirInputs)}
	v, err := look(dir, a.bootID)
	if err != nil || v.state != None {
		return reply, err // it was started before, and has what it has
	}
	if _, _, gone, err := a.makeRun(r.Run); err != nil || gone {
		return reply, err // its start says so
	}
	if err := layInto(filepath.Join(dir, dirNewInputs), r); err != nil || !r.Last {
		return reply, err
	}
	if err := removeAll(reply.Dir); err != nil {
		return layReply{}, err
	}
	return reply, os.Rename(filepath.Join(dir, dirNewInputs), reply.Dir)
}

func layInto(dir string, r *layRequest) error {
	if r.First {
		if err := removeAll(dir); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	for _, p := range r.Links {
		if err := os.Symlink(p.Value, filepath.Join(dir, p.Name)); err != nil {
			return err
		}
	}
	if r.File != "" {
		f, err := os.OpenFile(filepath.Join(dir, r.File), os.O_WRONLY|os.O_CREATE|os.O_APPEND,
			0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(r.Data)
		if r.Last && err == nil {
			err = f.Chmod(0o444)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if r.Last {
		return os.Chmod(dir, 0o555)
	}
	return nil
}

// inputsInUse has the inputs of every run here that isn't known to have ended.
func (a *agent) inputsInUse() (map[string]bool, error) {
	inUse := map[string]bool{}
	of := inputsDir(a.root) + "/"
	err := a.eachRun(func(dir string) error {
		for _, name := range []string{dirInputs, dirNewInputs} {
			links, err := os.ReadDir(filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
			for _, l := range links {
				target, err := os.Readlink(filepath.Join(dir, name, l.Name()))
				if err != nil {
					continue // no link
				}
				if rest, ok := strings.CutPrefix(target, of); ok {
					hash, _, _ := strings.Cut(rest, "/")
					inUse[of+hash] = true
				}
			}
		}
		return nil
	})
	return inUse, err
}
