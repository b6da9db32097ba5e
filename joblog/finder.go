package joblog

import (
	"os"
	"path/filepath"
)

// A Finder finds many logs. Of a directory in which it is asked for several it reads the names
// once, and doesn't see what is made, compressed or removed there afterwards: a directory has the
// logs of up to a thousand jobs. The zero value is ready; it is for one goroutine.
type Finder struct {
	dirs map[string]*names
}

// names are those in a directory.
type names struct {
	asked int             // how many logs were looked for one by one
	there map[string]bool // nil until there were fewNames
}

// fewNames are found one by one before their directory is read.
const fewNames = 32

// Find is like the function, but gives the path that it was asked for where there is no log.
func (f *Finder) Find(path string) string {
	dir, name := filepath.Split(path)
	n := f.dirs[dir]
	if n == nil {
		if f.dirs == nil {
			f.dirs = map[string]*names{}
		}
		n = &names{}
		f.dirs[dir] = n
	}
	if n.asked < fewNames {
		n.asked++
		found, _ := Find(path)
		return found
	}
	if n.there == nil {
		n.there = namesIn(dir)
	}
	for _, other := range [...]string{name, Plain(name), Plain(name) + Suffix,
		Plain(name) + gzipSuffix} {
		if n.there[other] {
			return dir + other
		}
	}
	return path
}

func namesIn(dir string) map[string]bool {
	there := map[string]bool{}
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return there
	}
	defer d.Close()
	all, _ := d.Readdirnames(-1) // those before an error are there
	for _, name := range all {
		there[name] = true
	}
	return there
}
