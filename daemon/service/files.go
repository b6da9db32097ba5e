package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/joblog"
	"jobserver/sched"
)

// Limits of one reply about a job's files.
const (
	maxFilesPage = 2000    // entries
	maxFilesRead = 1 << 20 // bytes of all files together
	maxFileParts = 256     // files that one call may ask for
)

// JobFiles lists what a job left on this host.
func (s *service) JobFiles(args *api.FilesArgs, reply *api.FilesReply) error {
	job, err := s.job(args.JID)
	if err != nil {
		return err
	}
	page := &filesPage{after: walkKey(args.After), reply: reply}
	if args.After == "" { // logs come with the first page alone
		for _, log := range logFiles(job) {
			if file, err := logEntry(log); err == nil {
				page.reply.Files = append(page.reply.Files, file)
			}
		}
	}
	if job.ResultsStatus != "copied" || job.ResultsDir == "" {
		return nil
	}
	own, err := ownNames(job)
	if err != nil {
		return api.Errorf(api.NotFound, "the results of job %d can't be read: %v", job.JID, err).
			WithHint("were they moved away from %s?", job.ResultsDir)
	}
	for _, name := range own {
		err := fs.WalkDir(os.DirFS(job.ResultsDir), name, page.add(job.ResultsDir))
		if errors.Is(err, errPageFull) {
			reply.More = true
			return nil
		}
		if err != nil {
			return api.Errorf(api.Internal, "list the results of job %d: %v", job.JID, err)
		}
	}
	return nil
}

// job is a job as clients see it.
func (s *service) job(jid uint64) (*api.Job, error) {
	var job api.Job
	err := s.read(func(st *sched.State) error {
		j := st.Job(jid)
		if j == nil {
			return api.Errorf(api.NotFound, "no job %d", jid).
				WithHint("`jobserver job ls` lists jobs")
		}
		job = wire.Job(st, s.About.LogDir, j, true)
		return nil
	})
	return &job, err
}

// logFiles are the paths of the job's logs, whether they are compressed or not: clients see the
// text under its own name, so that what they have fetched before stays as it is.
func logFiles(job *api.Job) []string {
	var logs []string
	for _, log := range append([]string{job.Log, job.ErrLog}, job.LogFull...) {
		if log = joblog.Plain(log); log != "" && !slices.Contains(logs, log) {
			logs = append(logs, log)
		}
	}
	return logs
}

// logEntry is a log in a listing of files.
func logEntry(path string) (api.File, error) {
	log, err := joblog.Open(path)
	if err != nil {
		return api.File{}, err
	}
	defer log.Close()
	info, err := log.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrInvalid
	}
	if err != nil {
		return api.File{}, err
	}
	size, err := log.Size()
	return api.File{
		Name: filepath.Base(path), Log: true, Size: size, Mode: 0o600, MTime: info.ModTime(),
	}, err
}

// ownNames are the entries of the job's results directory that are its own, in order: all of them,
// unless it shares the directory with other jobs; then those that its record names.
func ownNames(job *api.Job) ([]string, error) {
	record := fmt.Sprintf("%d.job.json", job.JID)
	names, err := recordedNames(filepath.Join(job.ResultsDir, record))
	switch {
	case err == nil:
		names[record] = true
	case job.Flat && errors.Is(err, errNoRecord):
		return nil, fmt.Errorf("%s: %w", record, err)
	case job.Flat:
		return nil, err
	default: // it is no record, whoever has called it so
		entries, err := os.ReadDir(job.ResultsDir)
		if err != nil {
			return nil, err
		}
		names = map[string]bool{}
		for _, e := range entries {
			names[e.Name()] = true
		}
	}
	var own []string
	for name := range names {
		if _, err := os.Lstat(filepath.Join(job.ResultsDir, name)); err == nil {
			own = append(own, name)
		}
	}
	slices.Sort(own)
	return own, nil
}

// A job that has its directory to itself may have a result that is called as a record is in a
// shared one. So a record is read as what a job wrote: a value at a time, and not without end.
const (
	maxRecord   = 1 << 30 // bytes
	maxValue    = 2 << 20 // of one text in it, or one result
	maxOwnNames = 64 << 20
)

var errNoRecord = errors.New("it is not a record of results")

// recordedNames reads from a record which entries beside it are the job's.
func recordedNames(path string) (map[string]bool, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxRecord {
		return nil, errNoRecord
	}
	names, err := newRecordReader(file).names()
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errNoRecord, err)
	}
	return names, nil
}

// walkKey is a string for each name that is in the order in which a walk meets them.
func walkKey(name string) string { return strings.ReplaceAll(name, "/", "\x00") }

// filesPage collects a page of names.
type filesPage struct {
	after string
	reply *api.FilesReply
}

var errPageFull = errors.New("the page is full")

// add takes what a walk of a directory meets, links as links.
func (p *filesPage) add(dir string) fs.WalkDirFunc {
	return func(name string, d fs.DirEntry, err error) error {
		key := walkKey(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it was removed meanwhile
		case err != nil:
			return err
		case d.IsDir() && key < p.after && !strings.HasPrefix(p.after, key+"\x00"):
			return fs.SkipDir // all of it was told
		case key <= p.after && p.after != "":
			return nil
		case len(p.reply.Files) >= maxFilesPage:
			return errPageFull
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		file := api.File{Name: name, Dir: d.IsDir(), Size: info.Size(),
			Mode: uint32(info.Mode().Perm()), MTime: info.ModTime()}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			if file.Target, err = os.Readlink(filepath.Join(dir, name)); err != nil {
				return nil
			}
		case !d.IsDir() && !info.Mode().IsRegular():
			return nil // nothing that could be copied
		}
		p.reply.Files = append(p.reply.Files, file)
		return nil
	}
}

// ReadFiles reads files of a job. What takes its time, the sums of long files, is done before the
// call has its turn.
func (s *service) ReadFiles(
	args *api.ReadFilesArgs, reply *api.ReadFilesReply, turn api.Turn,
) error {
	if len(args.Parts) > maxFileParts {
		return api.Errorf(api.Invalid, "%d files are asked for at once, %d are the most",
			len(args.Parts), maxFileParts)
	}
	job, err := s.job(args.JID)
	if err != nil {
		return err
	}
	var open []*openFile
	defer func() {
		for _, f := range open {
			f.close()
		}
	}()
	for left := int64(maxFilesRead); left > 0 && len(open) < len(args.Parts); {
		f := measurePart(s.ctx, job, args.Parts[len(open)], left)
		open = append(open, f)
		left -= f.length + 512 // which is more than a file without bytes takes in the reply
	}
	if err := turn(); err != nil {
		return err
	}
	for _, f := range open {
		reply.Parts = append(reply.Parts, f.read())
	}
	return nil
}

// source is a file, or the text of a log, of which parts are read.
type source interface {
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
}

// sizeOf is how many bytes can be read of it.
func sizeOf(f source, info fs.FileInfo) (int64, error) {
	if log, ok := f.(*joblog.Log); ok {
		return log.Size()
	}
	return info.Size(), nil
}

// openFile is a part of a file that is to be read.
type openFile struct {
	f              source // nil if it can't be
	offset, length int64
	data           api.FileData
}

func (o *openFile) close() {
	if o.f != nil {
		o.f.Close()
	}
}

// measurePart opens a file, says how much of it is to be read, at most most bytes, and sums it up
// if that is its end.
func measurePart(ctx context.Context, job *api.Job, part api.FilePart, most int64) *openFile {
	o := &openFile{offset: part.Offset}
	fail := func(err error) *openFile {
		o.close()
		return &openFile{data: api.FileData{Error: err.Error()}}
	}
	f, err := openPart(job, part)
	if err != nil {
		return fail(err)
	}
	o.f = f
	info, err := f.Stat()
	switch {
	case err != nil:
		return fail(err)
	case !info.Mode().IsRegular():
		return fail(errors.New("it is no file"))
	case part.Offset < 0:
		return fail(errors.New("it has no bytes before its beginning"))
	}
	if o.data.Size, err = sizeOf(f, info); err != nil {
		return fail(err)
	}
	o.data.MTime = info.ModTime()
	o.length = max(min(o.data.Size-part.Offset, most), 0)
	if part.Offset+o.length < o.data.Size {
		return o
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, &untilEnd{ctx, io.NewSectionReader(f, 0, o.data.Size)}); err != nil {
		return fail(err)
	}
	o.data.SHA256 = sum.Sum(nil)
	return o
}

// untilEnd reads until a context ends: who asked may be gone.
type untilEnd struct {
	ctx context.Context
	io.Reader
}

func (u *untilEnd) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

// read reads the part.
func (o *openFile) read() api.FileData {
	if o.length == 0 {
		return o.data
	}
	o.data.Data = make([]byte, o.length)
	got, err := o.f.ReadAt(o.data.Data, o.offset)
	if o.data.Data = o.data.Data[:got]; err != nil && err != io.EOF {
		return api.FileData{Error: err.Error()}
	}
	return o.data
}

// openPart opens a log of the job's, or a file below its results, from where no link leads out. A
// pipe doesn't hold it up.
func openPart(job *api.Job, part api.FilePart) (source, error) {
	if part.Log {
		for _, log := range logFiles(job) {
			if filepath.Base(log) == part.Name {
				return joblog.Open(log)
			}
		}
		return nil, fs.ErrNotExist
	}
	root, err := os.OpenRoot(job.ResultsDir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(path.Clean(part.Name), os.O_RDONLY|unix.O_NONBLOCK, 0)
}
