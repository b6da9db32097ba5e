package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
)

//go:embed assets
var embedded embed.FS

// assets are the page's own files. They hold no data, and need no token.
type assets struct {
	files map[string]asset // by path
}

type asset struct {
	body, gzipped []byte
	kind, tag     string
}

// kinds of files by their ending. Nothing else is served.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}}
	// A line of a script that only says something to who reads it here is sent empty, so that lines
	// keep their numbers.
	commentLine := regexp.MustCompile(`(?m)^[ \t]*//.*$`)
	err := fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error {
		kind := kinds[path.Ext(name)]
		if err != nil || d.IsDir() || kind == "" {
			return err
		}
		body, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		if path.Ext(name) == ".js" && !strings.Contains(name, "/vendor/") {
			body = commentLine.ReplaceAll(body, nil)
		}
		sum := sha256.Sum256(body)
		a.files[strings.TrimPrefix(name, "assets")] = asset{
			body:    body,
			gzipped: compressed(body),
			kind:    kind,
			tag:     `"` + hex.EncodeToString(sum[:8]) + `"`,
		}
		return nil
	})
	if err == nil && len(a.files["/index.html"].body) == 0 {
		err = fmt.Errorf("the page is missing")
	}
	return a, err
}

// asset sends a file of the page. Each address that isn't a file's is a view of the page, which
// finds out itself what to show.
func (s *server) asset(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	f, ok := s.assets.files[r.URL.Path]
	if !ok {
		if path.Ext(r.URL.Path) == ".js" || path.Ext(r.URL.Path) == ".css" {
			http.NotFound(w, r)
			return
		}
		f = s.assets.files["/index.html"]
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.tag)
	h.Set("Cache-Control", "no-cache") // it is asked each time whether there is another one
	h.Set("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.body
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gzipped
	}
	if _, err := w.Write(body); err != nil {
		s.Log.Debug("a file was not sent", "err", err)
	}
}

// compressed is a text with gzip. In memory that can't fail.
func compressed(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text)
	_ = w.Close()
	return b.Bytes()
}
