package snapshot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// Options of Open. Zero values give the defaults; sizes are in bytes.
type Options struct {
	// AllowFail sets a state that can't be loaded aside, in quarantine/, and
	// begins with an empty one. A newer format is refused all the same.
	AllowFail bool
	// MinFree is the free space below which Full says so. Default 0.
	MinFree int64
	// Reserve is the size of a file that is given up when the disk is full, so
	// that Commit works a little longer. Default 8 MiB; negative: none.
	Reserve int64
	// CompactAt is the length of the journal from which NeedsCompaction says so,
	// unless the snapshot is larger than twice that. Default 32 MiB: a start
	// replays about 30 MiB of the scheduler's changes a second.
	CompactAt int64
	// Version is the program's, without blanks: what can't read the state says so. Default: none.
	Version string
	// FS is the file system, rooted in the state directory. Default: OS(dir).
	FS FS
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	// grow is the step by which a segment's file becomes larger: about a
	// thousand small batches cost one Extend. Default 256 KiB.
	grow int64
}

func (o Options) withDefaults() Options {
	if o.Reserve == 0 {
		o.Reserve = 8 << 20
	}
	if o.CompactAt == 0 {
		o.CompactAt = 32 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.grow == 0 {
		o.grow = 256 << 10
	}
	return o
}

// Open locks the state directory (making it, 0700, if there is none), reads
// and checks what it holds, and begins a new segment for what is to come. A
// directory without state simply starts. Its errors: ErrLocked, ErrNetworkFS,
// *CorruptError and *FormatError, which leave the state untouched, or the
// system's.
//
// The state is what Recovery.Replay gives, to be called before the first Commit.
func Open(dir string, opt Options) (*Store, *Recovery, error) {
	opt = opt.withDefaults()
	if opt.FS == nil {
		if err := makeDir(dir); err != nil {
			return nil, nil, err
		}
		opt.FS = OS(dir)
	}
	lock, err := opt.FS.Lock(lockName)
	if err != nil {
		return nil, nil, err
	}
	s := &Store{fs: opt.FS, opt: opt, lock: lock}
	r, err := s.recover()
	if err != nil {
		if s.file != nil {
			s.file.Close()
		}
		lock.Close()
		return nil, nil, err
	}
	return s, r, nil
}

// recover reads the state and makes the store ready to commit.
func (s *Store) recover() (*Recovery, error) {
	if err := s.findReserve(); err != nil {
		return nil, err
	}
	inv, c, err := s.read()
	r := &Recovery{fs: s.fs}
	var corrupt *CorruptError
	if s.opt.AllowFail && errors.As(err, &corrupt) {
		if err := s.setAside(r, inv, corrupt); err != nil {
			return nil, fmt.Errorf("set damaged state aside: %w", err)
		}
		inv, c, err = s.read()
	}
	if err != nil {
		return nil, err
	}
	if err := s.sweep(inv); err != nil {
		return nil, err
	}
	_, unreserved, err := quarantines(s.fs)
	if err != nil {
		return nil, fmt.Errorf("look at what was set aside: %w", err)
	}
	r.Unreserved = len(unreserved) > 0
	if c == nil {
		r.Fresh = true
		err = s.start(inv)
	} else {
		err = s.resume(r, c)
	}
	if err != nil {
		return nil, fmt.Errorf("begin journal: %w", err)
	}
	s.Full() // restores the reserve
	r.ServerID, r.server = s.server.String(), s.server
	return r, nil
}

// read reads the state as the disk has it. A daemon that was killed may have
// left batches in memory only, or ones whose sync had failed, which memory
// still shows: so the newest segments are synced first, and then forgotten by
// the cache; and the names are synced.
func (s *Store) read() (*inventory, *contents, error) {
	if err := s.fs.SyncDir("."); err != nil {
		return nil, nil, fmt.Errorf("sync state directory: %w", err)
	}
	inv, err := takeInventory(s.fs)
	if err != nil {
		return nil, nil, err
	}
	// The last may be one that `format` does not name yet.
	for _, n := range inv.segments[max(len(inv.segments)-2, 0):] {
		if err := s.settle(segmentName(n)); err != nil {
			return nil, nil, fmt.Errorf("settle journal: %w", err)
		}
	}
	c, err := load(s.fs, inv)
	return inv, c, err
}

func (s *Store) settle(name string) error {
	f, err := s.fs.Open(name, true)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	f.DropCache()
	return nil
}

// start makes the first segment of an empty state.
func (s *Store) start(inv *inventory) error {
	id, ok := parseStoreID(inv.serverID)
	if !ok {
		rand.Read(id[:])
		if err := s.writeServerID(id); err != nil {
			return err
		}
	}
	s.server = id
	s.at = position{next: 1}
	_, err := s.begin(1)
	return err
}

func (s *Store) writeServerID(id storeID) error {
	return s.writeFile(serverIDName, []byte(id.String()+"\n"))
}

// resume makes the store go on where the contents end: in a new segment, which
// vouches for the end of the one before, so that no segment is ever truncated or
// written to by two daemons. An empty one is used again, lest a daemon that is
// restarted again and again fill the directory.
func (s *Store) resume(r *Recovery, c *contents) error {
	last := c.spans[len(c.spans)-1]
	s.server, s.at, s.off, s.number = c.server, c.end, last.end, last.segment
	s.since, s.made = c.journalBytes(), len(c.spans)
	s.snapSize.Store(c.snapSize)
	r.c, r.Notices = c, append(r.Notices, c.notices...)
	if err := s.quarantineDamage(r, c); err != nil {
		return err
	}
	if last.end > headerSize || c.torn != nil {
		_, err := s.begin(last.segment + 1)
		return err
	}
	f, err := s.fs.Open(segmentName(last.segment), true)
	if err != nil {
		return err
	}
	size, err := f.Size()
	s.use(f, last.segment, headerSize, size)
	return err
}

// sweep removes the temporary files that a crash left.
func (s *Store) sweep(inv *inventory) error {
	for _, name := range inv.names {
		if !isTemporary(name) {
			continue
		}
		if err := s.fs.Remove(name); err != nil {
			return fmt.Errorf("sweep temporary file: %w", err)
		}
	}
	return nil
}

// stamp is the name of a directory in quarantine/.
func stamp(now time.Time) string { return now.UTC().Format("20060102T150405Z") }
