package code

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"jobserver/userfile"
)

// walk lists a directory that is no work tree of git's, minding its .gitignore files
// (gitignore(5)).
func walk(root *os.Root, without []string) ([]string, error) {
	var names []string
	var rules []rule
	fsys := root.FS()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != "." &&
			(d.Name() == ".git" || leftOut(without, name) || ignored(rules, name, d.IsDir())) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.IsDir() {
			names = append(names, name)
			return nil
		}
		text, err := fs.ReadFile(fsys, path.Join(name, ".gitignore"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		rules = append(rules, parseRules(name, string(userfile.Text(text)))...)
		return err
	})
	return names, err
}

// rule is a line of a .gitignore file.
type rule struct {
	dir      string // where the file is; "." is the top
	parts    []string
	negated  bool
	dirsOnly bool
	anchored bool // it has a slash before its end: it is about paths, not names
}

func parseRules(dir, text string) []rule {
	var rules []rule
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		for strings.HasSuffix(line, " ") && !strings.HasSuffix(line, `\ `) {
			line = line[:len(line)-1]
		}
		r := rule{dir: dir}
		if strings.HasPrefix(line, "#") {
			continue
		}
		if r.negated = strings.HasPrefix(line, "!"); r.negated {
			line = line[1:]
		}
		if r.dirsOnly = strings.HasSuffix(line, "/"); r.dirsOnly {
			line = line[:len(line)-1]
		}
		r.anchored = strings.Contains(line, "/")
		line = strings.TrimPrefix(line, "/")
		if line == "" {
			continue
		}
		r.parts = strings.Split(line, "/")
		rules = append(rules, r)
	}
	return rules
}

// ignored says what the last rule that matches says.
func ignored(rules []rule, name string, isDir bool) bool {
	for i := len(rules) - 1; i >= 0; i-- {
		if rules[i].matches(name, isDir) {
			return !rules[i].negated
		}
	}
	return false
}

func (r *rule) matches(name string, isDir bool) bool {
	if r.dirsOnly && !isDir {
		return false
	}
	below := name
	if r.dir != "." {
		rest, ok := strings.CutPrefix(name, r.dir+"/")
		if !ok {
			return false
		}
		below = rest
	}
	if !r.anchored {
		return matchPart(r.parts[0], path.Base(below))
	}
	return matchParts(r.parts, strings.Split(below, "/"))
}

// matchParts matches a path piece by piece; ** stands for any number of pieces, at the end for at
// least one.
func matchParts(pattern, names []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			if len(pattern) == 1 {
				return len(names) > 0
			}
			for i := range len(names) + 1 {
				if matchParts(pattern[1:], names[i:]) {
					return true
				}
			}
			return false
		}
		if len(names) == 0 || !matchPart(pattern[0], names[0]) {
			return false
		}
		pattern, names = pattern[1:], names[1:]
	}
	return len(names) == 0
}

// matchPart matches one piece. A pattern that is broken matches nothing.
func matchPart(pattern, name string) bool {
	for strings.Contains(pattern, "**") { // inside a piece it is an ordinary star
		pattern = strings.ReplaceAll(pattern, "**", "*")
	}
	pattern = strings.ReplaceAll(pattern, "[!", "[^")
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
