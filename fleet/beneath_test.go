package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Nothing that is done to a name follows a link, or leaves the directory.
func TestBeneath(t *testing.T) {
	t.Parallel()
	calls := map[string]func(*beneath, string) error{
		"sub": func(b *beneath, name string) error {
			sub, err := b.sub(name)
			if err == nil {
				sub.close()
			}
			return err
		},
		"mkdir":   func(b *beneath, name string) error { return b.mkdir(name+"/new", 0o700) },
		"symlink": func(b *beneath, name string) error { return b.symlink("x", name+"/new") },
		"create": func(b *beneath, name string) error {
			return b.writeNew(name+"/new", nil, 0o600)
		},
		"open": func(b *beneath, name string) error {
			f, err := b.open(name+"/file", os.O_RDONLY, 0)
			if err == nil {
				f.Close()
			}
			return err
		},
		"lstat": func(b *beneath, name string) error {
			_, err := b.lstat(name + "/file")
			return err
		},
		"list":   func(b *beneath, name string) error { _, err := b.list(name); return err },
		"remove": func(b *beneath, name string) error { return b.remove(name + "/file") },
		"chmod":  func(b *beneath, name string) error { return b.chmod(name, 0o700) },
		"sync":   func(b *beneath, name string) error { return b.sync(name, unix.Fsync) },
		"move to": func(b *beneath, name string) error {
			return moveNew(b, "file", b, name+"/new")
		},
		"move off": func(b *beneath, name string) error {
			return moveNew(b, name+"/file", b, "new")
		},
	}
	names := map[string]bool{ // and whether they are to be reached
		"dir":               true,
		"dir/sub":           true,
		"link":              false,
		"up":                false,
		"abs":               false,
		"link/sub":          false,
		"dir/back/dir":      false,
		"../outside":        false,
		"dir/../../outside": false,
		"/":                 false,
	}
	for _, plain := range []bool{false, true} {
		for name, want := range names {
			for what, call := range calls {
				t.Run(fmt.Sprintf("%s %s plain=%v", what, name, plain), func(t *testing.T) {
					t.Parallel()
					top := t.TempDir()
					for _, dir := range []string{"in/dir/sub", "outside/sub"} {
						if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
							t.Fatal(err)
						}
						for _, at := range []string{dir, filepath.Dir(dir)} {
							if err := os.WriteFile(
								filepath.Join(top, at, "file"),
								[]byte("x"),
								0o600,
							); err != nil {
								t.Fatal(err)
							}
						}
					}
					plant(t, filepath.Join(top, "in"), map[string]string{
						"file":     "x",
						"link":     "-> dir",
						"up":       "-> ../outside",
						"abs":      "-> " + filepath.Join(top, "outside"),
						"dir/back": "-> ..",
					})
					before := tree(t, filepath.Join(top, "outside"))
					b := below(t, filepath.Join(top, "in"))
					b.plain = plain
					if err := call(b, name); (err == nil) != want {
						t.Errorf("the error is %v", err)
					}
					if diff := cmp.Diff(
						before,
						tree(t, filepath.Join(top, "outside")),
					); diff != "" {
						t.Errorf("what is outside has changed:\n%s", diff)
					}
				})
			}
		}
	}
}

// What has a name is never replaced, nor followed.
func TestBeneathReplacesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	plant(
		t,
		dir,
		map[string]string{
			"file":     "old",
			"dir/x":    "old",
			"link":     "-> " + outside,
			"new":      "new",
			"newdir/y": "new",
		},
	)
	b := below(t, dir)
	moves := map[string]func(from, to string) error{
		"move": func(from, to string) error { return moveNew(b, from, b, to) },
		"move slowly": func(from, to string) error {
			return moveNewSlowly(b.fd(), from, b.fd(), to)
		},
	}
	for _, name := range []string{"file", "dir", "link"} {
		for what, call := range map[string]func() error{
			"create":  func() error { return b.writeNew(name, []byte("new"), 0o600) },
			"mkdir":   func() error { return b.mkdir(name, 0o700) },
			"symlink": func() error { return b.symlink("new", name) },
		} {
			if err := call(); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s %s: the error is %v", what, name, err)
			}
		}
		for what, move := range moves {
			for _, from := range []string{"new", "newdir"} {
				if err := move(from, name); !errors.Is(err, fs.ErrExist) {
					t.Errorf("%s %s to %s: the error is %v", what, from, name, err)
				}
			}
		}
	}
	want := map[string]string{
		"file":     "old",
		"dir":      "/",
		"dir/x":    "old",
		"link":     "-> " + outside,
		"new":      "new",
		"newdir":   "/",
		"newdir/y": "new",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	for what, move := range moves {
		if err := errors.Join(move("new", "there"), move("newdir", "theredir")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := errors.Join(move("there", "new"), move("theredir", "newdir")); err != nil {
			t.Errorf("%s back: %v", what, err)
		}
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	if err := b.removeAll("."); err == nil {
		t.Error("it removed itself")
	}
	for _, name := range []string{"file", "dir", "link", "newdir", "nothing", "nothing/at/all"} {
		if err := b.removeAll(name); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"new": "new"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// Results go to a file system of their own where the destination has one.
func TestMoveAcrossDevices(t *testing.T) {
	t.Parallel()
	there, err := os.MkdirTemp("/dev/shm", "jobserver-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(there) })
	from, to := below(t, t.TempDir()), below(t, there)
	files := map[string]string{
		"d":      "/",
		"d/e":    "/",
		"d/e/x":  "1",
		"d/e/l":  "-> x",
		"d/void": "/",
		"y":      "2",
	}
	plant(t, from.dir.Name(), files)
	plant(t, there, map[string]string{"d/e": "/", "old": "3"})
	sparse, err := os.Create(from.path("d/sparse"))
	if err == nil {
		_, err = sparse.WriteAt([]byte("end"), 64<<20)
	}
	if err := errors.Join(err, sparse.Close()); err != nil {
		t.Fatal(err)
	}
	tr := &transfer{
		f: &Fleet{opt: Options{ServerID: "srv"}},
		c: &copying{Copy: results("m", 1, there)},
	}
	mv := mover{t: tr, from: from, to: to}
	if err := errors.Join(mv.tree(".", true), mv.tree(".", false), mv.moveLinks()); err != nil {
		t.Fatal(err)
	}
	st, err := to.lstat("d/sparse")
	if err != nil || st.Size != 64<<20+3 || st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file has %d bytes and %d blocks: %v", st.Size, st.Blocks, err)
	}
	if err := to.remove("d/sparse"); err != nil {
		t.Fatal(err)
	}
	files["old"] = "3"
	if diff := cmp.Diff(files, tree(t, there)); diff != "" {
		t.Error(diff)
	}
}
