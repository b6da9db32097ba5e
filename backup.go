package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/snapshot"
	"jobserver/view"
)

// BackupCmd is `backup DIR|-`: a copy of the state, taken while the daemon goes on.
type BackupCmd struct {
	To     string `arg:"" name:"DIR" predictor:"dir" help:"A directory that doesn't exist or is empty; - for a tar archive on stdout."`
	Logs   bool   `name:"logs" help:"Copy the logs of jobs, too."`
	LogDir string `name:"log-dir" placeholder:"DIR" predictor:"dir" help:"Where the logs are; STATE-DIR/logs by default."`
	stateDirFlag
}

// Run copies the state, and reads the copy as a start would.
func (c *BackupCmd) Run(ctx context.Context, e *cli.Env) error {
	dir, err := c.source(ctx, e)
	if err != nil {
		return err
	}
	if c.To == "-" {
		out := tar.NewWriter(e.Stdout)
		if err := c.write(ctx, dir, tarFiles{out, e.Now()}); err != nil {
			return err
		}
		return out.Close()
	}
	if err := mustBeEmpty(c.To); err != nil {
		return err
	}
	to := &dirFiles{dir: c.To}
	if err := c.write(ctx, dir, to); err != nil {
		return errors.Join(err, to.undo())
	}
	state, err := loadState(c.To)
	if err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	e.Note(
		"%s has %s; the last is %d",
		c.To,
		view.Counted(stateTotal(state), "job"),
		state.NextID()-1,
	)
	return nil
}

// files take what a backup consists of.
type files interface {
	put(name string, size int64, content io.Reader) error
}

// write copies all of it. The file that makes the others a state comes behind the logs, too: a
// backup whose program was killed, or an archive that was cut off, isn't taken for a whole one.
func (c *BackupCmd) write(ctx context.Context, dir string, to files) error {
	var format []byte
	err := snapshot.Copy(dir, func(name string, size int64, content io.Reader) (err error) {
		if name != formatName {
			return to.put(name, size, content)
		}
		format, err = io.ReadAll(content)
		return err
	})
	_, missing := os.Stat(dir)
	switch {
	case errors.Is(err, snapshot.ErrNoState), errors.Is(missing, fs.ErrNotExist):
		return api.Errorf(api.NotFound, "back up %s: %w", dir, err).
			WithHint("name the state directory with --state-dir DIR")
	case err != nil:
		return fmt.Errorf("back up %s: %w", dir, err)
	}
	if c.Logs {
		logs := c.LogDir
		if logs == "" {
			logs = filepath.Join(dir, "logs")
		}
		if err := copyLogs(ctx, logs, to); err != nil {
			return err
		}
	}
	return to.put(formatName, int64(len(format)), bytes.NewReader(format))
}

// formatName is the file that a whole backup has, and an unfinished one hasn't.
const formatName = "format"

// copyLogs copies the logs that are below a directory.
func copyLogs(ctx context.Context, logs string, to files) error {
	return filepath.WalkDir(logs, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // forgotten meanwhile, with its job
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(logs, path)
		if err != nil {
			return err
		}
		return copyLog(to, path, filepath.Join("logs", name))
	})
}

// copyLog copies what a log has at present; it may grow.
func copyLog(to files, path, name string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return to.put(name, info.Size(), io.LimitReader(f, info.Size()))
}

// dirFiles puts files into a directory; each is on the disk when put returns.
type dirFiles struct {
	dir  string
	made []string // paths
}

// undo removes what was put, so that it can be tried again.
func (d *dirFiles) undo() error {
	var failed error
	for _, path := range d.made {
		failed = errors.Join(failed, os.Remove(path))
		for at := filepath.Dir(path); at != filepath.Clean(d.dir); at = filepath.Dir(at) {
			if os.Remove(at) != nil {
				break // others are in it, to be removed yet
			}
		}
	}
	return failed
}

func (d *dirFiles) put(name string, size int64, content io.Reader) error {
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	d.made = append(d.made, path)
	n, err := io.Copy(f, content)
	if err == nil && n != size {
		err = fmt.Errorf("%s has become shorter", name)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// tarFiles puts files into an archive.
type tarFiles struct {
	out *tar.Writer
	now time.Time
}

func (t tarFiles) put(name string, size int64, content io.Reader) error {
	h := &tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: t.now, Format: tar.FormatPAX}
	if err := t.out.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(t.out, content)
	return err
}

// mustBeEmpty refuses a directory in which something is.
func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	what := fmt.Sprintf("%s is not empty", dir)
	if report, err := snapshot.Check(dir); err == nil && report.ServerID != "" {
		what = fmt.Sprintf("%s holds the state of the server %s", dir, report.ServerID)
		if report.Running {
			what += ", whose daemon runs"
		}
	}
	return api.Errorf(api.Conflict, "%s: nothing was changed", what).
		WithHint("name another directory, or move that one away")
}

// RestoreCmd is `restore DIR|-`: a backup becomes a state directory.
type RestoreCmd struct {
	From string `arg:"" name:"DIR" predictor:"dir" help:"The backup's directory; - for an archive on stdin."`
	stateDirFlag
}

// Run makes the directory beside its place, reads it as a start would, and then moves it there.
func (c *RestoreCmd) Run(_ context.Context, e *cli.Env) error {
	dir, err := c.dir(e)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := mustBeEmpty(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("restore %s: %w", dir, err)
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".restoring-")
	if err != nil {
		return fmt.Errorf("restore %s: %w", dir, err)
	}
	defer os.RemoveAll(work)
	if err := c.read(e.Stdin, &dirFiles{dir: work}); err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	if err := isWhole(work); err != nil {
		return c.unusable(err)
	}
	report, err := snapshot.Check(work)
	if err == nil {
		err = report.Err
	}
	if err == nil && report.ServerID == "" {
		err = snapshot.ErrNoState
	}
	var newer *snapshot.FormatError
	if errors.As(err, &newer) {
		return api.Errorf(api.Invalid, "%s is a newer version's: %w", c.From, err).
			WithHint("%s", newer.Hint())
	}
	if err != nil {
		return c.unusable(err)
	}
	state, err := loadState(work)
	if err != nil {
		return api.Errorf(api.Invalid, "%s can't be read: %w", c.From, err).
			WithHint("nothing was changed; take another backup")
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore %s: %w", dir, err)
	}
	if err := os.Rename(work, dir); err != nil {
		return fmt.Errorf("restore %s: %w", dir, err)
	}
	e.Note("%s is the state of the server %s with %s; the last is %d", dir, report.ServerID,
		view.Counted(stateTotal(state), "job"), state.NextID()-1)
	return nil
}

// unusable says what is wrong with a backup.
func (c *RestoreCmd) unusable(err error) error {
	return api.Errorf(api.Invalid, "%s is no backup that a daemon could start from: %w", c.From,
		err).
		WithHint("nothing was changed; take another backup")
}

// isWhole refuses what there is of a backup that was cut off.
func isWhole(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		return err
	}
	_, err = os.Lstat(filepath.Join(dir, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its last file, %s, is missing: it was never finished", formatName)
	}
	return err
}

// read takes the files out of the backup.
func (c *RestoreCmd) read(stdin io.Reader, to files) error {
	if c.From != "-" {
		return filepath.WalkDir(c.From, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(c.From, path)
			if err != nil || !ofBackup(name) {
				return err
			}
			return copyLog(to, path, name)
		})
	}
	for in := tar.NewReader(stdin); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !ofBackup(filepath.Clean(h.Name)) {
			continue
		}
		if err := to.put(filepath.Clean(h.Name), h.Size, in); err != nil {
			return err
		}
	}
}

// ofBackup tells whether a file is one that Run writes: the state's, and the logs'. What else lies
// in a state directory, as its lock, belongs to a daemon.
func ofBackup(name string) bool {
	if !filepath.IsLocal(name) {
		return false
	}
	first, _, below := strings.Cut(filepath.ToSlash(name), "/")
	if below {
		return first == "logs"
	}
	return name == "server-id" || name == formatName || strings.HasPrefix(name, "snap-") ||
		strings.HasPrefix(name, "wal-")
}
