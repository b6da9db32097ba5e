package fleet

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestCutUploadIsRemoved has a shell take an upload, as a machine's does: what was cut, or what
// nobody hears of, is removed where no agent ever runs that would do it. sshd hangs up or closes
// the pipes.
func TestCutUploadIsRemoved(t *testing.T) {
	content := bytes.Repeat([]byte("program"), 50_000)
	plain := filepath.Join(t.TempDir(), "plain")
	write(t, plain, string(content))
	for _, way := range []struct {
		name, command, tool string
		sent                []byte
	}{
		{"as it is", uploadCommand, "cat", content},
		{"compressed", unpackCommand, "gzip", packed(t, plain)},
	} {
		for _, cut := range []struct {
			name  string
			sent  int
			heard bool // what the shell says
			hangs bool // the connection, in the midst of it
			stays bool
		}{
			{"whole", len(way.sent), true, false, true},
			{"whole, and nobody hears of it", len(way.sent), false, false, false},
			{"half", len(way.sent) / 2, false, false, false},
			{"nothing", 0, false, false, false},
			{"hung up on", len(way.sent) / 2, false, true, false},
		} {
			t.Run(way.name+"/"+cut.name, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "upload")
				c := exec.Command("/bin/sh", "-c", way.command)
				c.Stdin = bytes.NewReader(append([]byte(file+"\n"), way.sent[:cut.sent]...))
				if cut.hangs {
					c.Env = hangingUp(t, way.tool)
				}
				said := new(bytes.Buffer)
				if c.Stdout = said; !cut.heard {
					c.Stdout = unheard(t)
				}
				err := c.Run()
				got, readErr := os.ReadFile(file)
				if !cut.stays {
					if err == nil || !os.IsNotExist(readErr) {
						t.Errorf("it ended with %v, and leaves %d bytes, %v",
							err, len(got), readErr)
					}
					return
				}
				if err != nil || !answered(said.String(), "jobserver-got") ||
					!bytes.Equal(got, content) {
					t.Errorf("it said %q, %v, and has %d bytes, %v", said, err, len(got), readErr)
				}
			})
		}
	}
}

// hangingUp is an environment in which a tool hangs up on the shell that has started it.
func hangingUp(t *testing.T, tool string) []string {
	t.Helper()
	dir, real := t.TempDir(), lookPath(t, tool)
	write(t, filepath.Join(dir, tool), "#!/bin/sh\nkill -HUP $PPID\nexec "+real+" \"$@\"\n")
	return append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
}

// unheard is a pipe that nobody reads from.
func unheard(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close() })
	return w
}
