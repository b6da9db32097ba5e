package agent

import (
	"testing"

	"jobserver/disk"
)

// TestKeepsRuns is the table of file systems on which runs aren't kept.
func TestKeepsRuns(t *testing.T) {
	for _, tt := range []struct {
		fs   disk.FileSystem
		want string
	}{
		{disk.FileSystem{}, ""},
		{disk.FileSystem{Network: "NFS"}, "/d is on NFS, not on a local disk"},
		{disk.FileSystem{FUSE: true}, "/d is on FUSE, not on a local disk"},
		{disk.FileSystem{NoExec: true}, "/d is mounted noexec"},
	} {
		got := ""
		if err := keepsRuns("/d", tt.fs); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.fs, got, tt.want)
		}
	}
}
