package agent

import (
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"math"
	"path"
	"strings"
)

// File contents on the wire. The parts of a fetch's reply are packed with pieces, each a uvarint n:
// n > 0 is followed by n bytes of the current file; 0 ends the file and is followed by a uvarint
// length and a Fetched of that length. So small files share a frame, and a large one fills many. A
// Fetched of the status fetchHole stands for zeros, Bytes of them, and doesn't end the file; the
// checksum has their number in the place of them.

// castagnoli is made when it is first asked for: every start of the program would pay for it
// otherwise.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// fetchReader takes the parts apart and compares checksums.
type fetchReader struct {
	sink         Sink
	first, files int // the request's files, as the sink counts them
	file         int // the current one, from 0
	bytes        int64
	crc          hash.Hash32
}

var errPieces = errors.New("file contents are malformed")

func (r *fetchReader) frame(p []byte) error {
	for len(p) > 0 {
		n, used := binary.Uvarint(p)
		if used <= 0 || r.file == r.files {
			return &Error{Kind: KindProtocol, Msg: "fetch", Err: errPieces}
		}
		p = p[used:]
		end := n == 0
		if end {
			if n, used = binary.Uvarint(p); used <= 0 {
				return &Error{Kind: KindProtocol, Msg: "fetch", Err: errPieces}
			}
			p = p[used:]
		}
		if n > uint64(len(p)) {
			return &Error{Kind: KindProtocol, Msg: "fetch", Err: errPieces}
		}
		piece := p[:n]
		p = p[n:]
		if err := r.piece(piece, end); err != nil {
			return err
		}
	}
	return nil
}

func (r *fetchReader) piece(p []byte, end bool) error {
	if !end {
		r.crc.Write(p)
		r.bytes += int64(len(p))
		return r.sink.Data(r.first+r.file, p)
	}
	var f Fetched
	if err := decode(p, f.fields); err != nil {
		return err
	}
	if f.Status == fetchHole {
		if f.Bytes <= 0 || f.Bytes > math.MaxInt64-r.bytes {
			return &Error{Kind: KindProtocol, Msg: "fetch", Err: errPieces}
		}
		r.crc.Write(holeSum(f.Bytes))
		r.bytes += f.Bytes
		return r.sink.Hole(r.first+r.file, f.Bytes)
	}
	if f.Bytes != r.bytes || f.CRC != r.crc.Sum32() {
		return errorf(KindProtocol, "fetch: the checksum of what arrived is not what was sent")
	}
	file := r.first + r.file
	r.file++
	r.bytes = 0
	r.crc.Reset()
	return r.sink.Done(file, f)
}

// holeSum gives the checksum of a hole of n bytes.
func holeSum(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// check refuses an entry that could reach beyond the destination.
func (e *Entry) check() error {
	bad := e.Name == "" || path.IsAbs(e.Name) || path.Clean(e.Name) != e.Name || e.Name == "." ||
		e.Name == ".." || strings.HasPrefix(e.Name, "../") || e.Size < 0
	for _, p := range []string{e.Name, e.Source, e.Target} {
		bad = bad || len(p) > maxPath || strings.ContainsRune(p, 0)
	}
	if bad || e.Kind < File || e.Kind > Symlink {
		return errorf(KindProtocol, "the manifest has an entry %.200q that is none", e.Name)
	}
	return nil
}

// maxPath is how long a path can be, in bytes: PATH_MAX without the terminating zero (limits.h).
const maxPath = 4095

// share lets the name use the memory of the source, which ends with it unless a link was named.
func (e *Entry) share() {
	if strings.HasSuffix(e.Source, "/"+e.Name) {
		e.Name = e.Source[len(e.Source)-len(e.Name):]
	}
}
