package userfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestText reads the same lines as editors of several systems write them.
func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"a\nb\n":                         "a\nb\n",
		"a\r\nb\r\n":                     "a\nb\n",
		"\ufeffa\r\nb":                   "a\nb",
		"\xff\xfea\x00\n\x00\xe4\x00":    "a\nä",
		"\xfe\xff\x00a\x00\r\x00\n\x00b": "a\nb",
		"\xff\xfe\x3d\xd8\x00\xde":       "\U0001F600",
		"a\rb":                           "a\rb", // no line end that anybody writes today
		"\xef\xbb":                       "\xef\xbb",
		"caf\xe9":                        "caf\xe9", // bytes stay bytes
		"\xff\xfea":                      "",
	} {
		if got := string(Text([]byte(text))); got != want {
			t.Errorf("Text(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestReadRegular: what never ends isn't read, and nobody waits for it.
func TestReadRegular(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	pipe := filepath.Join(dir, "pipe")
	large := file("large", "")
	for _, err := range []error{syscall.Mkfifo(pipe, 0o600), os.Truncate(large, maxRegular+1)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		file("text", "a\n"): "a\n",
		file("empty", ""):   "",
		os.DevNull:          "",
		"/dev/full":         "it is not a regular file",
		"/dev/zero":         "it is not a regular file",
		pipe:                "it is not a regular file",
		dir:                 "is a directory",
		dir + "/none":       "no such file or directory",
		large:               "it has more than 64 MiB",
	} {
		data, err := ReadRegular(path)
		got := string(data)
		var wrong *fs.PathError
		if errors.As(err, &wrong) && got == "" {
			got = wrong.Err.Error()
		}
		if got != want {
			t.Errorf("%s: %.100q, %v; want %q", path, data, err, want)
		}
	}
}

func TestPath(t *testing.T) {
	for path, want := range map[string]string{
		"":            "",
		"/abs/x":      "/abs/x",
		"results":     "/here/results",
		"~":           "/home/ann",
		"~/results":   "/home/ann/results",
		"./~/results": "/here/~/results",
		"~root":       "/root",
		"~root/x":     "/root/x",
		"~no-body/x":  "/here/~no-body/x", // as in a shell
		"~$doc":       "/here/~$doc",
		"a/~":         "/here/a/~",
	} {
		if got := Path("/here", "/home/ann", path); got != want {
			t.Errorf("Path(%q) = %q, want %q", path, got, want)
		}
	}
}
