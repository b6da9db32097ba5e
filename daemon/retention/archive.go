//go:build linux

package retention

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"jobserver/daemon/wire"
	"jobserver/sched"
	"jobserver/view"
)

// archive is where the records of what is forgotten go: a file a month, an object a line, in the
// form of `state export`. What was written and then, as the daemon died, not forgotten, is written
// once more when it is: the last line of a job counts.
type archive struct {
	dir string
}

// storeMatrix archives a matrix's record.
func (k *Keeper) storeMatrix(ctx context.Context, id uint64) error {
	return k.store(ctx, func(st *sched.State) []*wire.Exported {
		if st.MatrixJobs(id) == 0 {
			return nil
		}
		return []*wire.Exported{wire.ExportMatrix(st, id)}
	})
}

// storeJobs archives jobs' records.
func (k *Keeper) storeJobs(ctx context.Context, ids []uint64) error {
	return k.store(ctx, func(st *sched.State) (lines []*wire.Exported) {
		for _, id := range ids {
			if line := wire.ExportJob(st, k.LogDir, id); line != nil {
				lines = append(lines, line)
			}
		}
		return lines
	})
}

// store archives lines durably, unless there is no archive.
func (k *Keeper) store(ctx context.Context, read func(*sched.State) []*wire.Exported) error {
	if k.archive.dir == "" {
		return nil
	}
	var lines []*wire.Exported
	if err := k.Loop.Read(ctx, func(st *sched.State) { lines = read(st) }); err != nil {
		return err
	}
	var text bytes.Buffer
	for _, line := range lines {
		if err := view.WriteObject(&text, view.JSONL, line); err != nil {
			return err
		}
	}
	if err := k.archive.append(k.Now(), text.Bytes()); err != nil {
		return fmt.Errorf("archive what is to be forgotten: %w", err)
	}
	return nil
}

// append writes whole lines to the month's file, durably or not at all: what an earlier one could
// not write to its end, on a full disk say, is taken away.
func (a *archive) append(now time.Time, lines []byte) (err error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(a.dir, now.Format("2006-01")+".jsonl")
	_, statErr := os.Stat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := wholeLines(f)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.WriteAt(lines, end)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(end))
	}
	if statErr == nil {
		return nil
	}
	dir, err := os.Open(a.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // the file's name
}

// wholeLines is where the last whole line of a file ends.
func wholeLines(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const piece = 64 << 10
	for end := info.Size(); end > 0; {
		from := max(end-piece, 0)
		part, err := io.ReadAll(io.NewSectionReader(f, from, end-from))
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}
