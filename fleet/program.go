package fleet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxInterpreters is how many programs Linux goes through from a script to what runs it (exec in
// the kernel's fs/exec.c).
const maxInterpreters = 5

// CheckProgram tells why this host's kernel wouldn't execute a file: a driver that it refuses would
// fail each job. What the file does then, it doesn't tell.
func CheckProgram(path string) error {
	for range maxInterpreters {
		interpreter, err := checkOne(path)
		if err != nil || interpreter == "" {
			return err
		}
		if _, err := os.Stat(interpreter); err != nil {
			return fmt.Errorf("%s names %q as its interpreter: %w", path, interpreter,
				pathReason(err))
		}
		path = interpreter
	}
	return fmt.Errorf("the interpreters of scripts go on and on, up to %s", path)
}

// checkOne checks one file, and gives the interpreter of a script.
func checkOne(path string) (interpreter string, err error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", path, pathReason(err))
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file", path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil || st.Mode()&0o111 == 0 {
		if st.Mode()&0o111 == 0 {
			return "", fmt.Errorf("%s is not executable: chmod +x %s", path, path)
		}
		return "", fmt.Errorf("%s may not be executed by this user, or lies on a file system "+
			"that is mounted noexec", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", nil // what may be executed may still not be read
	}
	defer f.Close()
	head := make([]byte, 256) // the kernel looks at no more
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	return interpreterOf(path, head[:n])
}

func interpreterOf(path string, head []byte) (string, error) {
	switch {
	case len(head) == 0:
		return "", fmt.Errorf("%s is empty", path)
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return "", nil
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf#!")):
		return "", fmt.Errorf("%s begins with a byte order mark, before #!: save it without", path)
	case !bytes.HasPrefix(head, []byte("#!")):
		if registered(path, head) {
			return "", nil
		}
		return "", fmt.Errorf("%s is neither a program nor a script that begins with #!: write "+
			"#!/bin/sh, or what it is for, into its first line", path)
	}
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	// As the kernel does: blanks and tabs end the interpreter, a carriage return doesn't.
	words := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
	if len(words) == 0 {
		return "", fmt.Errorf("%s names no interpreter: nothing stands after its #!, as in "+
			"#!/bin/sh", path)
	}
	if last := words[len(words)-1]; strings.HasSuffix(last, "\r") {
		return "",
			fmt.Errorf(`%s has lines that end in CRLF, so that its interpreter is looked for `+
				`as %q: sed -i 's/\r$//' %s`, path, last, path)
	}
	return words[0], nil
}

// registered tells whether the kernel was told of a format of programs to which the file belongs
// (binfmt_misc).
func registered(path string, head []byte) bool {
	const dir = "/proc/sys/fs/binfmt_misc"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		format, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil && isFormat(string(format), path, head) {
			return true
		}
	}
	return false
}

// isFormat tells whether a file is of a format, as the kernel describes it
// (Documentation/admin-guide/binfmt-misc.rst).
func isFormat(format, path string, head []byte) bool {
	if !strings.HasPrefix(format, "enabled\n") {
		return false
	}
	value := func(key string) string {
		for line := range strings.Lines(format) {
			if v, ok := strings.CutPrefix(line, key+" "); ok {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	if ext := value("extension"); ext != "" {
		return strings.HasSuffix(path, ext)
	}
	magic, err := hex.DecodeString(value("magic"))
	offset, err2 := strconv.Atoi(value("offset"))
	if err != nil || err2 != nil || len(magic) == 0 || len(head) < offset+len(magic) {
		return false
	}
	mask, err := hex.DecodeString(value("mask"))
	if err != nil || len(mask) != len(magic) {
		mask = bytes.Repeat([]byte{0xff}, len(magic))
	}
	for i, m := range mask {
		if head[offset+i]&m != magic[i]&m {
			return false
		}
	}
	return true
}

// pathReason says what was wrong with a file, without its name.
func pathReason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
