package disk

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOf looks at file systems that every Linux has.
func TestOf(t *testing.T) {
	here, err := Of(t.TempDir())
	if err != nil || here.Network != "" {
		t.Errorf("a temporary directory is on %+v, %v", here, err)
	}
	if free, err := Free("/proc"); err != nil || free != 0 {
		t.Errorf("/proc has %d bytes free, %v", free, err)
	}
	if _, err := Of(filepath.Join(t.TempDir(), "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that isn't there: %v", err)
	}
}

// TestDescribe takes answers of kernels that have such file systems, as a signed word of 32 bits
// has them.
func TestDescribe(t *testing.T) {
	for _, tt := range []struct {
		answer unix.Statfs_t
		want   FileSystem
	}{
		{unix.Statfs_t{Type: 0x6969, Bsize: 131072, Bavail: 3, Files: 9, Ffree: 5},
			FileSystem{Free: 3 * 131072, Files: 5, Network: "NFS"}},
		{unix.Statfs_t{Type: -0xacb2be}, FileSystem{Files: -1, Network: "CIFS"}},
		{unix.Statfs_t{Type: -0x1acb2be}, FileSystem{Files: -1, Network: "SMB2"}},
		{unix.Statfs_t{Type: 0x0bd00bd0}, FileSystem{Files: -1, Network: "Lustre"}},
		{unix.Statfs_t{Type: 0x65735546}, FileSystem{Files: -1, FUSE: true}},
		{unix.Statfs_t{Type: 0xef53, Flags: unix.ST_NOEXEC}, FileSystem{Files: -1, NoExec: true}},
	} {
		if got := describe(tt.answer); got != tt.want {
			t.Errorf("%#x is %+v, want %+v", tt.answer.Type, got, tt.want)
		}
	}
}
