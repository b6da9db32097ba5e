package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSquattedNames: another user, who may write where results go, has taken the names of a job's
// part or directory before the daemon comes to them. Nothing is written or removed where that
// leads, and nothing is put where that user could change it.
func TestSquattedNames(t *testing.T) {
	t.Parallel()
	link := func(t *testing.T, victim, name string) { must(t, os.Symlink(victim, name)) }
	theirs := func(mode os.FileMode) func(t *testing.T, _, name string) {
		return func(t *testing.T, _, name string) {
			must(t, os.MkdirAll(filepath.Join(name, partFiles), 0o700))
			must(t, os.WriteFile(filepath.Join(name, partFiles, "o"), []byte("forged"), 0o666))
			must(t, os.Chmod(name, mode))
			if os.Geteuid() == 0 { // else nobody can give it away
				must(t, os.Chown(name, 12345, -1))
			}
		}
	}
	for name, tt := range map[string]struct {
		take   func(t *testing.T, victim, name string)
		isDest bool   // it is the directory that is taken, and not the part
		want   string // part of the error; "" if the results are there
		root   bool   // only root can try it
	}{
		"the part is a link": {take: link},
		"the part is a link nowhere": {take: func(t *testing.T, victim, name string) {
			link(t, victim+"/new", name)
		}},
		"the part is a link to a file": {take: func(t *testing.T, victim, name string) {
			link(t, victim+"/lock", name)
		}},
		"the part is a file": {take: func(t *testing.T, _, n string) {
			must(t, os.WriteFile(n, nil, 0o666))
		}},
		"the part is a pipe": {take: func(t *testing.T, _, name string) {
			must(t, unix.Mkfifo(name, 0o666))
		}},
		"the part is another's":      {take: theirs(0o755), root: true},
		"the part may be written to": {take: theirs(0o777)},
		"the directory is a link":    {take: link, isDest: true, want: "exists already"},
		"the directory is another's": {take: theirs(0o755), isDest: true, root: true,
			want: "belongs to another user"},
	} {
		if tt.root && os.Geteuid() != 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			victim, dest := filepath.Join(dir, "victim"), filepath.Join(dir, "results", "7")
			kept := filepath.Join(victim, partFiles, "kept")
			must(t, os.MkdirAll(filepath.Dir(kept), 0o755))
			must(t, os.Mkdir(filepath.Dir(dest), 0o755))
			must(t, os.WriteFile(kept, []byte("untouched"), 0o644))
			must(t, os.WriteFile(filepath.Join(victim, "lock"), []byte("untouched"), 0o644))
			f := daemon(t, "one")
			taken := dest
			if !tt.isDest {
				id := (&copying{Copy: results("m", 7, dest, "o")}).id()
				taken = filepath.Join(filepath.Dir(dest), f.partName(id))
			}
			tt.take(t, victim, taken)
			out, err := f.copyFrom(&said{lines: []string{"o=right"}}, 7, dest, false)
			text := out.Error
			if err != nil {
				text += err.Error()
			}
			if tt.want == "" && text != "" || !strings.Contains(text, tt.want) {
				t.Errorf("the copy says %q, want %q", text, tt.want)
			}
			if tt.want == "" && text == "" && tree(t, dest)["o"] != "right" {
				t.Errorf("the results are %q", tree(t, dest))
			}
			got := tree(t, victim)
			if len(got) != 3 || got["files/kept"] != "untouched" || got["lock"] != "untouched" {
				t.Errorf("where the name leads are %q", got)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
