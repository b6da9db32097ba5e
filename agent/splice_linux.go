package agent

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// filePart sends a part that consists of head, from newFrame, and n bytes of a file, of which no
// more is written in that place. Into a pipe, as sshd gives us one, the kernel moves them without a
// copy.
func (s *serving) filePart(
	ctx context.Context, head []byte, file *os.File, off int64, n int,
) error {
	if err := s.spend(ctx, len(head)+n); err != nil {
		return err
	}
	seal(head, typePart, s.id)
	binary.BigEndian.PutUint32(head, uint32(len(head)+n-4)) // the length is that of both
	return s.out.writeFile(head, file, off, n)
}

// writeFile writes head, and n bytes of a file behind it.
func (w *frameWriter) writeFile(head []byte, file *os.File, off int64, n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.w.Write(head); err != nil {
		return w.broken(err)
	}
	for w.pipe != nil && n > 0 {
		at := off
		moved, err := unix.Splice(int(file.Fd()), &at, int(w.pipe.Fd()), nil, n,
			unix.SPLICE_F_MOVE|unix.SPLICE_F_MORE)
		switch {
		case err == unix.EINTR:
		case err == unix.EINVAL || err == unix.ENOSYS || err == unix.EAGAIN:
			// no pipe, a file system that can't, or a pipe that doesn't block
			w.pipe = nil
		case err != nil:
			return w.broken(os.NewSyscallError("splice", err))
		case moved == 0:
			return w.broken(io.ErrUnexpectedEOF)
		}
		off, n = off+int64(max(moved, 0)), n-int(max(moved, 0))
	}
	if copied, err := io.Copy(w.w, io.NewSectionReader(file, off, int64(n))); err != nil ||
		copied != int64(n) {
		return w.broken(cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return nil
}

// broken is when a frame can't be finished: a hand from outside has made the file shorter, or the
// disk fails. Nothing that follows would be understood, so the connection ends, and the agent with
// it.
func (w *frameWriter) broken(err error) error {
	if w.end != nil {
		w.end()
	}
	w.w, w.pipe = closedWriter{}, nil
	return fmt.Errorf("a part can't be finished: %w", err)
}

// closedWriter is in the place of a stream that was closed: its descriptor may soon be something
// else's.
type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }
