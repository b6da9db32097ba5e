package fleet

import (
	"os"

	"golang.org/x/sys/unix"
)

// flusher makes the kernel write a file's bytes to the disk while more of them come, so that the
// sync in the end has little left to do.
type flusher struct{ unwritten int }

// flushAfter is how many bytes are worth a request to the disk.
const flushAfter = 8 << 20

// wrote is told that n bytes were written to f. It doesn't wait for the disk.
func (w *flusher) wrote(f *os.File, n int) {
	if w.unwritten += n; w.unwritten < flushAfter {
		return
	}
	w.unwritten = 0
	// All of the file that is not being written yet. A hint: what it can't do is left to the sync,
	// and so are errors.
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
