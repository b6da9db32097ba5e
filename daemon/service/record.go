package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// recordReader reads a record of results, which package fleet writes, in little memory.
type recordReader struct {
	*json.Decoder
	in *limited
}

// limited reads until left bytes have come.
type limited struct {
	io.Reader
	left int
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("a value of it is too long")
	}
	n, err := l.Reader.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}

func newRecordReader(r io.Reader) *recordReader {
	in := &limited{Reader: r}
	return &recordReader{json.NewDecoder(in), in}
}

// token is the next one. Only then is it known how long the text is; so it has a limit.
func (r *recordReader) token() (json.Token, error) {
	r.in.left = maxValue
	return r.Token()
}

// open goes into an object or a list.
func (r *recordReader) open(kind json.Delim) error {
	t, err := r.token()
	if err == nil && t != kind {
		err = fmt.Errorf("%v is where %v should be", t, kind)
	}
	return err
}

// maxDepth is how deep values may be nested; ours are three.
const maxDepth = 100

// skip passes over one value.
func (r *recordReader) skip() error {
	for depth := 0; ; {
		t, err := r.token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return errors.New("a value of it is too deep")
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// names are the entries of the record's directory that its results are in.
func (r *recordReader) names() (map[string]bool, error) {
	names := map[string]bool{}
	if err := r.open('{'); err != nil {
		return nil, err
	}
	for r.More() {
		field, err := r.token()
		switch {
		case err != nil:
			return nil, err
		case field == "results":
			err = r.results(names)
		default:
			err = r.skip()
		}
		if err != nil {
			return nil, err
		}
	}
	_, err := r.token()
	return names, err
}

// results adds the names of the list that comes next.
func (r *recordReader) results(names map[string]bool) error {
	if err := r.open('['); err != nil {
		return err
	}
	for size := 0; r.More(); {
		var one struct {
			Name      string `json:"name"`
			NameBytes []byte `json:"name_base64"` // instead, when it isn't UTF-8
		}
		r.in.left = maxValue
		if err := r.Decode(&one); err != nil {
			return err
		}
		name := one.Name
		if one.NameBytes != nil {
			name = string(one.NameBytes)
		}
		top, _, _ := strings.Cut(name, "/")
		if !filepath.IsLocal(top) || names[top] {
			continue
		}
		if size += len(top); size > maxOwnNames {
			return errors.New("its names are too long")
		}
		names[strings.Clone(top)] = true
	}
	_, err := r.token()
	return err
}
