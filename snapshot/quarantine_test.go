package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func noon() time.Time { return time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC) }

// damage changes one byte in the middle of a file, where its records are.
func (img image) damage(name string, at int) image {
	broken := img.clone()
	broken[name] = bytes.Clone(img[name])
	broken[name][at] ^= 0x55
	return broken
}

// TestAllowFail: a damaged state is set aside as it is, the server id stays, and
// what can be read of it is given to Salvage.
func TestAllowFail(t *testing.T) {
	t.Parallel()
	img, recs := saved(t, true)
	id := strings.TrimSpace(string(img[serverIDName]))
	wal := img.names("wal-")
	lastSnap := slices.Max(img.names("snap-"))
	noFormat := img.clone()
	delete(noFormat, formatName)
	otherID := img.clone()
	otherID[serverIDName] = []byte(strings.Repeat("0123", 8) + "\n")
	for _, test := range []struct {
		name    string
		img     image
		missing int // records that can't be salvaged
	}{
		{"a batch in the middle", img.damage(wal[len(wal)-2], headerSize+40), 2},
		{"a segment's header", img.damage(wal[len(wal)-1], 30), 0},
		{"format", img.damage(formatName, 3), 0},
		{"no format", noFormat, 0},
		{"another server id", otherID, 0},
		{"no server id", img.damage(serverIDName, 5), 0},
		{"a snapshot's block, and its segment's header",
			img.damage(lastSnap, headerSize+blockHeader+4).damage(wal[len(wal)-1], 30), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := test.img.fs()
			if _, _, err := Open("", Options{FS: m, Now: noon}); err == nil {
				t.Fatal("it was not refused")
			}
			s, r, err := Open("", Options{FS: m, Now: noon, Reserve: -1, AllowFail: true})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Fresh || !r.Unreserved || r.ServerID != id ||
				r.Quarantined != "quarantine/20300102T120000Z" || len(r.Notices) == 0 {
				t.Errorf("recovery: %+v", r)
			}
			after := m.image()
			for name, content := range test.img {
				if _, moved := after[r.Quarantined+"/"+name]; name != serverIDName &&
					name != reserveName &&
					(!moved || !bytes.Equal(after[r.Quarantined+"/"+name], content)) {
					t.Errorf("%s was not set aside as it was", name)
				}
			}
			found := map[string]bool{}
			if err := r.Salvage(func(rec []byte) { found[string(rec)] = true }); err != nil {
				t.Error(err)
			}
			missing := 0
			for _, rec := range recs {
				if !found[string(rec)] {
					missing++
				}
				delete(found, string(rec))
			}
			if missing != test.missing || len(found) > 0 {
				t.Errorf("%d records are missing, these were invented: %v", missing, found)
			}
			if err := s.Commit(records("new", 1)); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			for _, unreserved := range []bool{true, false} {
				_, r = open(t, "", Options{FS: m, AllowFail: true})
				if _, change := replayed(t, r); !cmp.Equal(change, []string{"new-0"}) ||
					r.Quarantined != "" || r.Unreserved != unreserved {
					t.Errorf("the next start: %q, %+v", change, r)
				}
				if err := r.Reserved(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestPowerCutWhileSettingAside: an interrupted AllowFail is refused as damaged,
// and can be done again, or is complete; the damaged state never passes for sound,
// and what of it was moved before is salvaged too.
func TestPowerCutWhileSettingAside(t *testing.T) {
	t.Parallel()
	img, recs := saved(t, true)
	wal := img.names("wal-")
	m := img.damage(wal[len(wal)-2], headerSize+40).fs()
	sim := newSimulation(1, 20, 0)
	complete, refused := 0, 0
	m.after = func(op string) {
		m.crashes(sim.states, sim.rng, func(left *memFS) {
			_, r, err := Open("", Options{FS: left, grow: 64, Reserve: -1})
			if err != nil {
				refused++
				_, r, err = Open("", Options{FS: left, grow: 64, Reserve: -1, AllowFail: true})
			} else {
				complete++
			}
			if err != nil || r.Changes() > 0 || r.Snapshot() != "" {
				t.Fatalf("power cut after %q: %+v, %v", op, r, err)
			}
			found := map[string]bool{}
			if err := r.Salvage(func(rec []byte) { found[string(rec)] = true }); err != nil ||
				!r.Unreserved || len(found) != len(recs)-2 {
				t.Errorf("power cut after %q: %d of %d records are salvaged, %+v, %v", op,
					len(found), len(recs), r, err)
			}
		})
	}
	if _, _, err := Open("", Options{FS: m, grow: 64, Reserve: -1, AllowFail: true}); err != nil {
		t.Fatal(err)
	}
	if complete == 0 || refused == 0 {
		t.Errorf("%d were complete, %d refused", complete, refused)
	}
}

// TestSalvageFromBrokenDisk: what can't be read of a file that was set aside
// doesn't hide the rest.
func TestSalvageFromBrokenDisk(t *testing.T) {
	t.Parallel()
	img, recs := saved(t, true)
	m := img.damage(formatName, 3).fs()
	_, r, err := Open("", Options{FS: m, grow: 64, Reserve: -1, AllowFail: true})
	if err != nil {
		t.Fatal(err)
	}
	wal := img.names("wal-")
	broken := r.Quarantined + "/" + wal[len(wal)-1]
	m.before = func(op string) error {
		if op == "read "+broken {
			return syscall.EIO
		}
		return nil
	}
	found := map[string]bool{}
	if err := r.Salvage(func(rec []byte) { found[string(rec)] = true }); err != nil {
		t.Error(err)
	}
	if len(found) == 0 || len(found) >= len(recs) {
		t.Errorf("%d of %d records are salvaged", len(found), len(recs))
	}
	m.before = func(op string) error {
		if op == "read "+broken {
			return syscall.ENOMEM
		}
		return nil
	}
	if err := r.Salvage(func([]byte) {}); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("what may be there and can't be read now gives %v", err)
	}
}

// TestQuarantineNames: two in a second get two directories.
func TestQuarantineNames(t *testing.T) {
	t.Parallel()
	s := &Store{fs: newMemFS(512), opt: Options{Now: noon}}
	var names []string
	for range 3 {
		name, err := s.newQuarantine()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	want := []string{"quarantine/20300102T120000Z", "quarantine/20300102T120000Z-2",
		"quarantine/20300102T120000Z-3"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// TestCheckTellsAll: every damaged file is listed, also those that a start does
// not need.
func TestCheckTellsAll(t *testing.T) {
	t.Parallel()
	img, _ := saved(t, true)
	if r, err := check(img.fs()); err != nil || !r.Sound() || len(r.Files) != len(img)-2 ||
		r.Running {
		t.Errorf("a sound state: %+v, %v", r, err)
	}
	for _, name := range append(img.names("wal-"), img.names("snap-")...) {
		m := img.damage(name, headerSize-1).fs()
		r, err := check(m)
		if err != nil {
			t.Fatal(err)
		}
		var bad []string
		for _, f := range r.Files {
			if f.Err != nil {
				bad = append(bad, f.Name)
			}
		}
		if r.Sound() || !cmp.Equal(bad, []string{name}) {
			t.Errorf("%s is damaged, and reported are %q", name, bad)
		}
		if len(m.pending) > 0 {
			t.Errorf("%s: the check changed something", name)
		}
	}
}

func TestReadAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := open(t, dir, Options{})
	for i := range 3 {
		if err := s.Commit(records(fmt.Sprint(i), 1)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	keep := func(rec []byte) error { got = append(got, string(rec)); return nil }
	if err := ReadAll(dir, keep, keep); err != nil ||
		!cmp.Equal(got, []string{"0-0", "1-0", "2-0"}) {
		t.Errorf("beside a daemon: %q, %v", got, err)
	}
	if err := ReadAll(dir+"/none", keep, keep); err == nil {
		t.Error("a directory that is not there was read")
	}
}
