package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
		{Hash: hash, Token: token, Offset: int64(half), Data: archive[half:]}, {Hash: hash, Token: token, Data: archive[:half]},
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
		if err := removeSealed(codeDir(a.root)); err != nil {
			t.Error(err)
		}
	})
	archive, hash := codeArchive(t, tar.Header{Name: "a/b/run", Typeflag: tar.TypeReg, Mode: 0o755}, tar.Header{Name: "a/f", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a/f"})
	if reply, err := a.code(&codeRequest{Hash: hash}); err != nil || reply.Dir != "" {
		t.Fatalf("at first it is in %q: %v", reply.Dir, err)
	}
	for _, token := range []string{"one", "two"} { // the second is told that it is there
		reply, err := send(a, hash, token, archive)
		if err != nil || reply.Dir != filepath.Join(a.root, "code", hash) {
			t.Fatalf("it is in %q: %v", reply.Dir, err)
		}
	}
	dir := filepath.Join(a.root, "code", hash)
	for name, want := range map[string]string{"a/b/run": "-r-xr-xr-x a/b/run", "a/f": "-r--r--r-- a/f", "l": "-r--r--r-- a/f", "a/b": "dr-xr-xr-x"} {
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
	if err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestHostileCode sends what is not what it is called, or would reach out of its directory.
func TestHostileCode(t *testing.T) {
	good, hash := codeArchive(t, tar.Header{Name: "f", Typeflag: tar.TypeReg})
	outside, outsideHash := codeArchive(t, tar.Header{Name: "../f", Typeflag: tar.TypeReg})
	absolute, absoluteHash := codeArchive(t, tar.Header{Name: "/etc/f", Typeflag: tar.TypeReg})
	link, linkHash := codeArchive(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, tar.Header{Name: "l/f", Typeflag: tar.TypeReg})
	device, deviceHash := codeArchive(t, tar.Header{Name: "d", Typeflag: tar.TypeChar})
	twice, twiceHash := codeArchive(t, tar.Header{Name: "f", Typeflag: tar.TypeReg}, tar.Header{Name: "f", Typeflag: tar.TypeReg})
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
			if reply, err := send(a, c.hash, "token", c.archive); err == nil || reply.Dir != "" || !strings.Contains(err.Error(), c.want) {
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
