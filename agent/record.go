package agent

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A record is a small text in a run's directory, for people to read as well: a head line
//
//	jobserver <name> <format> <length> <crc32c>
//
// then lines `key value`, strings quoted as in Go, times in nanoseconds since 1970. Length
// (decimal) and CRC-32C (eight hexadecimal digits) are those of the lines. What follows them
// doesn't count. Keys are only ever added: one that is missing is zero, one that is unknown is
// skipped. So every agent reads the records of older and newer ones; a change that this can't carry
// raises the format.
const recordFormat = 1

var (
	// errNoRecord: the file is not there, empty, or still being written.
	errNoRecord = errors.New("no record")
	errRecord   = errors.New("malformed record")
)

// A liner visits the keys of a record; the same method writes and reads them.
type liner struct {
	buf  []byte
	keys map[string]string // set when reading
	err  error
}

// formatRecord makes a record.
func formatRecord(name string, lines func(*liner)) []byte {
	var l liner
	lines(&l)
	head := fmt.Sprintf("jobserver %s %d %d %08x\n", name, recordFormat, len(l.buf),
		crc32.Checksum(l.buf, castagnoli()))
	return append([]byte(head), l.buf...)
}

// parseRecord reads a record. A record that is cut short is errNoRecord.
func parseRecord(name string, p []byte, lines func(*liner)) error {
	head, body, ok := bytes.Cut(p, []byte("\n"))
	if !ok || len(head) == 0 || head[0] == 0 {
		return errNoRecord
	}
	words := strings.Split(string(head), " ")
	if len(words) != 5 || words[0] != "jobserver" || words[1] != name {
		return fmt.Errorf("%s: %w", name, errRecord)
	}
	if words[2] != strconv.Itoa(recordFormat) {
		return fmt.Errorf("%s: format %.20q is newer than this program", name, words[2])
	}
	length, err := strconv.ParseUint(words[3], 10, 31)
	if err != nil {
		return fmt.Errorf("%s: %w", name, errRecord)
	}
	if int(length) > len(body) {
		return errNoRecord
	}
	body = body[:length]
	if fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli())) != words[4] {
		return errNoRecord
	}
	l := liner{keys: map[string]string{}}
	for line := range strings.Lines(string(body)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		l.keys[key] = value
	}
	lines(&l)
	if l.err != nil {
		return fmt.Errorf("%s: %w", name, l.err)
	}
	return nil
}

// take returns the value of a key, if there is one.
func (l *liner) take(key string) (string, bool) {
	v, ok := l.keys[key]
	return v, ok && l.err == nil
}

func (l *liner) fail(key string) {
	if l.err == nil {
		l.err = fmt.Errorf("%w: key %s", errRecord, key)
	}
}

func (l *liner) put(key, value string) {
	l.buf = append(append(append(append(l.buf, key...), ' '), value...), '\n')
}

func keyInt[T ~int | ~int64 | ~uint32 | ~uint64](l *liner, key string, v *T) {
	if l.keys == nil {
		if *v != 0 {
			l.put(key, strconv.FormatInt(int64(*v), 10))
		}
		return
	}
	*v = 0
	if s, ok := l.take(key); ok {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || int64(T(n)) != n {
			l.fail(key)
			return
		}
		*v = T(n)
	}
}

func (l *liner) bool(key string, v *bool) {
	var n int
	if *v {
		n = 1
	}
	keyInt(l, key, &n)
	*v = n != 0
}

func (l *liner) string(key string, v *string) {
	if l.keys == nil {
		if *v != "" {
			l.put(key, strconv.Quote(*v))
		}
		return
	}
	*v = ""
	if s, ok := l.take(key); ok {
		u, err := strconv.Unquote(s)
		if err != nil {
			l.fail(key)
			return
		}
		*v = u
	}
}

func (l *liner) time(key string, v *time.Time) {
	var n int64
	if !v.IsZero() {
		n = v.UnixNano()
	}
	keyInt(l, key, &n)
	if l.keys != nil {
		*v = time.Time{}
		if n != 0 {
			*v = time.Unix(0, n).UTC()
		}
	}
}

// cause is a name, and a key of its own for what was not there when format 1
// was new: whoever reads that refuses a name that it doesn't know.
func (l *liner) cause(key string, v *Cause) {
	down := *v == ShutDown
	name := v.String()
	if down {
		name = Exited.String()
	}
	l.string(key, &name)
	l.bool("shut_down", &down)
	if l.keys == nil {
		return
	}
	i := slices.Index(causeNames[:], name)
	if i < 0 {
		l.fail(key)
		return
	}
	if *v = Cause(i); down {
		*v = ShutDown
	}
}
