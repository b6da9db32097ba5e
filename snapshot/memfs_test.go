package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"syscall"
)

// memFS is an FS that knows what a power cut may leave of it. What was written
// is in the cache; what was synced is on the disk; of what was written since,
// any sector may be on the disk in any of the versions that it had, and of the
// changes of names any may be, in any combination. That is more than real file
// systems do, and all that they promise.
type memFS struct {
	mu      sync.Mutex
	sector  int // in bytes: what the disk writes as a whole
	cache   map[string]memDir
	disk    map[string]memDir
	pending []*nameOp
	nodes   int   // made so far
	size    int64 // of the disk, for Free and ENOSPC; 0: unlimited

	// before is asked about every operation, with its name ("write wal-1"); an
	// error makes it fail. drop is asked about syncs: those that it drops do
	// nothing and claim success. after is called when an operation has changed
	// something. All are called without the lock.
	before func(op string) error
	drop   func(op string) bool
	after  func(op string)
	// keep makes DropCache do nothing.
	keep bool
}

type memDir map[string]*node

// node is a file, or a directory (dir set), which is found by its path.
type node struct {
	id       int
	dir      bool
	cache    []byte
	disk     []byte
	versions map[int][][]byte // of sectors, since the last sync
	lost     map[int]bool     // sectors that a failed sync forgot: clean in the cache, not on disk
}

// nameOp is a change of names that no SyncDir has made durable yet.
type nameOp struct {
	effects []nameEffect
}

type nameEffect struct {
	dir, name string
	node      *node // nil: the name is removed
}

var errNoSpace = &fs.PathError{Op: "write", Path: "memory", Err: syscall.ENOSPC}

func newMemFS(sector int) *memFS {
	return &memFS{sector: sector, cache: map[string]memDir{".": {}},
		disk: map[string]memDir{".": {}}}
}

// begin reports an operation; its error is what the operation is to return.
func (m *memFS) begin(op string) error {
	if m.before != nil {
		return m.before(op)
	}
	return nil
}

func (m *memFS) done(op string) {
	if m.after != nil {
		m.after(op)
	}
}

func (m *memFS) dropped(op string) bool { return m.drop != nil && m.drop(op) }

func (m *memFS) used() (n int64) {
	for _, d := range m.cache {
		for _, f := range d {
			n += int64(len(f.cache))
		}
	}
	return n
}

func (m *memFS) find(name string) (*node, error) {
	f := m.cache[path.Dir(name)][path.Base(name)]
	if f == nil || f.dir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

// change applies a change of names to the cache and notes it for the disk.
func (m *memFS) change(effects ...nameEffect) {
	apply(m.cache, effects)
	m.pending = append(m.pending, &nameOp{effects})
}

func apply(dirs map[string]memDir, effects []nameEffect) {
	for _, e := range effects {
		if dirs[e.dir] == nil {
			dirs[e.dir] = memDir{}
		}
		if e.node == nil {
			delete(dirs[e.dir], e.name)
		} else {
			dirs[e.dir][e.name] = e.node
		}
		if e.node != nil && e.node.dir && dirs[path.Join(e.dir, e.name)] == nil {
			dirs[path.Join(e.dir, e.name)] = memDir{}
		}
	}
}

func (m *memFS) List(dir string) ([]string, error) {
	if err := m.begin("list " + dir); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.cache[dir]
	if d == nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	return slices.Sorted(maps.Keys(d)), nil
}

func (m *memFS) Open(name string, write bool) (File, error) {
	if err := m.begin("open " + name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.find(name)
	if err != nil {
		return nil, err
	}
	return &memFile{m, name, f}, nil
}

func (m *memFS) Rename(from, to string) error {
	op := "rename " + from
	if err := m.begin(op); err != nil {
		return err
	}
	m.mu.Lock()
	f, err := m.find(from)
	if err == nil {
		m.change(nameEffect{path.Dir(to), path.Base(to), f},
			nameEffect{path.Dir(from), path.Base(from), nil})
	}
	m.mu.Unlock()
	m.done(op)
	return err
}

func (m *memFS) Remove(name string) error {
	op := "remove " + name
	if err := m.begin(op); err != nil {
		return err
	}
	m.mu.Lock()
	_, err := m.find(name)
	if err == nil {
		m.change(nameEffect{path.Dir(name), path.Base(name), nil})
	}
	m.mu.Unlock()
	m.done(op)
	return err
}

func (m *memFS) Mkdir(name string) error {
	op := "mkdir " + name
	if err := m.begin(op); err != nil {
		return err
	}
	m.mu.Lock()
	if m.cache[name] == nil {
		m.nodes++
		m.change(nameEffect{path.Dir(name), path.Base(name), &node{id: m.nodes, dir: true}})
	}
	m.mu.Unlock()
	m.done(op)
	return nil
}

func (m *memFS) SyncDir(name string) error {
	op := "syncdir " + name
	if err := m.begin(op); err != nil || m.dropped(op) {
		return err
	}
	m.mu.Lock()
	m.pending = slices.DeleteFunc(m.pending, func(op *nameOp) bool {
		if !slices.ContainsFunc(op.effects, func(e nameEffect) bool { return e.dir == name }) {
			return false
		}
		apply(m.disk, op.effects)
		return true
	})
	m.mu.Unlock()
	m.done(op)
	return nil
}

// Lock always succeeds: what the simulator lets die does not unlock.
func (m *memFS) Lock(string) (io.Closer, error)   { return io.NopCloser(nil), nil }
func (m *memFS) Holder(string) (int, bool, error) { return 0, false, nil }
func (m *memFS) Free() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.size == 0 {
		return 1 << 40, nil
	}
	return m.size - m.used(), nil
}

func (m *memFS) Replace(name string) (Pending, error) {
	op := "create " + name
	if err := m.begin(op); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.nodes++
	f := &node{id: m.nodes}
	temp := path.Join(path.Dir(name), fmt.Sprintf(".%s%d", path.Base(name), m.nodes))
	m.change(nameEffect{path.Dir(temp), path.Base(temp), f})
	m.mu.Unlock()
	m.done(op)
	return &memPending{memFile{m, temp, f}, name, false}, nil
}

type memFile struct {
	fs   *memFS
	name string
	node *node
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.cache)), nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.begin("read " + f.name); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.node.cache)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.cache[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// shortWrite is an error after which half of the bytes are written.
type shortWrite struct{ error }

func (e shortWrite) Unwrap() error { return e.error }

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	return f.write("write "+f.name, b, off)
}

func (f *memFile) Extend(from, to int64) error {
	_, err := f.write("extend "+f.name, make([]byte, to-from), from)
	return err
}

func (f *memFile) write(op string, b []byte, off int64) (int, error) {
	err := f.fs.begin(op)
	f.fs.mu.Lock()
	if _, short := err.(shortWrite); short {
		b = b[:len(b)/2]
	} else if err != nil {
		b = nil
	} else if f.fs.size > 0 {
		if end := int64(len(f.node.cache)) + f.fs.size - f.fs.used(); off+int64(len(b)) > end {
			b, err = b[:max(0, min(int64(len(b)), end-off))], errNoSpace
		}
	}
	f.node.write(f.fs.sector, b, off)
	f.fs.mu.Unlock()
	f.fs.done(op)
	return len(b), err
}

// write changes the cache, and notes the version that each sector gets.
func (n *node) write(sector int, b []byte, off int64) {
	if len(b) == 0 {
		return
	}
	if grow := int(off) + len(b) - len(n.cache); grow > 0 {
		n.cache = append(n.cache, make([]byte, grow)...)
	}
	copy(n.cache[off:], b)
	if n.versions == nil {
		n.versions = map[int][][]byte{}
	}
	first, end := int(off)/sector, int(off)+len(b)
	now := slices.Clone(n.cache[first*sector : min((end+sector-1)/sector*sector, len(n.cache))])
	for i := first; i*sector < end; i++ {
		size := min(sector, len(now))
		n.versions[i] = append(n.versions[i], now[:size:size])
		now = now[size:]
		delete(n.lost, i)
	}
}

// Sync makes the file durable. One that fails makes none of it durable, and no
// later one will, unless it is written again: that is what Linux does.
func (f *memFile) Sync() error {
	op := "sync " + f.name
	err := f.fs.begin(op)
	if errors.Is(err, errKilled) || err == nil && f.fs.dropped(op) {
		return err
	}
	f.fs.mu.Lock()
	n := f.node
	if err != nil {
		if n.lost == nil {
			n.lost = map[int]bool{}
		}
		for i := range n.versions {
			n.lost[i] = true
		}
	} else {
		disk := make([]byte, len(n.cache))
		copy(disk, n.disk)
		for i := range n.versions {
			if !n.lost[i] {
				copy(disk[i*f.fs.sector:],
					n.cache[i*f.fs.sector:min((i+1)*f.fs.sector, len(n.cache))])
				delete(n.versions, i)
			}
		}
		n.disk = disk
	}
	f.fs.mu.Unlock()
	f.fs.done(op)
	return err
}

// DropCache forgets what is clean in the cache, which is what was lost.
func (f *memFile) DropCache() {
	if f.fs.keep {
		return
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, sector := f.node, f.fs.sector
	for i := range n.lost {
		b := n.cache[i*sector : min((i+1)*sector, len(n.cache))]
		clear(b)
		if i*sector < len(n.disk) {
			copy(b, n.disk[i*sector:])
		}
		delete(n.versions, i)
	}
	n.lost = nil
}

type memPending struct {
	memFile
	target    string
	committed bool
}

func (p *memPending) Write(b []byte) (int, error) {
	return p.WriteAt(b, int64(len(p.node.cache)))
}

// Commit does as renameio does: fsync, rename.
func (p *memPending) Commit() error {
	if err := p.Sync(); err != nil {
		return err
	}
	if err := p.fs.Rename(p.name, p.target); err != nil {
		return err
	}
	p.committed = true
	return nil
}

func (p *memPending) Cleanup() {
	if !p.committed {
		_ = p.fs.Remove(p.name)
	}
}

// crash gives what a power cut at this moment may leave: choose(n) picks one of
// n possibilities, in an order that depends on the state only. Possibility 0 is
// always that which was synced, and the last that which is in the cache.
func (m *memFS) crash(choose func(n int) int) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	// What each file holds is chosen first, whether or not it will have a name,
	// so that the number of choices depends on the state only.
	files := map[int]*node{}
	for _, d := range m.disk {
		for _, n := range d {
			files[n.id] = n
		}
	}
	for _, op := range m.pending {
		for _, e := range op.effects {
			if e.node != nil {
				files[e.node.id] = e.node
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(files)) {
		files[id] = files[id].crash(m.sector, choose)
	}
	dirs := map[string]memDir{}
	for name, d := range m.disk {
		dirs[name] = maps.Clone(d)
	}
	for _, op := range m.pending {
		if choose(2) == 1 {
			apply(dirs, op.effects)
		}
	}
	left := newMemFS(m.sector)
	left.size, left.nodes = m.size, m.nodes
	for name, d := range dirs {
		left.cache[name], left.disk[name] = memDir{}, memDir{}
		for base, n := range d {
			left.cache[name][base], left.disk[name][base] = files[n.id], files[n.id]
		}
	}
	return left
}

func (n *node) crash(sector int, choose func(n int) int) *node {
	if n.dir {
		return n
	}
	content := slices.Clone(n.disk)
	if len(n.cache) > len(n.disk) {
		// The size may be on the disk before the data.
		sizes := []int{len(n.disk), (len(n.disk) + len(n.cache)) / 2, len(n.cache)}
		content = append(content, make([]byte, sizes[choose(3)]-len(n.disk))...)
	}
	for _, i := range slices.Sorted(maps.Keys(n.versions)) {
		versions := n.versions[i]
		if !n.visible(i, sector) {
			continue
		}
		v := choose(len(versions) + 1)
		if v == 0 {
			continue
		}
		if end := i*sector + len(versions[v-1]); end > len(content) {
			content = append(content, make([]byte, end-len(content))...)
		}
		copy(content[i*sector:], versions[v-1])
	}
	return &node{id: n.id, cache: content, disk: slices.Clone(content)}
}

// visible tells whether it matters if a sector reaches the disk: zeros where
// there are none yet make no difference, but for the size.
func (n *node) visible(i, sector int) bool {
	old := n.disk[min(i*sector, len(n.disk)):min((i+1)*sector, len(n.disk))]
	for _, v := range n.versions[i] {
		k := min(len(v), len(old))
		if !bytes.Equal(v[:k], old[:k]) || len(bytes.Trim(v[k:], "\x00")) > 0 {
			return true
		}
	}
	return false
}

// crashes calls fn with up to limit of the states that a power cut may leave:
// all, if there are not more; else the extremes, each choice alone, all but
// each, and random ones.
func (m *memFS) crashes(limit int, rng *rand.Rand, fn func(*memFS)) {
	var radix []int
	total := 1
	m.crash(func(n int) int {
		radix = append(radix, n)
		total = min(total*n, limit+1)
		return n - 1
	})
	pick := make([]int, len(radix))
	build := func() {
		i := 0
		fn(m.crash(func(n int) int {
			i++
			return pick[i-1]
		}))
	}
	if total <= limit {
		for {
			build()
			i := 0
			for ; i < len(pick) && pick[i] == radix[i]-1; i++ {
				pick[i] = 0
			}
			if i == len(pick) {
				return
			}
			pick[i]++
		}
	}
	build() // nothing
	for i := range pick {
		pick[i] = radix[i] - 1
	}
	build() // everything
	for range limit - 2 {
		// Mostly on, mostly off, or even, as the interesting states differ.
		bias := rng.IntN(5)
		for i, n := range radix {
			switch r := rng.IntN(4); {
			case r >= bias:
				pick[i] = 0
			default:
				pick[i] = 1 + rng.IntN(n-1)
			}
		}
		if k := rng.IntN(len(pick)); bias == 0 || bias == 4 {
			if pick[k] == 0 {
				pick[k] = radix[k] - 1
			} else {
				pick[k] = 0
			}
		}
		build()
	}
}
