package joblog

import (
	"os"
	"path/filepath"
)

// A Finder finds many logs, and reads each of their directories once. It doesn't see what is made,
// compressed or removed afterwards. The zero value is ready; it is for one goroutine.
type Finder struct {
	names map[string]map[string]bool // by directory; nil for one that can't be read
}

// Find is like the function, but gives the path that it was asked for where there is no log.
func (f *Finder) Find(path string) string {
	dir, name := filepath.Split(path)
	there, known := f.names[dir]
	if !known {
		there = namesIn(dir)
		if f.names == nil {
			f.names = map[string]map[string]bool{}
		}
		f.names[dir] = there
	}
	for _, other := range [...]string{name, Plain(name), Plain(name) + Suffix,
		Plain(name) + gzipSuffix} {
		if there[other] {
			return dir + other
		}
	}
	return path
}

func namesIn(dir string) map[string]bool {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1) // those before an error are there
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	return there
}
