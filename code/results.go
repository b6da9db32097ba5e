package code

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// results finds what jobs have left among the names: the directories in which a job's record lies,
// and records that lie beside the results of several jobs. Whatever else it may be, code it isn't.
func results(root *os.Root, names []string) (left []string) {
	record := regexp.MustCompile(`^\s*\{\s*"jid":\s*[0-9]+,\s*"server_id":\s*"`)
	for _, name := range names {
		base := path.Base(name)
		alone := base == "job.json"
		if !alone && !strings.HasSuffix(base, ".job.json") || !begins(root, name, record) {
			continue
		}
		if dir := path.Dir(name); alone && dir != "." {
			name = dir
		}
		left = append(left, name)
	}
	return left
}

// begins tells whether a file does so as a pattern says.
func begins(root *os.Root, name string, record *regexp.Regexp) bool {
	info, err := root.Lstat(filepath.FromSlash(name))
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return false
	}
	defer f.Close()
	beginning := make([]byte, 512)
	n, err := io.ReadFull(f, beginning)
	return (err == nil || err == io.ErrUnexpectedEOF) && record.Match(beginning[:n])
}
