package agent

import (
	"io/fs"
	"time"
)

// ManifestRequest asks what the paths of RESULTS lines stand for. An existing file or directory
// (whole) is taken as such, else the path is a glob, else a prefix of names.
type ManifestRequest struct {
	Run   RunID    // relative paths start at this run's working directory, if it is set
	Base  string   // else here; relative ones, and the default, start at the login directory
	Paths []string // byte for byte as they stood in the lines

	// more entries than this fail the whole request with ErrLimit; 0: DefaultMaxFiles
	MaxFiles int
	MaxBytes int64 // likewise for the sum of sizes; 0: no limit

	// the host's own: after this long without a word it is ErrStalled; 0: DefaultPatience
	Patience time.Duration

	CodeOf RunID // also look at the code that this run was given; zero: don't

	// the host's own: asked before so many more bytes of the answer are kept, unless it is nil. Its
	// error ends the call.
	Reserve func(bytes int) error
}

// CodeState tells what has become of a run's code.
type CodeState struct {
	Looked  bool   // else nothing is known
	Changed string // a file that isn't what was sent, or that was added; "" for none
	Caches  bool   // jobs have left caches of Python in it, which don't count
}

// DefaultMaxFiles bounds a manifest, and with it the memory of both sides.
const DefaultMaxFiles = 1_000_000

// EntryKind tells what an Entry is on the machine.
type EntryKind uint8

const (
	File EntryKind = iota + 1
	Dir
	Symlink
)

// Entry is one file, directory or symbolic link of a manifest. A directory comes before what is in
// it.
type Entry struct {
	// Name is relative, clean and slash-separated: the last element of the path that was named, and
	// below it the path within the directory. It never begins with .. and never has such an
	// element.
	Name   string
	Source string // the absolute path, for FetchFile
	Kind   EntryKind
	Target string // of a symbolic link
	// Escapes: the link's target is absolute, or leaves the directory that was named.
	Escapes bool
	Size    int64
	Mode    fs.FileMode // permission bits only
	ModTime time.Time
}

// PathError says why something below a named path can't be copied.
type PathError struct{ Path, Reason string }

// Manifest is the answer: what there is, what isn't, and what can't be read.
type Manifest struct {
	Entries []Entry
	Bytes   int64       // the sum of the files' sizes
	Missing []string    // paths of the request that stand for nothing
	Errors  []PathError // unreadable, special files, two results of one name
	Code    CodeState   // of ManifestRequest.CodeOf
}

// FetchFile asks for a file's bytes from Offset on, up to Until if that isn't 0. Size and ModTime
// are the Entry's: they tell whether the file has changed since.
type FetchFile struct {
	Source  string
	Offset  int64
	Size    int64
	ModTime time.Time
	Until   int64
}

// end is up to where bytes are asked for.
func (f *FetchFile) end() int64 {
	if f.Until > 0 {
		return f.Until
	}
	return f.Size
}

// FetchRequest asks for files, which come in this order.
type FetchRequest struct {
	Files    []FetchFile
	Patience time.Duration // as in ManifestRequest
	holes    bool          // the host understands holes
}

// FetchStatus says how the copy of one file went.
type FetchStatus uint8

const (
	FetchOK FetchStatus = iota
	FetchChanged
	FetchFailed
	// fetchHole isn't the end of a file: so many zeros come next, of which the machine's disk has
	// none.
	fetchHole
)

// Fetched is the outcome of one file.
type Fetched struct {
	Bytes  int64  // that came
	CRC    uint32 // CRC-32C of those bytes: the machine's, which was compared with what arrived
	Status FetchStatus
	Reason string // unless FetchOK
}

// Sink takes what Fetch brings, in the order of the request: for each file any number of Data and
// Hole, then one Done. Calls come one at a time, from the goroutine that called Fetch. p is only
// valid during the call. An error ends the Fetch and is returned by it.
type Sink interface {
	Data(file int, p []byte) error
	// Hole stands for n zeros that take no place on the machine's disk.
	Hole(file int, n int64) error
	Done(file int, f Fetched) error
}
