package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"jobserver/failpoint"
)

// unreservedName marks a directory in quarantine/ with a state whose ids may be
// given out again as yet: it is there before the first file moves, and goes when
// the caller has made durable that they are not (Recovery.Reserved).
const unreservedName = "ids-not-reserved"

// newQuarantine makes a directory quarantine/<UTC time>, and says its name.
func (s *Store) newQuarantine() (string, error) {
	if err := s.fs.Mkdir(quarantineName); err != nil {
		return "", err
	}
	taken, err := s.fs.List(quarantineName)
	if err != nil {
		return "", err
	}
	base := stamp(s.opt.Now())
	name := base
	for i := 2; slices.Contains(taken, name); i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	name = quarantineName + "/" + name
	if err := s.fs.Mkdir(name); err != nil {
		return "", err
	}
	if err := s.fs.SyncDir(quarantineName); err != nil {
		return "", err
	}
	return name, s.fs.SyncDir(".")
}

// setAside moves a state that can't be loaded to quarantine/, for AllowFail.
// `format` goes last: without it, or with it and without the rest, what an
// interruption leaves is refused as damaged again.
func (s *Store) setAside(r *Recovery, inv *inventory, why *CorruptError) error {
	id, err := s.keepServerID(r, inv)
	if err != nil {
		return err
	}
	dir, err := s.newQuarantine()
	if err != nil {
		return err
	}
	if err := s.writeFile(dir+"/"+unreservedName, []byte("The ids of this state are not reserved "+
		"yet: the next start does that, and removes this file.\n")); err != nil {
		return err
	}
	if err := s.fs.SyncDir(dir); err != nil {
		return err
	}
	failpoint.Hit("snapshot.aside-begun")
	for _, n := range inv.snapshots {
		if err := s.fs.Rename(snapshotName(n), dir+"/"+snapshotName(n)); err != nil {
			return err
		}
		failpoint.Hit("snapshot.aside-moved")
	}
	for _, n := range slices.Backward(inv.segments) {
		if err := s.fs.Rename(segmentName(n), dir+"/"+segmentName(n)); err != nil {
			return err
		}
		failpoint.Hit("snapshot.aside-moved")
	}
	if err := s.syncBoth(dir); err != nil {
		return err
	}
	if inv.format != nil {
		if err := s.fs.Rename(formatName, dir+"/"+formatName); err != nil {
			return err
		}
		if err := s.syncBoth(dir); err != nil {
			return err
		}
	}
	failpoint.Hit("snapshot.aside-complete")
	r.Quarantined, r.server = dir, id
	r.Notices = append(r.Notices, fmt.Sprintf("the saved state was damaged and was moved to %s: "+
		"%s, offset %d: %s", dir, why.File, why.Offset, why.Reason))
	return nil
}

// syncBoth makes renames from the state directory to another durable: first
// that a name is there, then that it is gone here.
func (s *Store) syncBoth(dir string) error {
	if err := s.fs.SyncDir(dir); err != nil {
		return err
	}
	return s.fs.SyncDir(".")
}

// quarantines lists the directories in quarantine/, oldest first, and those of
// them whose ids are not reserved yet.
func quarantines(fsys FS) (all, unreserved []string, err error) {
	names, err := fsys.List(quarantineName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, name := range names {
		dir := quarantineName + "/" + name
		files, listErr := fsys.List(dir)
		switch {
		case errors.Is(listErr, syscall.ENOTDIR): // somebody else's
			continue
		case listErr != nil:
			return nil, nil, listErr
		case slices.Contains(files, unreservedName):
			unreserved = append(unreserved, dir)
		}
		all = append(all, dir)
	}
	return all, unreserved, err
}

// keepServerID makes sure that the server id survives. The file's word counts,
// unless it is none, or no file of the state agrees with it and one says another.
func (s *Store) keepServerID(r *Recovery, inv *inventory) (storeID, error) {
	id, ok := parseStoreID(inv.serverID)
	said, err := s.headerIDs(inv)
	if err != nil {
		return id, err
	}
	if ok && (len(said) == 0 || slices.Contains(said, id)) {
		return id, nil
	}
	if len(said) == 0 {
		if inv.serverID == nil {
			return id, nil // a new one will be made
		}
		r.Notices = append(r.Notices, "the server id could not be read: a new one was made, and "+
			"runs that are still on machines are not recognised")
		return id, s.fs.Remove(serverIDName)
	}
	r.Notices = append(r.Notices, "the server id was damaged and was restored from the journal")
	return said[len(said)-1], s.writeServerID(said[len(said)-1])
}

// headerIDs gives the server ids in those headers that can be read. A newer
// format is an error here too: only the newer version may judge such a state.
func (s *Store) headerIDs(inv *inventory) (ids []storeID, err error) {
	read := func(name, magic string, n uint64) {
		f, openErr := s.fs.Open(name, false)
		if openErr != nil {
			return
		}
		defer f.Close()
		h, headErr := readHeader(f, name, magic, n)
		var newer *FormatError
		switch {
		case headErr == nil:
			ids = append(ids, h.store)
		case errors.As(headErr, &newer):
			err = newer
		}
	}
	for _, n := range inv.segments {
		read(segmentName(n), segmentMagic, n)
	}
	for _, n := range inv.snapshots {
		read(snapshotName(n), snapshotMagic, n)
	}
	return ids, err
}

// quarantineDamage sets aside what a start goes on without: a copy of a torn
// tail, and snapshots that are damaged.
func (s *Store) quarantineDamage(r *Recovery, c *contents) error {
	if c.torn == nil && len(c.damaged) == 0 {
		return nil
	}
	dir, err := s.newQuarantine()
	if err != nil {
		return err
	}
	if c.torn != nil {
		if err := s.copyTail(dir, c); err != nil {
			return err
		}
	}
	for _, n := range c.damaged {
		if err := s.fs.Rename(snapshotName(n), dir+"/"+snapshotName(n)); err != nil {
			return err
		}
	}
	r.Notices = append(r.Notices, "what was set aside is in "+dir)
	return s.syncBoth(dir)
}

func (s *Store) copyTail(dir string, c *contents) error {
	name := segmentName(c.spans[len(c.spans)-1].segment)
	f, err := s.fs.Open(name, false)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.withReserve(func() error {
		p, err := s.fs.Replace(fmt.Sprintf("%s/%s.offset-%d", dir, name, c.torn.from))
		if err != nil {
			return err
		}
		defer p.Cleanup()
		if _, err := io.Copy(p,
			io.NewSectionReader(f, c.torn.from, c.torn.to-c.torn.from)); err != nil {
			return err
		}
		return p.Commit()
	})
}
