package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// codeArchive makes an archive, and its hash.
func codeArchive(t *testing.T, headers ...tar.Header) (archive []byte, hash string) {
	t.Helper()
	var out bytes.Buffer
	h := sha256.New()
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(io.MultiWriter(zip, h))
	for _, head := range headers {
		text := head.Name
		if head.Typeflag == tar.TypeReg {
			head.Size = int64(len(text))
		} else {
			text = ""
		}
		if err := w.WriteHeader(&head); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), hex.EncodeToString(h.Sum(nil))
}

// send brings an archive in two pieces, the second first.
func send(a *agent, hash, token string, archive []byte) (codeReply, error) {
	half := len(archive) / 2
	for _, r := range []codeRequest{
		{Hash: hash, Token: token, Offset: int64(half), Data: archive[half:]},
		{Hash: hash, Token: token, Data: archive[:half]},
	} {
		if reply, err := a.code(&r); err != nil || reply.Dir != "" {
			return reply, err
		}
	}
	return a.code(&codeRequest{Hash: hash, Token: token, Last: true})
}

func TestCode(t *testing.T) {
	a := &agent{root: t.TempDir()}
	t.Cleanup(func() {
		if err := removeAll(codeDir(a.root)); err != nil {
			t.Error(err)
		}
	})
	archive, hash := codeArchive(t, tar.Header{Name: "a/b/run", Typeflag: tar.TypeReg, Mode: 0o755},
		tar.Header{Name: "a/f", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a/f"})
	if reply, err := a.code(&codeRequest{Hash: hash}); err != nil || reply.Dir != "" {
		t.Fatalf("at first it is in %q: %v", reply.Dir, err)
	}
	for _, token := range []string{"one", "two"} { // the second is told that it is there
		reply, err := send(a, hash, token, archive)
		if err != nil || reply.Dir != filepath.Join(a.root, "code", hash, "files") {
			t.Fatalf("it is in %q: %v", reply.Dir, err)
		}
	}
	dir := filepath.Join(a.root, "code", hash, "files")
	for name, want := range map[string]string{"a/b/run": "-r-xr-xr-x a/b/run",
		"a/f": "-r--r--r-- a/f", "l": "-r--r--r-- a/f", "a/b": "dr-xr-xr-x"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got := info.Mode().String()
		if !info.IsDir() {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			got += " " + string(text)
		}
		if got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	left, err := os.ReadDir(codeDir(a.root))
	if err != nil || len(left) != 2 { // it, and the lock
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestWrittenCode has jobs write into code, as root can, or whoever gives himself the right.
func TestWrittenCode(t *testing.T) {
	archive, hash := codeArchive(t, tar.Header{Name: "a/f", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "a/g", Typeflag: tar.TypeReg, Mode: 0o644})
	for name, c := range map[string]struct {
		touch   string
		changed string
	}{
		"nothing":  {"true", ""},
		"caches":   {"mkdir a/__pycache__ __pycache__; echo x > a/__pycache__/f.pyc", ""},
		"written":  {"chmod u+w a/f; echo more >> a/f", "a/f"},
		"the same": {"chmod u+w a/f; cp a/f x && cat x > a/f; rm x", "a/f"},
		"time restored": {"touch -r a/f t; chmod u+w a/f; tr a-z A-Z < a/f > x; cat x > a/f; " +
			"chmod a-w a/f;" +
			" touch -r t a/f; rm t x", "a/f"},
		"swapped":      {"cp -p a/f x; mv -f x a/f", "a/f"},
		"a module":     {"mkdir helper; echo > helper/__init__.py", "helper"},
		"a file":       {"echo > a/new", "a/new"},
		"a namespace":  {"mkdir a/helper", "a/helper"},
		"sourceless":   {"echo > a/h.pyc", "a/h.pyc"},
		"no directory": {"echo > __pycache__", "__pycache__"},
		"a link":       {"ln -s / a/__pycache__", "a/__pycache__"},
		"other mode":   {"chmod 777 a/g", "a/g"},
		"removed":      {"rm -f a/g", "a/g"},
		"replaced":     {"rm -f a/g && mkdir a/g", "a/g"},
		"moved":        {"mv a b", "a/f"},
		"moved aside":  {"mv a b && echo > a", "a/f"},
		"unsealed":     {"echo > ../seal", "seal"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &agent{root: t.TempDir()}
			defer removeAll(codeDir(a.root))
			first, err := send(a, hash, "one", archive)
			if err != nil {
				t.Fatal(err)
			}
			job := exec.Command("sh", "-c", "chmod u+w . a; "+c.touch+"; true")
			job.Dir = first.Dir
			if out, err := job.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			found, err := a.code(&codeRequest{Hash: hash})
			if c.changed == "" {
				if diff := cmp.Diff(codeReply{Dir: first.Dir}, found); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				return
			}
			if diff := cmp.Diff(codeReply{Changed: c.changed}, found); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			// The runs that have it keep it; the next ones get another.
			second, err := send(a, hash, "two", archive)
			if diff := cmp.Diff(codeReply{Dir: filepath.Join(codeDir(a.root), hash+".2", "files"),
				Changed: c.changed}, second); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if _, err := os.Stat(first.Dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPruneCode has more code than is kept, some of it in use.
func TestPruneCode(t *testing.T) {
	a := &agent{root: t.TempDir()}
	defer removeAll(codeDir(a.root))
	now := time.Now()
	var dirs []string // the longest unused first
	for i := range keepCopies + 5 {
		archive, hash := codeArchive(t,
			tar.Header{Name: fmt.Sprint("f", i), Typeflag: tar.TypeReg, Mode: 0o644})
		reply, err := send(a, hash, "one", archive)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, reply.Dir)
	}
	for i, dir := range dirs {
		used := now.Add(time.Duration(i-len(dirs)) * time.Hour)
		if err := os.Chtimes(filepath.Join(filepath.Dir(dir), storeSeal), used, used); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name, code string, exit bool) {
		t.Helper()
		dir := filepath.Join(runsDir(a.root), "other", "m", name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, fileRun))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		spec := specRecord{Command: "true", Code: code}
		if _, err := f.WriteAt(formatRecord(fileSpec, spec.lines), slotsSize); err != nil {
			t.Fatal(err)
		}
		if exit {
			if err := slotExit.write(f, (&Exit{Cause: Exited}).lines); err != nil {
				t.Fatal(err)
			}
		}
	}
	// One was written to and nobody has it; another one a run has.
	written := func(dir string) {
		t.Helper()
		job := exec.Command("sh", "-c", "for f in *; do chmod u+w $f; echo more >> $f; done")
		job.Dir = dir
		if out, err := job.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	written(dirs[8])
	written(dirs[9])
	run("3.1.0-t", dirs[9], false)
	run("1.1.0-t", dirs[1], false)
	run("2.1.0-t", dirs[2], true)
	if err := a.codeStore().prune(now); err != nil {
		t.Fatal(err)
	}
	for i, dir := range dirs {
		_, err := os.Stat(dir)
		if there, want := err == nil, i == 1 || i >= 5 && i != 8; there != want {
			t.Errorf("copy %d of %d: %v", i, len(dirs), err)
		}
	}
	// What was asked for a moment ago stays, however much there is.
	for _, dir := range slices.Delete(slices.Clone(dirs[5:]), 3, 4) {
		if err := os.Chtimes(filepath.Join(filepath.Dir(dir), storeSeal), now, now); err != nil {
			t.Fatal(err)
		}
	}
	archive, hash := codeArchive(t, tar.Header{Name: "last", Typeflag: tar.TypeReg, Mode: 0o644})
	if _, err := send(a, hash, "one", archive); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(codeDir(a.root), "*", storeFiles))
	if err != nil || len(left) != keepCopies+1 {
		t.Errorf("%d copies are left, %v", len(left), err)
	}
}

// TestHostileCode sends what is not what it is called, or would reach out of its directory.
func TestHostileCode(t *testing.T) {
	good, hash := codeArchive(t, tar.Header{Name: "f", Typeflag: tar.TypeReg})
	outside, outsideHash := codeArchive(t, tar.Header{Name: "../f", Typeflag: tar.TypeReg})
	absolute, absoluteHash := codeArchive(t, tar.Header{Name: "/etc/f", Typeflag: tar.TypeReg})
	link, linkHash := codeArchive(t,
		tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../.."},
		tar.Header{Name: "l/f", Typeflag: tar.TypeReg})
	device, deviceHash := codeArchive(t, tar.Header{Name: "d", Typeflag: tar.TypeChar})
	twice, twiceHash := codeArchive(t, tar.Header{Name: "f", Typeflag: tar.TypeReg},
		tar.Header{Name: "f", Typeflag: tar.TypeReg})
	for name, c := range map[string]struct {
		hash    string
		archive []byte
		want    string
	}{
		"other hash": {strings.Repeat("0", 64), good, "what arrived has the hash " + hash},
		"no hash":    {"../../etc", good, "is no hash of code"},
		"cut":        {hash, good[:len(good)-10], "unexpected EOF"},
		"outside":    {outsideHash, outside, `the archive has a file "../f"`},
		"absolute":   {absoluteHash, absolute, `the archive has a file "/etc/f"`},
		"by a link":  {linkHash, link, "escapes"},
		"device":     {deviceHash, device, `the archive has "d" of type '3'`},
		"twice":      {twiceHash, twice, "exists"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &agent{root: filepath.Join(t.TempDir(), "root")}
			if reply, err := send(a, c.hash, "token", c.archive); err == nil || reply.Dir != "" ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %v, want %s", reply.Dir, err, c.want)
			}
			left, err := os.ReadDir(codeDir(a.root))
			if err != nil && !os.IsNotExist(err) || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
			if entries, _ := os.ReadDir(filepath.Dir(a.root)); len(entries) > 1 {
				t.Errorf("it reached out: %v", entries)
			}
		})
	}
}
