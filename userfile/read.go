package userfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf16"
)

// Read reads a text that a user has written, with whatever editor: see Text.
func Read(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	return Text(data), err
}

// maxRegular is how much of a file ReadRegular takes: known_hosts files of whole clusters have some
// MiB.
const maxRegular = 64 << 20

// ReadRegular reads a file that a long-running program was told of: one that never ends, as a
// device or a pipe may be, is an error, and so is one of more than 64 MiB. /dev/null is empty.
func ReadRegular(path string) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	null, err := os.Stat(os.DevNull)
	switch {
	case err == nil && os.SameFile(st, null):
		return nil, nil
	case st.IsDir():
		return fail(syscall.EISDIR)
	case !st.Mode().IsRegular():
		return fail(errors.New("it is not a regular file"))
	}
	data, err := io.ReadAll(io.LimitReader(file, maxRegular+1))
	if err == nil && len(data) > maxRegular {
		return fail(fmt.Errorf("it has more than %d MiB", maxRegular>>20))
	}
	return data, err
}

// Text is a text of a user's without what editors of other systems put into it: a byte order mark,
// and the carriage returns before line ends. UTF-16, which has such a mark, becomes UTF-8.
func Text(data []byte) []byte {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		data = fromUTF16(data[2:], binary.LittleEndian)
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		data = fromUTF16(data[2:], binary.BigEndian)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	return bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
}

func fromUTF16(data []byte, order binary.ByteOrder) []byte {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return []byte(string(utf16.Decode(units)))
}

// Path is a path that a user has written, relative to dir, with "~" as Home takes it. "" stays "".
func Path(dir, home, path string) string {
	path = Home(home, path)
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// Home puts home directories in the place of "~" and "~NAME" at the beginning of a path, as a shell
// does, also where quotes, a file or the "=" of a flag kept the shell from it. As there, a name
// that no user of this host has stays as it is.
func Home(home, path string) string {
	if !strings.HasPrefix(path, "~") {
		return path
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	if name != "" {
		account, err := user.Lookup(name)
		if err != nil {
			return path
		}
		home = account.HomeDir
	}
	if home == "" {
		return path
	}
	return filepath.Join(home, rest)
}
