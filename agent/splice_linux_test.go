package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFilePart sends pieces of a file into what standard output may be.
func TestFilePart(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	name := filepath.Join(t.TempDir(), "out")
	must(t, os.WriteFile(name, content, 0o600))
	file, err := os.Open(name)
	must(t, err)
	defer file.Close()

	for name, open := range map[string]func() (r, w *os.File){
		"pipe": func() (*os.File, *os.File) {
			r, w, err := os.Pipe()
			must(t, err)
			return r, w
		},
		"pipe that doesn't block": func() (*os.File, *os.File) {
			fds := make([]int, 2)
			must(t, unix.Pipe2(fds, unix.O_NONBLOCK|unix.O_CLOEXEC))
			return os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
		},
		"socket": func() (*os.File, *os.File) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			return os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := open()
			defer r.Close()
			out := &frameWriter{w: w, pipe: w, end: func() { w.Close() }}
			s := &serving{id: 7, out: out, credit: 1 << 30}
			sent := make(chan error, 1)
			go func() {
				head := append(newFrame(1), byte(Stderr))
				err := s.filePart(context.Background(), head, file, 3, 300_001)
				if err == nil {
					err = s.filePart(context.Background(), head, file, 0, len(content))
				}
				if err == nil {
					// The file ends in the middle of this one.
					if err := s.filePart(context.Background(), head, file, 5,
						len(content)); !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("a part that the file has too little for: %v", err)
					}
					if err := out.write(head); !errors.Is(err, os.ErrClosed) {
						t.Errorf("a frame behind it: %v", err)
					}
				}
				sent <- err
			}()
			for _, want := range [][]byte{content[3:300_004], content} {
				var head [frameHead + 1]byte
				_, err := io.ReadFull(r, head[:])
				must(t, err)
				if want := makeFrame(typePart, 7, []byte{byte(Stderr)}, want); !bytes.Equal(head[:],
					want[:len(head)]) {
					t.Errorf("the head is %x", head)
				}
				got := make([]byte, len(want))
				_, err = io.ReadFull(r, got)
				must(t, err)
				if !bytes.Equal(got, want) {
					t.Error("what came isn't what the file has")
				}
			}
			if rest, err := io.ReadAll(r); err != nil || len(rest) >= frameHead+1+len(content) {
				// the stream ends
				t.Errorf("%d bytes more, %v", len(rest), err)
			}
			must(t, <-sent)
		})
	}
}
