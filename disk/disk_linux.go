package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// network names file systems by their magic number, as statfs(2) lists them and the kernel's
// modules for those that it doesn't list.
var network = map[int64]string{
	unix.NFS_SUPER_MAGIC:   "NFS",
	unix.SMB_SUPER_MAGIC:   "SMB",
	unix.SMB2_SUPER_MAGIC:  "SMB2",
	unix.CIFS_SUPER_MAGIC:  "CIFS",
	unix.AFS_SUPER_MAGIC:   "AFS",
	unix.AFS_FS_MAGIC:      "AFS",
	unix.CODA_SUPER_MAGIC:  "Coda",
	unix.NCP_SUPER_MAGIC:   "NCP",
	unix.V9FS_MAGIC:        "9P",
	unix.CEPH_SUPER_MAGIC:  "Ceph",
	unix.OCFS2_SUPER_MAGIC: "OCFS2",
	0x01161970:             "GFS2",
	0x0bd00bd0:             "Lustre",
	0x19830326:             "BeeGFS",
	0x47504653:             "GPFS",
}

// Of looks at the file system that dir is on.
func Of(dir string) (FileSystem, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return FileSystem{}, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	return describe(st), nil
}

// describe says in our words what the kernel has answered.
func describe(st unix.Statfs_t) FileSystem {
	files := int64(st.Ffree)
	if st.Files == 0 {
		files = -1
	}
	kind := int64(uint32(st.Type)) // 32 bits wide and signed on some architectures
	return FileSystem{
		Free:    int64(st.Bavail) * int64(st.Bsize),
		Files:   files,
		Network: network[kind],
		FUSE:    kind == unix.FUSE_SUPER_MAGIC,
		NoExec:  st.Flags&unix.ST_NOEXEC != 0,
	}
}
