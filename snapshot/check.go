package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// Report says what Check found.
type Report struct {
	ServerID string // "" if it can't be read
	Running  bool   // a daemon has the directory: the newest segment is in motion
	PID      int    // of the daemon; 0 if it can't be told
	Files    []FileReport
	// Notices lists what a start would announce before it goes on.
	Notices []string
	// Err is why a start would be refused: nil if it would not. Damage in files
	// that a start does not need is in Files only.
	Err error
}

// FileReport is one file of the state.
type FileReport struct {
	Name    string
	Bytes   int64
	Batches int    // of a segment; blocks of a snapshot
	Records uint64 // as far as they can be read
	Err     error  // what is wrong with it; nil if it is sound
}

// Sound tells that nothing at all is wrong.
func (r *Report) Sound() bool {
	return r.Err == nil && !slices.ContainsFunc(r.Files, func(f FileReport) bool {
		return f.Err != nil
	})
}

// Check reads every file of the state and changes nothing. It takes no lock,
// so that it can be used while a daemon runs. Its error is about the directory;
// what is wrong inside is in the report.
func Check(dir string) (Report, error) {
	if _, err := os.Stat(dir); err != nil {
		return Report{}, fmt.Errorf("check state: %w", err)
	}
	return check(OS(dir))
}

func check(fsys FS) (r Report, err error) {
	if r.PID, r.Running, err = fsys.Holder(lockName); err != nil {
		return r, fmt.Errorf("check state: %w", err)
	}
	inv, err := takeInventory(fsys)
	if err != nil {
		return r, fmt.Errorf("check state: %w", err)
	}
	id, ok := parseStoreID(inv.serverID)
	if ok {
		r.ServerID = id.String()
	}
	c, err := loadBeside(fsys, r.Running)
	r.Err = err
	if c != nil {
		r.Notices = c.notices
	}
	for _, n := range inv.snapshots {
		r.add(checkSnapshot(fsys, n, id))
	}
	for i, n := range inv.segments {
		end := int64(-1)
		if i+1 < len(inv.segments) {
			end = prevEnd(fsys, n+1, id)
		} else if c != nil && n == c.spans[len(c.spans)-1].segment {
			end = c.spans[len(c.spans)-1].end // what stands behind was judged by load
		}
		r.add(checkSegment(fsys, n, id, end))
	}
	return r, nil
}

// add adds a file, unless a running daemon has just removed it.
func (r *Report) add(f FileReport) {
	if !r.Running || !errors.Is(f.Err, fs.ErrNotExist) {
		r.Files = append(r.Files, f)
	}
}

// loadBeside loads the state. What is read while a daemon commits may look damaged: a batch may be
// half of one moment and half of a later one, or a file gone. The next reading finds that whole, so
// only what looks the same twice is believed. Where reading never catches up, the last error is it.
func loadBeside(fsys FS, running bool) (c *contents, err error) {
	for before, round := "", 0; round < maxReadings; round++ {
		var inv *inventory
		if inv, err = takeInventory(fsys); err == nil {
			c, err = load(fsys, inv)
		}
		if err == nil || !running || err.Error() == before {
			break
		}
		before = err.Error()
	}
	return c, err
}

// maxReadings bounds how often a state in motion is read before its damage is believed.
const maxReadings = 100

func checkSnapshot(fsys FS, number uint64, store storeID) FileReport {
	report := FileReport{Name: snapshotName(number)}
	r, err := openSnapshot(fsys, number, store)
	if err != nil {
		report.Err = err
		return report
	}
	defer r.Close()
	report.Bytes = r.size
	for u := new(unpacked); ; {
		at := r.off
		u.fill(r)
		if u.err == nil && eachRecord(u.records, u.count, nil) != nil {
			u.err = &CorruptError{r.name, at, errBadRecord.Error()}
		}
		report.Batches, report.Records = int(r.index), r.total
		if u.err == io.EOF {
			return report
		}
		if u.err != nil {
			report.Err = u.err
			return report
		}
	}
}

// prevEnd is where a segment says that the one before it ends; -1 if it can't
// be told.
func prevEnd(fsys FS, number uint64, store storeID) int64 {
	s, err := openSegment(fsys, number, store)
	if err != nil {
		return -1
	}
	defer s.Close()
	return s.head.prevEnd
}

// checkSegment reads a segment up to an offset; if that is negative, to where
// its batches end, which must not be in the middle.
func checkSegment(fsys FS, number uint64, store storeID, end int64) FileReport {
	report := FileReport{Name: segmentName(number)}
	s, err := openSegment(fsys, number, store)
	if err != nil {
		report.Err = err
		return report
	}
	defer s.Close()
	report.Bytes = s.size
	c := &contents{end: s.head.at}
	if end >= 0 {
		err = c.readSpan(s, end)
	} else {
		err = c.readNewest(s)
	}
	report.Batches, report.Records, report.Err = c.batches, c.records, err
	return report
}

// ReadAll gives the state as Replay does, without a lock and without changing
// anything, so that it can be used while a daemon runs: it gives what was
// committed before, and perhaps what is being committed now. A directory
// without state gives nothing.
func ReadAll(dir string, snap, change func(rec []byte) error) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	return readAll(OS(dir), snap, change)
}

func readAll(fsys FS, snap, change func(rec []byte) error) error {
	_, running, err := fsys.Holder(lockName)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	c, err := loadBeside(fsys, running)
	if err != nil || c == nil {
		return err
	}
	return c.replay(fsys, snap, change)
}
