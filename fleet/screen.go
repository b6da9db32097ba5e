package fleet

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"jobserver/agent"
)

// What a machine says of its results is taken for what it does to the destination, not for what it
// looks like.

// screen takes out of the manifest what isn't to be made in the destination. Symbolic links are
// looked at once more when all else is there, see makeLinks. An error means that the whole manifest
// can't be believed.
func (t *transfer) screen() error {
	t.plainTaken = slices.ContainsFunc(t.manifest.Entries, func(e agent.Entry) bool {
		return t.isRecord(e.Name, plainRecord)
	})
	t.index = make(map[string]int, len(t.manifest.Entries))
	kept := t.manifest.Entries[:0]
	for _, e := range t.manifest.Entries {
		if _, twice := t.index[e.Name]; twice {
			return fmt.Errorf(
				"%s says that there are two results %s: nothing is copied",
				t.c.Machine.Addr,
				e.Name,
			)
		}
		if why := t.unwanted(&e); why != "" {
			t.problem("not copied: %s: %s", e.Source, why)
			continue
		}
		t.index[e.Name] = len(kept)
		kept = append(kept, e)
	}
	t.manifest.Entries = kept
	return nil
}

// unwanted says why an entry isn't made.
func (t *transfer) unwanted(e *agent.Entry) string {
	dir, base := path.Split(e.Name)
	if dir != "" {
		if i, there := t.index[path.Clean(dir)]; !there || t.manifest.Entries[i].Kind != agent.Dir {
			return "it stands in no directory of the results"
		}
	}
	folded := strings.ToLower(base)
	shared := dir == "" && t.c.Shared
	switch {
	case strings.HasPrefix(folded, ourNames):
		return "names with " + ourNames + " are the daemon's own"
	case t.isRecord(e.Name, t.recordName()):
		return "the job's record has that name"
	case shared && strings.HasSuffix(folded, "."+plainRecord),
		shared && strings.HasSuffix(folded, "."+plainDiff):
		return "in a directory that jobs share, such names are those of their records"
	case e.Kind == agent.Symlink && (e.Escapes || !staysInside(e.Name, e.Target)):
		return "a link that leads out of the results, to " + e.Target
	}
	return ""
}

// staysInside tells whether a link leads to where its result has its files, as far as its name and
// target tell: the first element of its name.
func staysInside(name, target string) bool {
	if target == "" || path.IsAbs(target) {
		return false
	}
	top, _, below := strings.Cut(name, "/")
	end := path.Join(path.Dir(name), target)
	return below && (end == top || strings.HasPrefix(end, top+"/"))
}

// leadsUpFirst tells whether all ".." of a target come first: then no other link is followed before
// them, and what staysInside says is true whatever there is.
func leadsUpFirst(target string) bool {
	rest := target
	for strings.HasPrefix(rest, "../") {
		rest = strings.TrimLeft(rest[len(".."):], "/")
	}
	return rest == ".." || !slices.Contains(strings.Split(rest, "/"), "..")
}

// How much is kept of what isn't copied, and why: problems, bytes of one of them, which has a path
// or two, and names of missing results.
const (
	mostProblems = 1000
	mostOfOne    = 8 << 10
	mostMissing  = 10
)

// problem notes what isn't copied, and why.
func (t *transfer) problem(format string, args ...any) {
	if len(t.problems) >= mostProblems {
		t.moreProblems++
		return
	}
	text := t.c.hidden.Redact(fmt.Sprintf(format, args...))
	if len(text) > mostOfOne {
		text = strings.ToValidUTF8(text[:mostOfOne], "") + "…"
	}
	t.problems = append(t.problems, text)
}

// allProblems are the problems as the record has them.
func (t *transfer) allProblems() []string {
	if t.moreProblems == 0 {
		return t.problems
	}
	return append(slices.Clone(t.problems), fmt.Sprintf("and %d more", t.moreProblems))
}

// complaint tells people what wasn't copied: not more than they would read.
func (t *transfer) complaint() string { return complaint(t.problems, t.moreProblems) }

func complaint(problems []string, more int) string {
	const most = 10
	all := problems[:min(len(problems), most)]
	if n := len(problems) + more - len(all); n > 0 {
		all = append(slices.Clone(all), fmt.Sprintf("and %d more", n))
	}
	return strings.Join(all, "; ")
}

// clashError says that two results would be one file.
type clashError struct{ a, b, dest string }

func (e *clashError) Error() string {
	return fmt.Sprintf("%s and %s are one name in %s, whose file system doesn't tell them apart:"+
		" nothing is copied; let the job rename one of them, or copy to another file system",
		e.a, e.b, e.dest)
}

// clash is the error for a result whose name is taken in a fresh part: it names the one that is
// there. Some file systems number names and not files, so what folds is looked at as well.
func (t *transfer) clash(dir *beneath, name string) error {
	it, err := dir.lstat(path.Base(name))
	other := "another result"
	for _, e := range t.manifest.Entries {
		if err != nil || e.Name == name || path.Dir(e.Name) != path.Dir(name) {
			continue
		}
		st, err := dir.lstat(path.Base(e.Name))
		same := err == nil && st.Dev == it.Dev && st.Ino == it.Ino
		if same || strings.EqualFold(e.Name, name) {
			other = e.Name
			break
		}
	}
	return &clashError{other, name, t.c.Dest}
}
