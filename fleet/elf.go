package fleet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// The few numbers of elf(5) that tell whether an executable needs a loader. The standard library's
// reader knows them too, but brings one for debugging information along, which every start of the
// program would pay for.
const (
	elfClass64   = 2 // EI_CLASS: all machines that Go's Linux builds of ours are for
	elfBigEndian = 2 // EI_DATA
	elfHeader    = 64
	elfInterp    = 3 // PT_INTERP: the loader's path
	maxSegments  = 1 << 10
)

// needsLoader tells whether an ELF executable is linked with libraries of the system. The error
// says what is wrong with it.
func needsLoader(r io.ReaderAt) (bool, error) {
	var head [elfHeader]byte
	if _, err := r.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return false, err
	}
	if !bytes.HasPrefix(head[:], []byte("\x7fELF")) || head[4] != elfClass64 {
		return false, errors.New("it doesn't begin as one of 64 bits does")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == elfBigEndian {
		order = binary.BigEndian
	}
	at, size := int64(order.Uint64(head[32:])), int64(order.Uint16(head[54:]))
	segments := int64(order.Uint16(head[56:]))
	if at < elfHeader || size < 56 || segments == 0 || segments > maxSegments {
		return false, errors.New("its table of segments is damaged")
	}
	for i := range segments {
		var kind [4]byte
		if _, err := r.ReadAt(kind[:], at+i*size); err != nil {
			return false, errors.New("its table of segments is cut off")
		}
		if order.Uint32(kind[:]) == elfInterp {
			return true, nil
		}
	}
	return false, nil
}
