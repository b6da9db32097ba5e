//go:build !linux

package snapshot

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// The daemon runs on Linux only: what follows lets the client be built
// elsewhere, and refuses to open a state.

func checkLocal(string) error {
	return fmt.Errorf("the daemon runs on linux, not on %s", runtime.GOOS)
}

func allocate(*os.File, int64, int64) error { return errors.ErrUnsupported }
func fdatasync(f *os.File) error            { return f.Sync() }
func dropCache(*os.File)                    {}
func isMediaError(err error) bool           { return errors.Is(err, syscall.EIO) }
