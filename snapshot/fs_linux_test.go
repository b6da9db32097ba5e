package snapshot

import (
	"errors"
	"testing"

	"jobserver/disk"
)

// TestNetworkFS: the state is kept on no file system that other hosts share.
func TestNetworkFS(t *testing.T) {
	for _, tt := range []struct {
		fs   disk.FileSystem
		want error
	}{
		{disk.FileSystem{}, nil},
		{disk.FileSystem{FUSE: true, NoExec: true}, nil}, // as the root of a container may be
		{disk.FileSystem{Network: "NFS"}, ErrNetworkFS},
		{disk.FileSystem{Network: "Lustre"}, ErrNetworkFS},
	} {
		if err := keepsPromises("/state", tt.fs); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.fs, err, tt.want)
		}
	}
}
