package joblog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
)

// partSuffix is at the end of the name of what is being written.
const partSuffix = ".part"

// IsPart tells whether a file is what a compression has left that did not come to its end.
func IsPart(name string) bool {
	n := len(name) - len(Suffix+partSuffix)
	return n > 0 && name[n:] == Suffix+partSuffix
}

// Pack writes the compressed form of a log beside it, with its time, and makes its bytes durable;
// Replace puts it into the log's place. That there is no room is an error, after which nothing is
// left.
func Pack(path string) (err error) {
	in, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "compress", Path: path, Err: fs.ErrInvalid}
	}
	part := path + Suffix + partSuffix
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|openFlags, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	buffered := bufio.NewWriterSize(out, 256<<10)
	err = pack(buffered, in, info.Size())
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = out.Sync()
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Chtimes(part, info.ModTime(), info.ModTime())
}

// Replace puts what Pack has written into the place of the log. Whoever reads the log at this
// moment goes on with what he has open.
func Replace(path string) error {
	if err := os.Rename(path+Suffix+partSuffix, path+Suffix); err != nil {
		return err
	}
	return os.Remove(path)
}

// pack writes size bytes in frames, and the table.
func pack(out io.Writer, in io.Reader, size int64) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true),
		zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	defer enc.Close()
	raw := make([]byte, min(frameBytes, size))
	var packed, table []byte
	for left := size; left > 0; left -= int64(len(raw)) {
		raw = raw[:min(left, int64(len(raw)))]
		if _, err := io.ReadFull(in, raw); err != nil {
			return err
		}
		packed = enc.EncodeAll(raw, packed[:0])
		if _, err := out.Write(packed); err != nil {
			return err
		}
		table = binary.LittleEndian.AppendUint32(table, uint32(len(packed)))
		table = binary.LittleEndian.AppendUint32(table, uint32(len(raw)))
	}
	head := binary.LittleEndian.AppendUint32(nil, skippable)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(table)+footerBytes))
	table = binary.LittleEndian.AppendUint32(table, uint32(len(table)/entryBytes))
	table = append(table, 0)
	table = binary.LittleEndian.AppendUint32(table, tableMagic)
	_, err = out.Write(append(head, table...))
	return err
}
