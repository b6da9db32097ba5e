package ssh

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"
)

// A configFiles is what the ssh configuration consists of, as found by
// following Include. It is not changed once it is made.
type configFiles struct {
	home  string
	files []string // main ones and included ones, whether they exist or not
	dirs  []string // where a new file may match an Include

	// lists are the lists of file names as they are written, by keyword in lower case.
	lists map[string][][]string

	stamp     string // of files
	dirsStamp string

	// lasting says that the files alone decide what `ssh -G` prints, and that
	// their stamp would tell of any change. It is false whenever in doubt.
	lasting bool
	until   time.Time // when to look again, if not lasting
}

const (
	// maxConfigFiles bounds what each look at the stamp costs.
	maxConfigFiles = 64
	// maxIncludes is how deep files may include each other; OpenSSH has 16.
	maxIncludes = 4
	// stampTick is the largest step of a file system's clock: two changes
	// within one step may look the same.
	stampTick = 2 * time.Second
)

// configState gives a stamp that changes when a configuration file does, and
// says whether, while it stays the same, so does what the files say. Unless
// something has changed, it only asks for the files' times.
func (d *Dialer) configState() (stamp string, lasting bool) {
	d.looking.Lock()
	defer d.looking.Unlock()
	f := d.files
	if f == nil || fileStamp(f.files...) != f.stamp || fileStamp(f.dirs...) != f.dirsStamp ||
		!f.lasting && time.Now().After(f.until) {
		f = findConfigFiles(d.opts.ConfigFile)
		d.files = f
	}
	host, _ := os.Hostname() // %l in the name of a file
	return f.stamp + host + " " + os.Getenv("SSH_AUTH_SOCK"), f.lasting
}

// writtenLists are the lists of file names that stand in the configuration's files.
func (d *Dialer) writtenLists() map[string][][]string {
	d.looking.Lock()
	defer d.looking.Unlock()
	if d.files == nil {
		return nil
	}
	return d.files.lists
}

// findConfigFiles reads the files that ssh reads: main, or else the user's and
// the system's.
func findConfigFiles(main string) *configFiles {
	// ssh finds the user's file by the user database, and ~ in it by HOME.
	f := &configFiles{home: os.Getenv("HOME"), lasting: true, until: time.Now().Add(configTTL),
		lists: map[string][][]string{}}
	userHome := f.home
	if u, err := user.Current(); err == nil {
		userHome = u.HomeDir
	}
	if f.home == "" {
		f.home = userHome
	}
	userDir := filepath.Join(f.home, ".ssh")
	if main != "" {
		f.read(main, userDir, 0)
		return f
	}
	f.read(filepath.Join(userHome, ".ssh", "config"), userDir, 0)
	f.read("/etc/ssh/ssh_config", "/etc/ssh", 0)
	return f
}

// look gives the stamp of name, from before anything is read there, and what
// is there; nil for nothing.
func (f *configFiles) look(name string) (stamp string, st fs.FileInfo) {
	stamp = fileStamp(name)
	st, err := os.Stat(name)
	if err != nil {
		f.lasting = f.lasting && errors.Is(err, fs.ErrNotExist)
		return stamp, nil
	}
	f.lasting = f.lasting && time.Since(st.ModTime()) >= stampTick
	return stamp, st
}

// read takes in a file; what it includes is relative to dir.
func (f *configFiles) read(name, dir string, depth int) {
	if depth > maxIncludes || len(f.files) == maxConfigFiles {
		f.lasting = false
		return
	}
	stamp, st := f.look(name)
	f.files = append(f.files, name)
	f.stamp += stamp
	if st == nil || !st.Mode().IsRegular() { // a pipe is for ssh to read
		f.lasting = f.lasting && st == nil
		return
	}
	b, err := os.ReadFile(name)
	if err != nil {
		f.lasting = false
		return
	}
	for line := range strings.Lines(string(b)) {
		// As in OpenSSH, a keyword may be quoted, and = may follow it.
		const delimiters = " \t\r\n\f=\""
		line = strings.TrimLeft(line, delimiters)
		end := max(strings.IndexAny(line, delimiters), 0)
		switch keyword := strings.ToLower(line[:end]); {
		case keyword == "match", strings.HasPrefix(keyword, "canonical"): // commands; the DNS
			f.lasting = false
		case keyword == "userknownhostsfile", keyword == "globalknownhostsfile":
			if words, err := splitWords(strings.Trim(line[end:], " \t\r\n\f=")); err == nil {
				f.lists[keyword] = append(f.lists[keyword], words)
			}
		case keyword == "include":
			f.include(strings.TrimLeft(line[end:], " \t="), dir, depth)
		}
	}
}

// include takes in the files that the arguments of an Include name.
func (f *configFiles) include(args, dir string, depth int) {
	// Quotes, comments, tokens, variables, and what package filepath
	// understands in another way than OpenSSH.
	if strings.ContainsAny(args, "\"'\\#%$[") || strings.Contains(args, "..") {
		f.lasting = false
		return
	}
	for _, path := range strings.Fields(args) {
		switch rest, ok := strings.CutPrefix(path, "~/"); {
		case ok:
			path = filepath.Join(f.home, rest)
		case path[0] == '~': // another user's home
			f.lasting = false
			continue
		case !filepath.IsAbs(path):
			path = filepath.Join(dir, path)
		}
		if !strings.ContainsAny(path, "*?") {
			f.read(path, dir, depth+1)
			continue
		}
		parent := filepath.Dir(path)
		if strings.ContainsAny(parent, "*?") {
			f.lasting = false
			continue
		}
		stamp, _ := f.look(parent)
		f.dirs = append(f.dirs, parent)
		f.dirsStamp += stamp
		matches, err := filepath.Glob(path)
		f.lasting = f.lasting && err == nil
		for _, m := range matches {
			f.read(m, dir, depth+1)
		}
	}
}
