package fleet

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jobserver/agent"
)

// writeSmall has a file written that is called name in d.
func writeSmall(t *testing.T, w *smallFiles, d *folder, name string, data []byte) *item {
	t.Helper()
	e := agent.Entry{Name: name, Size: int64(len(data)), Mode: 0o640, ModTime: time.Unix(1e9, 42)}
	s := w.begin(e, d)
	for p := data; len(p) > 0; p = p[min(len(p), 1000):] {
		if err := s.add(p[:min(len(p), 1000)]); err != nil {
			t.Fatal(err)
		}
	}
	s.item = &item{Entry: e}
	have := s.item
	_ = w.finish(s) // close says it too
	return have
}

// below opens a directory for the time of a test.
func below(t *testing.T, dir string) *beneath {
	t.Helper()
	b, err := openBeneath(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.close() })
	return b
}

func TestSmallFiles(t *testing.T) {
	dir := t.TempDir()
	part := below(t, dir)
	var w smallFiles
	want := map[string]*item{}
	for k := range 5 {
		folderName := fmt.Sprint("part", k)
		if err := part.mkdir(folderName, 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := openFolder(part, folderName)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			name := fmt.Sprintf("%s/%d", folderName, i)
			want[name] = writeSmall(t, &w, d, name, bytes.Repeat([]byte{byte(i)}, 41*i))
		}
		d.leave() // files of it may still have to be written
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	for name, have := range want {
		data, err := os.ReadFile(part.path(name))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(part.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); int64(len(data)) != have.Size ||
			!bytes.Equal(sum[:], have.sha256) {
			t.Errorf("%s has %d bytes and the hash %x, not %d and %x", name, len(data), sum,
				have.Size, have.sha256)
		}
		if info.Mode() != 0o640 || !sameTime(info.ModTime(), have.ModTime) {
			t.Errorf("%s has mode %v and time %v", name, info.Mode(), info.ModTime())
		}
	}
}

func TestSmallFilesFail(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	part := below(t, dir)
	d, err := openFolder(part, ".")
	if err != nil {
		t.Fatal(err)
	}
	var w smallFiles
	writeSmall(t, &w, d, "link", []byte("x")) // made by somebody else in this moment
	d.leave()
	if err := w.close(); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("the error is %v, which doesn't name the file", err)
	}
	if _, err := os.Lstat(outside); !os.IsNotExist(err) {
		t.Errorf("a link was followed: %v", err)
	}

	s := w.begin(agent.Entry{Source: "/results/x", Size: 3}, &folder{})
	if err := s.add([]byte("1234")); err == nil {
		t.Error("more bytes than the file has were taken")
	}
}
