package code

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes files below a new directory. A value that begins with "->" is a link's target, "+x"
// makes a file a program.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			mode := os.FileMode(0o640)
			if strings.HasPrefix(text, "+x") {
				mode = 0o750
			}
			err = os.WriteFile(path, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pack(t *testing.T, dir string) (Info, []byte) {
	t.Helper()
	var out bytes.Buffer
	info, err := Pack(context.Background(), dir, &out)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := Verify(bytes.NewReader(out.Bytes()))
	if err != nil || hash != info.Hash || !ValidHash(hash) {
		t.Fatalf("the archive's hash is %s, %v; packing gave %s", hash, err, info.Hash)
	}
	return info, out.Bytes()
}

// contents lists what an archive holds.
func contents(t *testing.T, archive []byte) []string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.FileInfo().Mode().String()+" "+h.Name+" "+h.Linkname+string(text))
	}
}

func runGit(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("git is not installed")
		}
		t.Skip("git is not installed")
	}
	cmd := exec.Command("git",
		append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c",
			"commit.gpgsign=false"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func TestPack(t *testing.T) {
	files := map[string]string{"b/run.sh": "+x go", "a.txt": "text", "b/link": "->../a.txt",
		".gitignore": "*.o\nout/\n", "x.o": "object", "out/y": "y", "c/.git/HEAD": "no"}
	info, archive := pack(t, tree(t, files))
	want := []string{"-rw-r--r-- .gitignore *.o\nout/\n", "-rw-r--r-- a.txt text",
		"Lrw-r--r-- b/link ../a.txt", "-rwxr-xr-x b/run.sh +x go"}
	if diff := cmp.Diff(want, contents(t, archive)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if info.Files != 4 || info.Commit != "" || len(info.Diff) != 0 {
		t.Errorf("it is %+v", info)
	}
	var less bytes.Buffer
	if _, err := Pack(context.Background(), tree(t, files), &less, "a.txt", "b", "x"); err != nil {
		t.Fatal(err)
	} else if diff := cmp.Diff(want[:1], contents(t, less.Bytes())); diff != "" {
		t.Errorf("without some of it (-want +got):\n%s", diff)
	}
	if again, _ := pack(t, tree(t, files)); again.Hash != info.Hash {
		t.Errorf("the same files have the hashes %s and %s", info.Hash, again.Hash)
	}
	files["a.txt"] = "texT"
	if other, _ := pack(t, tree(t, files)); other.Hash == info.Hash {
		t.Error("other files have the same hash")
	}
}

func TestRevision(t *testing.T) {
	dir := tree(t,
		map[string]string{"kept": "1\n", "gone": "2\n", "sub/f": "3\n", ".gitignore": "*.o\n",
			"forced.o": "4\n"})
	runGit(t, dir, "init", "-q")
	runGit(t, dir, "add", "-f", ".")
	runGit(t, dir, "commit", "-q", "-m", "first")
	info, archive := pack(t, dir)
	if len(info.Commit) < 40 || len(info.Diff) != 0 {
		t.Errorf("the revision is %q, %q", info.Commit, info.Diff)
	}
	if !strings.Contains(strings.Join(contents(t, archive), "\n"), "forced.o") {
		t.Error("a file that git tracks is left out")
	}
	for name, text := range map[string]string{"kept": "one\n", "new file": "5\n", "x.o": "6\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	info, archive = pack(t, dir)
	for _, want := range []string{"-1\n+one\n", "deleted file", "b/new file\n", "+5\n"} {
		if !strings.Contains(string(info.Diff), want) {
			t.Errorf("the difference lacks %q:\n%s", want, info.Diff)
		}
	}
	got := strings.Join(contents(t, archive), "\n")
	if strings.Contains(got, "x.o") || strings.Contains(got, "gone") ||
		!strings.Contains(got, "new file") {
		t.Errorf("packed are:\n%s", got)
	}
	// What is left out is no part of the difference.
	var less bytes.Buffer
	if info, err := Pack(context.Background(), dir, &less, "kept", "new file",
		"gone"); err != nil || len(info.Diff) != 0 {
		t.Errorf("without what was changed: %v, %q", err, info.Diff)
	}
	if got := strings.Join(contents(t, less.Bytes()), "\n"); strings.Contains(got, "kept") ||
		strings.Contains(got, "new file") || !strings.Contains(got, "sub/f") {
		t.Errorf("packed are:\n%s", got)
	}
	// A directory of the work tree is a work tree's too.
	sub, archive := pack(t, filepath.Join(dir, "sub"))
	if diff := cmp.Diff([]string{"-rw-r--r-- f 3\n"}, contents(t, archive)); diff != "" ||
		sub.Commit != info.Commit || len(sub.Diff) != 0 {
		t.Errorf("%s; %+v", diff, sub)
	}
}

// TestIgnore compares with git itself.
func TestIgnore(t *testing.T) {
	files := map[string]string{
		".gitignore": "# comment\n*.log\n!keep.log\n/top\nbuild/\ndocs/**/draft\n**/deep\na/*/z\n" +
			"\\#hash\nspace\\ \ntrail   \n[!x]q\nfoo*bar\nlast/**\n",
		"sub/.gitignore": "\ufeff!*.log\r\n/local\r\n", "x.log": "", "keep.log": "",
		"top": "", "sub/top": "",
		"build/f": "", "sub/build": "", "docs/draft": "",
		"docs/a/b/draft": "", "one/deep/f": "", "deep": "", "a/b/z": "", "a/b/c/z": "", "#hash": "",
		"space ": "", "trail": "", "xq": "", "yq": "",
		"foobar": "", "foo1bar": "", "foo/bar": "", "sub/y.log": "", "sub/local": "",
		"sub/sub/local": "", "last/f": "", "last/g/f": "",
	}
	dir := tree(t, files)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	got, err := walk(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	runGit(t, dir, "init", "-q")
	want, ok, err := tracked(context.Background(), dir)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-git +ours):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	empty := tree(t, map[string]string{".gitignore": "*\n"})
	link := tree(t, map[string]string{"etc": "->/etc/passwd"})
	out := tree(t, map[string]string{"a/up": "->../../x"})
	big := tree(t, map[string]string{"data": "", "code": "x"})
	if err := os.Truncate(filepath.Join(big, "data"), 10<<30); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		empty: empty + " has no file that isn't ignored",
		link: "etc is a link to /etc/passwd, outside of " + link +
			": on a machine it would lead nowhere",
		out: "a/up is a link to ../../x, outside of " + out +
			": on a machine it would lead nowhere",
		big: big + " has 10.0 GiB in 2 files; at most 1 GiB in 100000 " +
			"files can be sent with a job; the largest is data with 10.0 GiB",
		filepath.Join(big, "none"): "there is no directory " + filepath.Join(big, "none"),
		filepath.Join(big, "code"): filepath.Join(big, "code") + " is not a directory",
	} {
		_, err := Pack(context.Background(), dir, io.Discard)
		var own *Error
		if !errors.As(err, &own) || own.Msg != want || own.Next == "" {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// writer touches something when the archive is first written.
type writer struct{ touch func() error }

func (w *writer) Write(p []byte) (int, error) {
	if w.touch != nil {
		touch := w.touch
		w.touch = nil
		if err := touch(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func TestChanges(t *testing.T) {
	for name, touch := range map[string]func(dir string) error{
		"written": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "z"), []byte("other"), 0o644)
		},
		"longer":  func(dir string) error { return os.Truncate(filepath.Join(dir, "z"), 100) },
		"shorter": func(dir string) error { return os.Truncate(filepath.Join(dir, "z"), 0) },
		"came": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "new"), nil, 0o644)
		},
		"replaced": func(dir string) error {
			return os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "z"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			// gzip gives its first bytes when it has seen some: what it has not seen yet is behind
			// a file that doesn't compress.
			random := make([]byte, 1<<20)
			for i, x := 0, uint32(1); i < len(random); i++ {
				x ^= x << 13
				x ^= x >> 17
				x ^= x << 5
				random[i] = byte(x)
			}
			dir := tree(t, map[string]string{"a": string(random), "z": "text"})
			_, err := Pack(context.Background(), dir, &writer{func() error { return touch(dir) }})
			var own *Error
			if !errors.As(err, &own) ||
				!strings.HasPrefix(own.Msg, dir+" changed while it was read: ") {
				t.Errorf("it is packed: %v", err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	_, archive := pack(t, tree(t, map[string]string{"a": "text"}))
	for name, damaged := range map[string][]byte{"empty": nil, "cut": archive[:len(archive)-5],
		"no archive": []byte("hello, this is text")} {
		if hash, err := Verify(bytes.NewReader(damaged)); err == nil {
			t.Errorf("%s has the hash %s", name, hash)
		}
	}
}

// TestResultsAreNoCode: what jobs have left is known by their records, wherever it is.
func TestResultsAreNoCode(t *testing.T) {
	record := "{\n  \"jid\": 17,\n  \"server_id\": \"5031a3\",\n  \"version\": \"1\"}"
	files := map[string]string{
		"run.sh": "go", "results/17/job.json": record, "results/17/out.csv": "1",
		"results/17/deep/er": "2", "flat/x.csv": "3", "flat/18.job.json": record,
		"job.json": record, "conf/job.json": `{"jid": 17, "cmd": "own"}`, "conf/x": "4",
		"own/job.json": "", "link/job.json": "->../results/17/job.json", "link/y": "5",
	}
	_, archive := pack(t, tree(t, files))
	want := []string{`-rw-r--r-- conf/job.json {"jid": 17, "cmd": "own"}`, "-rw-r--r-- conf/x 4",
		"-rw-r--r-- flat/x.csv 3", "Lrw-r--r-- link/job.json ../results/17/job.json",
		"-rw-r--r-- link/y 5", "-rw-r--r-- own/job.json ", "-rw-r--r-- run.sh go"}
	if diff := cmp.Diff(want, contents(t, archive)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
