package api

import "time"

// FilesArgs asks what a job left on the daemon's host: its logs, and what was copied of its
// results. After is the last name of the page before.
type FilesArgs struct {
	JID   uint64
	After string
}

// FilesReply is a page of it, in an order in which a directory comes before what is in it. More
// says that another follows.
type FilesReply struct {
	Files []File
	More  bool
}

// File is one of a job's files.
type File struct {
	Name   string // below the job's directory, with slashes
	Log    bool   // a log, which lies elsewhere than the results; both may have one name
	Dir    bool
	Target string // of a symbolic link
	Size   int64
	Mode   uint32 // permissions
	MTime  time.Time
}

// ReadFilesArgs asks for bytes of a job's files, each from an offset on.
type ReadFilesArgs struct {
	JID   uint64
	Parts []FilePart
}

// FilePart is a file from an offset on.
type FilePart struct {
	Name   string
	Log    bool
	Offset int64
}

// ReadFilesReply has as many of the parts as fit, in their order, the first of them at least.
type ReadFilesReply struct{ Parts []FileData }

// FileData are bytes of a file. When the last of them is among them, SHA256 is that of the whole
// file, from its first byte to its last.
type FileData struct {
	Data   []byte
	Size   int64 // of the whole file
	MTime  time.Time
	SHA256 []byte
	Error  string // why it can't be read; the others can
}
