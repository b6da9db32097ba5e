package job

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"jobserver/api"
	"jobserver/cli"
)

// pullParts is how many files are asked for at once: small ones share an answer.
const pullParts = 100

// puller fetches the files of one job into a directory, from which nothing that the daemon says
// leads out.
type puller struct {
	d    cli.Daemon
	job  *api.Job
	root *os.Root

	wanted   []*pulled
	links    []api.File
	dirs     []api.File
	problems []string
	files    int // of which here were here already
	here     int
	bytes    int64
}

// pulled is a file that is being fetched.
type pulled struct {
	api.File
	offset int64 // of what is here
	again  bool  // it was fetched once more from its beginning
}

func (p *puller) pull(ctx context.Context, to string) (err error) {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if p.root, err = os.OpenRoot(to); err != nil {
		return err
	}
	defer p.root.Close()
	for args := (api.FilesArgs{JID: p.job.JID}); ; {
		page, err := cli.Ask[api.FilesReply](ctx, p.d, "JobFiles", &args)
		if err != nil {
			return err
		}
		for _, f := range page.Files {
			if err := p.take(f); err != nil {
				return err
			}
			if !f.Log {
				args.After = f.Name
			}
		}
		if err := p.fetch(ctx); err != nil {
			return err
		}
		if !page.More || len(page.Files) == 0 {
			break
		}
	}
	p.makeLinks()
	for i := len(p.dirs) - 1; i >= 0; i-- {
		// from the inside, since writing into one changes its time
		p.note(p.dirs[i].Name,
			p.root.Chmod(p.dirs[i].Name, fs.FileMode(p.dirs[i].Mode&0o777|0o700)))
		p.note(p.dirs[i].Name, p.root.Chtimes(p.dirs[i].Name, time.Time{}, p.dirs[i].MTime))
	}
	return nil
}

// note keeps what went wrong with one file: the others are fetched all the same.
func (p *puller) note(name string, err error) {
	if err != nil {
		p.problems = append(p.problems, fmt.Sprintf("%s: %v", name, err))
	}
}

// take makes a directory, and notes what is to be fetched, or made later.
func (p *puller) take(f api.File) error {
	name := f.Name
	if !filepath.IsLocal(name) || path.Clean(name) != name || f.Log && path.Base(name) != name {
		return fmt.Errorf("the daemon names a file %q, which isn't below the job's directory", name)
	}
	switch {
	case f.Dir:
		p.dirs = append(p.dirs, f)
		err := p.root.Mkdir(name, 0o755)
		if errors.Is(err, fs.ErrExist) {
			if st, statErr := p.root.Lstat(name); statErr == nil && st.IsDir() {
				err = p.root.Chmod(name, st.Mode().Perm()|0o700)
			}
		}
		p.note(name, err)
		return nil
	case f.Target != "":
		p.links = append(p.links, f)
		return nil
	}
	p.files++
	if st, err := p.root.Lstat(name); err == nil && st.Mode().IsRegular() && st.Size() == f.Size &&
		st.ModTime().Equal(f.MTime) {
		p.here++
		return nil
	}
	w := &pulled{File: f}
	if st, err := p.root.Lstat(w.part()); err == nil && st.Mode().IsRegular() &&
		st.Size() <= f.Size {
		w.offset = st.Size()
	}
	p.wanted = append(p.wanted, w)
	return nil
}

// part names a file until all of it is here.
func (w *pulled) part() string {
	dir, base := path.Split(w.Name)
	return dir + "." + base + ".jobserver-part"
}

// fetch fetches all that is wanted.
func (p *puller) fetch(ctx context.Context) error {
	for len(p.wanted) > 0 {
		batch := p.wanted[:min(len(p.wanted), pullParts)]
		args := api.ReadFilesArgs{JID: p.job.JID}
		for _, w := range batch {
			args.Parts = append(args.Parts,
				api.FilePart{Name: w.Name, Log: w.Log, Offset: w.offset})
		}
		reply, err := cli.Ask[api.ReadFilesReply](ctx, p.d, "ReadFiles", &args)
		if err != nil {
			return err
		}
		if len(reply.Parts) == 0 || len(reply.Parts) > len(batch) {
			return fmt.Errorf("the daemon answers %d files for %d", len(reply.Parts), len(batch))
		}
		var unfinished []*pulled
		for i, data := range reply.Parts {
			over, err := p.write(batch[i], &data)
			p.note(batch[i].Name, err)
			if err == nil && !over {
				unfinished = append(unfinished, batch[i])
			}
		}
		p.wanted = append(unfinished, p.wanted[len(reply.Parts):]...)
	}
	return nil
}

// write adds bytes to a file, and puts it in its place when all are there and their sum is right.
func (p *puller) write(w *pulled, data *api.FileData) (over bool, err error) {
	if data.Error != "" {
		return false, errors.New(data.Error)
	}
	mode := os.O_RDWR | os.O_CREATE
	if w.offset == 0 {
		mode |= os.O_TRUNC
	}
	f, err := p.root.OpenFile(w.part(), mode, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := f.WriteAt(data.Data, w.offset); err != nil {
		return false, err
	}
	w.offset += int64(len(data.Data))
	p.bytes += int64(len(data.Data))
	if data.SHA256 == nil {
		if len(data.Data) == 0 {
			return false, errors.New("the daemon sends nothing of it")
		}
		return false, nil
	}
	// A part that was left may be of what the file was before.
	if err := f.Truncate(w.offset); err != nil {
		return false, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, w.offset)); err != nil {
		return false, err
	}
	if !bytes.Equal(sum.Sum(nil), data.SHA256) {
		if w.again {
			return false,
				errors.New("it changes while it is read: pull it again when nothing writes to it")
		}
		w.again, w.offset = true, 0
		return false, nil
	}
	return true, p.place(w, f, data)
}

// place gives a file that is whole its mode, time and name.
func (p *puller) place(w *pulled, f *os.File, data *api.FileData) error {
	if err := f.Chmod(fs.FileMode(w.Mode&0o777 | 0o400)); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := p.root.Chtimes(w.part(), time.Time{}, data.MTime); err != nil {
		return err
	}
	return p.root.Rename(w.part(), w.Name)
}

// makeLinks makes the symbolic links last, so that nothing was written through one, and only those
// that stay inside.
func (p *puller) makeLinks() {
	for _, l := range p.links {
		inside := path.Join(path.Dir(l.Name), l.Target)
		if path.IsAbs(l.Target) || !filepath.IsLocal(inside) {
			p.problems = append(p.problems,
				fmt.Sprintf("%s: it is a link that leads out, to %s", l.Name, l.Target))
			continue
		}
		err := p.root.Symlink(l.Target, l.Name)
		if errors.Is(err, fs.ErrExist) {
			if now, readErr := p.root.Readlink(l.Name); readErr == nil && now == l.Target {
				err = nil
			}
		}
		p.note(l.Name, err)
	}
}
