package agent

import (
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func newCRC() hash.Hash32 { return crc32.New(castagnoli()) }

func write(t testing.TB, file, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte(content), 0o644))
}

// brief is a manifest for comparing: a line an entry, missing path or error.
func brief(m Manifest) []string {
	var lines []string
	for _, e := range m.Entries {
		switch e.Kind {
		case File:
			lines = append(lines, fmt.Sprintf("%s %d", e.Name, e.Size))
		case Dir:
			lines = append(lines, e.Name+"/")
		case Symlink:
			lines = append(lines,
				fmt.Sprintf("%s -> %s%s", e.Name, e.Target,
					map[bool]string{true: " (escapes)"}[e.Escapes]))
		}
	}
	for _, p := range m.Missing {
		lines = append(lines, "missing: "+p)
	}
	for _, e := range m.Errors {
		lines = append(lines, "error: "+e.Reason)
	}
	return lines
}

// A manifest of more paths than go into one request is as if they did.
func TestManifestOfManyPaths(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	for _, name := range []string{"one/res", "two/res", "dir/x", "other/dir/x", "other/dir/y",
		"twice/x", "last"} {
		write(t, filepath.Join(m.login, name), "12345")
	}
	paths := []string{"one/res", "dir", "twice"}
	want := []string{"res 5", "dir/", "dir/x 5", "twice/", "twice/x 5", "last 5"}
	for i := range maxList {
		paths = append(paths, fmt.Sprintf("none/%d", i))
		want = append(want, "missing: "+paths[len(paths)-1])
	}
	paths = append(paths, "two/res", "other/dir", "./twice", "last")
	for _, other := range []string{"one/res", "dir"} {
		want = append(want, "error: another result, "+filepath.Join(m.login, other)+
			", has the same name")
	}
	got, err := c.Manifest(m.ctx(), ManifestRequest{Paths: paths, MaxFiles: 8, MaxBytes: 20})
	must(t, err)
	if diff := cmp.Diff(want, brief(got)); diff != "" || got.Bytes != 20 {
		t.Errorf("%d bytes, and\n%s", got.Bytes, diff)
	}
	if _, err := c.Manifest(m.ctx(), ManifestRequest{Paths: paths, MaxFiles: 7}); !errors.Is(err,
		ErrLimit) {
		t.Errorf("files: %v", err)
	}
	if _, err := c.Manifest(m.ctx(), ManifestRequest{Paths: paths, MaxBytes: 19}); !errors.Is(err,
		ErrLimit) {
		t.Errorf("bytes: %v", err)
	}
}

func TestManifest(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	in := func(name string) string { return filepath.Join(m.login, name) }
	for name, content := range map[string]string{
		"a b/x y.txt": "12345", "a b/sub/deep": "1", "run-1.csv": "a", "run-2.csv": "bb",
		"run-2.log": "ccc", "empty": "", "it's \"q\"": "1",
		"[1]": "x", "star*": "y", "starry": "z", "new\nline": "n", "\xff\xfe": "bin",
		"dot/.hidden": "h", "dot/seen": "s", "linked/f": "f",
		"p/one/res": "1", "p/two/res": "22", "-dash": "d",
	} {
		write(t, in(name), content)
	}
	for link, target := range map[string]string{
		"linked/inside": "f", "linked/up": "sub/../f", "linked/out": "../empty",
		"linked/abs": "/etc/passwd", "link-to-file": "empty", "link-to-dir": "a b",
		"dangling": "nowhere",
	} {
		must(t, os.Symlink(target, in(link)))
	}
	must(t, unix.Mkfifo(in("fifo"), 0o600))
	must(t, os.Mkdir(in("empty-dir"), 0o755))
	for name, tt := range map[string]struct {
		paths []string
		want  []string
	}{
		"file":     {paths: []string{"run-1.csv"}, want: []string{"run-1.csv 1"}},
		"absolute": {paths: []string{in("run-1.csv")}, want: []string{"run-1.csv 1"}},
		"dot dot": {paths: []string{"a b/../run-1.csv", "../login/empty"},
			want: []string{"run-1.csv 1", "empty 0"}},
		"directory": {paths: []string{"a b"},
			want: []string{"a b/", "a b/sub/", "a b/sub/deep 1", "a b/x y.txt 5"}},
		"slash":           {paths: []string{"a b/sub/"}, want: []string{"sub/", "sub/deep 1"}},
		"empty directory": {paths: []string{"empty-dir"}, want: []string{"empty-dir/"}},
		"glob": {paths: []string{"run-*.csv"},
			want: []string{"run-1.csv 1", "run-2.csv 2"}},
		"glob below": {paths: []string{"p/*/res"},
			want: []string{"res 1", "error: another result, " + in("p/one/res") +
				", has the same name"}},
		"prefix": {paths: []string{"run-2"},
			want: []string{"run-2.csv 2", "run-2.log 3"}},
		"prefix below":     {paths: []string{"a b/x"}, want: []string{"x y.txt 5"}},
		"quotes":           {paths: []string{`it's "q"`}, want: []string{`it's "q" 1`}},
		"name like a glob": {paths: []string{"[1]", "star*"}, want: []string{"[1] 1", "star* 1"}},
		"newline, binary": {paths: []string{"new\nline", "\xff"},
			want: []string{"new\nline 1", "\xff\xfe 3"}},
		"hidden": {paths: []string{"dot", "dot/*", "dot/.h"},
			want: []string{"dot/", "dot/.hidden 1", "dot/seen 1", "seen 1", ".hidden 1"}},
		"missing": {paths: []string{"no", "empty", "nowhere/", "empty/x", "zz*", "",
			"dangling/x"},
			want: []string{"empty 0", "missing: no", "missing: nowhere/", "missing: empty/x",
				"missing: zz*", "missing: ", "missing: dangling/x"}},
		"links below": {paths: []string{"linked"},
			want: []string{"linked/", "linked/abs -> /etc/passwd (escapes)", "linked/f 1",
				"linked/inside -> f",
				"linked/out -> ../empty (escapes)", "linked/up -> sub/../f"}},
		"links named": {paths: []string{"link-to-file", "link-to-dir"},
			want: []string{"link-to-file 0", "link-to-dir/", "link-to-dir/sub/",
				"link-to-dir/sub/deep 1", "link-to-dir/x y.txt 5"}},
		"dangling": {paths: []string{"dangling"},
			want: []string{"error: no such file or directory"}},
		"fifo": {paths: []string{"fifo"},
			want: []string{"error: neither a file nor a directory: p---------"}},
		"twice":          {paths: []string{"empty", "./empty", "emp*y"}, want: []string{"empty 0"}},
		"prefix of both": {paths: []string{"empty-"}, want: []string{"empty-dir/"}},
		"dash":           {paths: []string{"-dash"}, want: []string{"-dash 1"}},
		"root": {paths: []string{"/"},
			want: []string{"error: the root directory has no name"}},
		"zero byte": {paths: []string{"a\x00b"}, want: []string{"missing: a\x00b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.Manifest(m.ctx(), ManifestRequest{Paths: tt.paths})
			must(t, err)
			if diff := cmp.Diff(tt.want, brief(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		write(t, in("secret/f"), "x")
		must(t, os.Chmod(in("secret/f"), 0))
		got, err := c.Manifest(m.ctx(), ManifestRequest{Paths: []string{"secret"}})
		must(t, err)
		want := []string{"secret/", "error: permission denied"}
		if os.Geteuid() == 0 {
			want = []string{"secret/", "secret/f 1"}
		}
		if diff := cmp.Diff(want, brief(got)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("limits", func(t *testing.T) {
		if _, err := c.Manifest(m.ctx(),
			ManifestRequest{Paths: []string{"a b"}, MaxFiles: 3}); !errors.Is(err, ErrLimit) {
			t.Errorf("files: %v", err)
		}
		if _, err := c.Manifest(m.ctx(),
			ManifestRequest{Paths: []string{"a b"}, MaxBytes: 5}); !errors.Is(err, ErrLimit) {
			t.Errorf("bytes: %v", err)
		}
	})
	t.Run("base", func(t *testing.T) {
		for _, base := range []string{"star*/..", "p", in("p")} {
			write(t, in("p/r-[x]"), "1")
			got, err := c.Manifest(m.ctx(), ManifestRequest{Base: base, Paths: []string{"r-*"}})
			must(t, err)
			if base == "star*/.." {
				// what a base means is not to be guessed: it is no pattern, and here leads to the
				// login directory
				continue
			}
			if diff := cmp.Diff([]string{"r-[x] 1"}, brief(got)); diff != "" {
				t.Errorf("base %s: %s", base, diff)
			}
		}
	})
	t.Run("of a run", func(t *testing.T) {
		s := m.command("echo x >res; echo y >$JOBSERVER_SCRATCH/res2; echo RESULTS: res; echo " +
			"RESULTS: $JOBSERVER_SCRATCH/res2")
		s.Dir = "p"
		start(t, c, s)
		e := follow(t, c, s.Run)
		var paths []string
		for _, mark := range e.marks {
			paths = append(paths, mark.Text)
		}
		got, err := c.Manifest(m.ctx(), ManifestRequest{Run: s.Run, Paths: paths})
		must(t, err)
		if diff := cmp.Diff([]string{"res 2", "res2 2"}, brief(got)); diff != "" {
			t.Error(diff)
		}
		if _, err := c.Manifest(m.ctx(),
			ManifestRequest{Run: m.command("").Run, Paths: paths}); !errors.Is(err, ErrNoRun) {
			t.Errorf("of no run: %v", err)
		}
	})
}

// collect keeps what a fetch brings.
type collect struct {
	files map[int]string
	done  []Fetched
	holes int64 // bytes of them
	each  func(file int) error
}

func (c *collect) Hole(file int, n int64) error {
	c.holes += n
	return c.Data(file, make([]byte, n))
}

func (c *collect) Data(file int, p []byte) error {
	if c.files == nil {
		c.files = map[int]string{}
	}
	c.files[file] += string(p)
	if c.each != nil {
		return c.each(file)
	}
	return nil
}

func (c *collect) Done(file int, f Fetched) error {
	if file != len(c.done) {
		return fmt.Errorf("file %d came after %d", file, len(c.done))
	}
	c.done = append(c.done, f)
	return nil
}

// wanted makes a request for all files of a manifest.
func wanted(list Manifest) (r FetchRequest) {
	for _, e := range list.Entries {
		if e.Kind == File {
			r.Files = append(r.Files, FetchFile{Source: e.Source, Size: e.Size, ModTime: e.ModTime})
		}
	}
	return r
}

func TestFetch(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	want := map[int]string{}
	for i, size := range []int{0, 1, 4096, dataSize - 5, dataSize, dataSize + 1, 3*dataSize + 17,
		12 << 20, 5, 0} {
		data := strings.Repeat(string(rune('a'+i)), size)
		write(t, filepath.Join(m.login, "d", fmt.Sprintf("%02d", i)), data)
		if size > 0 {
			want[i] = data
		}
	}
	list, err := c.Manifest(m.ctx(), ManifestRequest{Paths: []string{"d"}})
	must(t, err)
	r := wanted(list)
	var got collect
	must(t, c.Fetch(m.ctx(), r, &got))
	if !cmp.Equal(want, got.files) {
		t.Error("the contents differ")
	}
	for i, f := range got.done {
		if f.Status != FetchOK || f.Bytes != int64(len(want[i])) ||
			f.CRC != checksum([]byte(want[i])) {
			t.Errorf("file %d: %+v", i, f)
		}
	}
	// A copy that was cut goes on.
	r.Files = r.Files[6:8]
	r.Files[0].Offset, r.Files[1].Offset = 100, r.Files[1].Size
	got = collect{}
	must(t, c.Fetch(m.ctx(), r, &got))
	if len(got.done) != 2 || got.files[0] != want[6][100:] || got.files[1] != "" ||
		got.done[0].Status != FetchOK {
		t.Errorf("rest: %+v", got.done)
	}
	// A sink's error ends the fetch, not the connection.
	full := errors.New("disk is full")
	if err := c.Fetch(m.ctx(), wanted(list),
		&collect{each: func(int) error { return full }}); !errors.Is(err, full) {
		t.Errorf("sink's error: %v", err)
	}
	must(t, c.Ping(m.ctx()))
}

func TestFetchTellsWhatChanged(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	names := []string{"same", "longer", "shorter", "touched", "gone", "link", "fifo", "dir",
		"rewritten"}
	for _, name := range names {
		write(t, filepath.Join(m.login, name), "0123456789")
	}
	list, err := c.Manifest(m.ctx(), ManifestRequest{Paths: names})
	must(t, err)
	in := func(name string) string { return filepath.Join(m.login, name) }
	write(t, in("longer"), "0123456789a")
	must(t, os.Truncate(in("shorter"), 5))
	must(t, os.Chtimes(in("touched"), time.Time{}, time.Unix(1, 0)))
	for _, name := range []string{"gone", "link", "fifo", "dir"} {
		must(t, os.Remove(in(name)))
	}
	must(t, os.Symlink("same", in("link")))
	must(t, unix.Mkfifo(in("fifo"), 0o600))
	must(t, os.Mkdir(in("dir"), 0o700))
	var got collect
	must(t, c.Fetch(m.ctx(), wanted(list), &got))
	for i, f := range got.done {
		if want := names[i] == "same" || names[i] == "rewritten"; (f.Status == FetchOK) != want ||
			f.Status == FetchFailed || !want && f.Bytes > 0 {
			t.Errorf("%s: %+v", names[i], f)
		}
	}
	r := FetchRequest{Files: []FetchFile{{Source: in("same"), Size: 10, Offset: 11,
		ModTime: list.Entries[0].ModTime}, {Source: "/proc/self/mem", Size: 1}}}
	got = collect{}
	must(t, c.Fetch(m.ctx(), r, &got))
	if got.done[0].Status != FetchFailed || got.done[1].Status == FetchOK {
		t.Errorf("impossible requests: %+v", got.done)
	}
}

func TestFetchWhileFileChanges(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	// Longer than the window, so that the end can't have been read when the beginning is there.
	file := filepath.Join(m.login, "big")
	f, err := os.Create(file)
	must(t, err)
	defer f.Close()
	size := int64(4 * window(methodFetch))
	_, err = f.Write(make([]byte, size))
	must(t, err)
	list, err := c.Manifest(m.ctx(), ManifestRequest{Paths: []string{"big"}})
	must(t, err)
	changed := false
	got := collect{each: func(int) error {
		if changed {
			return nil
		}
		changed = true
		_, err := f.WriteAt([]byte("x"), size-1)
		return err
	}}
	must(t, c.Fetch(m.ctx(), wanted(list), &got))
	if got.done[0].Status != FetchChanged {
		t.Errorf("changed during the copy: %+v", got.done)
	}
}

func TestManyFiles(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	const n = 1000
	long := strings.Repeat("n", 200)
	for i := range n {
		write(t, filepath.Join(m.login, "d", fmt.Sprintf("%s%04d", long, i)), fmt.Sprint(i))
	}
	list, err := c.Manifest(m.ctx(), ManifestRequest{Paths: []string{"d"}})
	must(t, err)
	if len(list.Entries) != n+1 || !slices.IsSortedFunc(list.Entries,
		func(a, b Entry) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatalf("%d entries", len(list.Entries))
	}
	// Enough for several requests.
	r := wanted(list)
	for len(r.Files) < 12*n {
		r.Files = append(r.Files, r.Files...)
	}
	var got collect
	must(t, c.Fetch(m.ctx(), r, &got))
	if len(got.done) != len(r.Files) {
		t.Fatalf("%d files came", len(got.done))
	}
	for i, f := range got.done {
		if f.Status != FetchOK || got.files[i] != fmt.Sprint(i%n) {
			t.Fatalf("file %d: %q, %+v", i, got.files[i], f)
		}
	}
}

func TestHostileManifest(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "/etc/passwd", "a/../../b", "a//b", "a/",
		"a\x00b", "./a"} {
		e := Entry{Name: name, Kind: File}
		if e.check() == nil {
			t.Errorf("an entry %q was taken", name)
		}
	}
	for _, e := range []Entry{{Name: "a", Kind: 0}, {Name: "a", Kind: 9},
		{Name: "a", Kind: File, Size: -1}} {
		if e.check() == nil {
			t.Errorf("an entry %+v was taken", e)
		}
	}
	if err := (&Entry{Name: "a/..b/c", Kind: Dir, Mode: fs.ModePerm}).check(); err != nil {
		t.Error(err)
	}
}

// Holes of files cost the connection nothing; what is read is the same, from whatever offset.
func TestFetchHoles(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	const size = 3 << 20
	for name, data := range map[string][]int64{ // where there is some
		"all": nil, "end": {size - 1}, "begin": {0}, "odd": {100_001, 100_002, 2_000_000},
		"full": {},
		"near": {4096, 4096 + 8192}, "both": {0, size - 1},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(m.login, name)
			want := make([]byte, size)
			f, err := os.Create(file)
			must(t, err)
			for _, at := range data {
				want[at] = 'x'
				_, err := f.WriteAt([]byte("x"), at)
				must(t, err)
			}
			if name == "full" {
				_, err := f.Write(want)
				must(t, err)
			}
			must(t, errors.Join(f.Truncate(size), f.Close()))
			list, err := c.Manifest(m.ctx(), ManifestRequest{Paths: []string{name}})
			must(t, err)
			for _, offset := range []int64{0, 1, 4096, size - 10, size} {
				r := wanted(list)
				r.Files[0].Offset = offset
				var got collect
				must(t, c.Fetch(m.ctx(), r, &got))
				if got.done[0].Status != FetchOK || got.done[0].Bytes != size-offset ||
					got.files[0] != string(want[offset:]) {
					t.Fatalf("from %d: %d bytes, %+v", offset, len(got.files[0]), got.done[0])
				}
				if sparse := name != "full"; offset == 0 && sparse != (got.holes > size/2) {
					t.Errorf("%d bytes came as holes", got.holes)
				}
			}
		})
	}
}
