package joblog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"jobserver/tests/budget"
)

// noise are bytes that hardly compress.
func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b) // it never fails
	return b
}

// TestRead reads logs in every form, whole, from the middle, and beyond their end.
func TestRead(t *testing.T) {
	texts := map[string][]byte{
		"empty":       {},
		"short":       []byte("a line\n"),
		"one frame":   bytes.Repeat([]byte("12345678"), frameBytes/8),
		"a byte more": bytes.Repeat([]byte("x"), frameBytes+1),
		"several":     bytes.Repeat([]byte("a line like all the others\n"), 40_000),
		"noise":       noise(frameBytes + 700),
	}
	forms := map[string]func(t *testing.T, path string){
		"plain":  func(*testing.T, string) {},
		"packed": packHere,
		"gzip": func(t *testing.T, path string) {
			by(t, path, gzipSuffix, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
		},
		"zstd by hand": func(t *testing.T, path string) {
			by(t, path, Suffix, func(w io.Writer) io.WriteCloser {
				z, err := zstd.NewWriter(w)
				if err != nil {
					t.Fatal(err)
				}
				return z
			})
		},
	}
	for name, text := range texts {
		for form, put := range forms {
			t.Run(name+"/"+form, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "7.1.out")
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				put(t, path)
				readEverywhere(t, path, text)
			})
		}
	}
}

func packHere(t *testing.T, path string) {
	t.Helper()
	if err := Pack(path); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path); err != nil {
		t.Fatal(err)
	}
}

// by compresses with another program's form, and removes the plain one.
func by(t *testing.T, path, suffix string, form func(io.Writer) io.WriteCloser) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := form(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), os.WriteFile(path+suffix, b.Bytes(), 0o600),
		os.Remove(path)); err != nil {
		t.Fatal(err)
	}
}

func readEverywhere(t *testing.T, path string, text []byte) {
	t.Helper()
	for _, asked := range []string{path, path + Suffix} {
		l, err := Open(asked)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		all, err := io.ReadAll(l.Reader())
		if err != nil || !bytes.Equal(all, text) {
			t.Fatalf("all of it is %d bytes, %v; want %d", len(all), err, len(text))
		}
		if size, err := l.Size(); err != nil || size != int64(len(text)) {
			t.Errorf("its size is %d, %v; want %d", size, err, len(text))
		}
		// Backwards, so that those which are read from their beginning begin anew.
		for _, from := range []int{len(text) + 1, len(text), len(text) - 1, len(text) / 2, 1, 0} {
			want := text[min(max(from, 0), len(text)):]
			got := make([]byte, min(len(want), frameBytes)+1)
			n, err := l.ReadAt(got, int64(max(from, 0)))
			if wantErr := n < len(got); wantErr != errors.Is(err, io.EOF) {
				t.Errorf("from %d: %d bytes and %v", from, n, err)
			}
			if n != min(len(got), len(want)) || !bytes.Equal(got[:n], want[:n]) {
				t.Errorf("from %d: %d bytes of %d, or others", from, n, len(want))
			}
		}
	}
	tail, more, err := Tail(path, 5)
	if want := text[max(len(text)-5, 0):]; err != nil || !bytes.Equal(tail, want) ||
		more != (len(text) > 5) {
		t.Errorf("the tail is %q, %v, %v; want %q", tail, more, err, want)
	}
}

// TestOthersReadIt has zstd itself read what Pack made, which keeps the log's time and rights.
func TestOthersReadIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "7.1.out")
	text := bytes.Repeat([]byte("METRIC: x=1\n"), 200_000)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	then := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
	packHere(t, path)
	out, err := exec.Command("zstd", "-dcq", path+Suffix).Output()
	if err != nil || !bytes.Equal(out, text) {
		t.Fatalf("zstd gives %d bytes, %v", len(out), err)
	}
	info, err := os.Stat(path + Suffix)
	if err != nil || !info.ModTime().Equal(then) || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if info.Size() > int64(len(text))/100 {
		t.Errorf("%d bytes became %d", len(text), info.Size())
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log as it was: %v", err)
	}
}

// TestDamaged reads logs that somebody has cut or overwritten: an error, never wrong text.
func TestDamaged(t *testing.T) {
	text := noise(frameBytes + 5000)
	path := filepath.Join(t.TempDir(), "7.1.out")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	packHere(t, path)
	whole, err := os.ReadFile(path + Suffix)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		damaged := bytes.Clone(whole)
		at := i * len(whole) / 16
		what := fmt.Sprintf("cut at %d", at)
		if i%2 == 0 {
			what = fmt.Sprintf("changed at %d", at)
			damaged[at] ^= 0x10
		} else {
			damaged = damaged[:at]
		}
		if err := os.WriteFile(path+Suffix, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path)
		if err != nil {
			continue
		}
		got, err := io.ReadAll(l.Reader())
		if err == nil && len(got) > 0 && !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes are read, and no error", what, len(got))
		}
		l.Close()
	}
}

// TestNoRoom: what can't be compressed stays as it is, and nothing is left beside it.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "7.1.out")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Pack(path); err == nil {
		t.Error("a directory was compressed")
	}
	if err := Pack(filepath.Join(dir, "8.1.out")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what isn't there: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	for name, is := range map[string]bool{
		"7.1.out.zst.part": true, "7.1.out.zst": false, "7.1.out": false, ".zst.part": false,
	} {
		if IsPart(name) != is {
			t.Errorf("IsPart(%s) is %v", name, !is)
		}
	}
}

// FuzzTable reads whatever may lie at the end of a file.
func FuzzTable(f *testing.F) {
	var b bytes.Buffer
	if err := pack(&b, bytes.NewReader([]byte("text")), 4); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		// Of the frames of one reader, and of the one beside it that reads all.
		defer budget.Hold(t, 2*maxFrame+64*len(file))()
		path := filepath.Join(t.TempDir(), "7.1.out"+Suffix)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path)
		if err != nil {
			return
		}
		defer l.Close()
		_, _ = io.CopyN(io.Discard, l.Reader(), 1<<20) // any error will do
	})
}
