package agent

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shell runs a command that makes something in a directory.
func shell(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// TestTree: what can be an input, and what is said of what can't.
func TestTree(t *testing.T) {
	for _, tt := range []struct {
		name, make, path string
		files            int
		want             string // part of the error; "" : none
	}{
		{"a file", "echo x >f", "f", 1, ""},
		{"an empty file", ": >f", "f", 1, ""},
		{"a link to a file", "echo x >f; ln -s f l", "l", 1, ""},
		{"a directory", "mkdir -p d/a/b d/empty; echo x >d/a/f; ln -s f d/a/l; ln -s a/.. d/up",
			"d", 1,
			""},
		{"an empty directory", "mkdir d", "d", 0, ""},
		{"names", "mkdir d; : >\"d/two\nlines\"; : >\"d/$(printf 'b\\377d')\"; : >'d/ '; : >d/-f",
			"d", 4, ""},
		{"deep", "mkdir -p d/$(printf 'x%.0s/' $(seq 300)); echo x >d/x/f", "d", 1, ""},
		{"nothing", "true", "f", 0, "f is not there"},
		{"nothing below a file", "echo x >f", "f/g", 0, "is not there"},
		{"a dangling link", "ln -s nowhere l", "l", 0, "is not there"},
		{"a link that leads out", "mkdir d; ln -s ../f d/l", "d", 0, "d/l is a link to ../f"},
		{"an absolute link", "mkdir d; ln -s /etc/passwd d/l", "d", 0, "a link to /etc/passwd"},
		{"a pipe", "mkfifo f", "f", 0, "is a named pipe"},
		{"a pipe in it", "mkdir d; mkfifo d/f", "d", 0, "d/f is a named pipe"},
		{"a device", "ln -s /dev/zero f", "f", 0, "is a device"},
		{"a file of the kernel's", "ln -s /proc/self/status f", "f", 0,
			"/f changed while it was read"},
		{"a file that the system doesn't give out", "ln -s /proc/self/mem f", "f", 0,
			"/f can't be read: input/output error"},
		{"a link in a circle", "ln -s l l", "l", 0, "can't be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			shell(t, dir, tt.make)
			tree, err := ReadTree(t.Context(), filepath.Join(dir, tt.path))
			var hash string
			if err == nil {
				hash, err = tree.Hash(t.Context())
			}
			var own *TreeError
			switch {
			case tt.want == "" && err == nil && tree.Files == tt.files && isHash(hash):
			case tt.want != "" && errors.As(err, &own) && strings.Contains(err.Error(), tt.want):
			default:
				t.Errorf("%+v, hash %q, error %v; want %d files, error %q", tree, hash, err,
					tt.files,
					tt.want)
			}
		})
	}
	t.Run("one that grows", func(t *testing.T) {
		dir := t.TempDir()
		shell(t, dir, "mkdir d; echo x >d/f; echo x >d/g")
		tree, err := ReadTree(t.Context(), filepath.Join(dir, "d"))
		must(t, err)
		shell(t, dir, "echo more >>d/g")
		if _, err := tree.Hash(t.Context()); err == nil ||
			!strings.Contains(err.Error(), "d/g changed while it was read") {
			t.Error(err)
		}
	})
	t.Run("a socket", func(t *testing.T) {
		dir := t.TempDir()
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		must(t, err)
		defer l.Close()
		if _, err := ReadTree(t.Context(), dir); err == nil ||
			!strings.Contains(err.Error(), "is a socket") {
			t.Error(err)
		}
	})
	t.Run("too much", func(t *testing.T) {
		dir := t.TempDir()
		// A hole: it takes no room.
		shell(t, dir, fmt.Sprintf("truncate -s %d f", int64(MaxInputBytes)+1))
		if _, err := ReadTree(t.Context(), dir); err == nil ||
			!strings.Contains(err.Error(), "more than 16 GiB") {
			t.Error(err)
		}
		tree, info := Tree{Path: "d"}, mustStat(t, dir)
		var err error
		for i := 0; i <= MaxInputFiles && err == nil; i++ {
			err = tree.add(fmt.Sprint(i), info)
		}
		if err == nil || !strings.Contains(err.Error(), "more than 100000 files") {
			t.Error(err)
		}
	})
}

func mustStat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info
}

// TestTreeChanges: whatever is written to a tree while it is read is seen.
func TestTreeChanges(t *testing.T) {
	for _, change := range []string{"echo more >>d/a", "echo x >d/b", "rm d/z", "echo X >d/a",
		"mv d/a d/c", "rm d/a; mkfifo d/a", "rm d/z; ln -s /dev/zero d/z", "chmod +x d/a",
		"mkdir d/n",
		"rm -r d", "rm -r d; echo x >d"} {
		t.Run(change, func(t *testing.T) {
			dir := t.TempDir()
			shell(t, dir, "mkdir d; echo x >d/a; echo y >d/z")
			at := filepath.Join(dir, "d")
			for _, when := range []string{"before", "between"} {
				tree, err := ReadTree(t.Context(), at)
				must(t, err)
				done := false
				_, err = tree.pack(t.Context(), io.Discard,
					func(e treeEntry, src *os.File) (io.ReadCloser, error) {
						if e.name == "z" && !done || when == "before" && !done {
							done = true
							shell(t, dir, change)
						}
						return src, nil
					})
				var own *TreeError
				if !errors.As(err, &own) {
					t.Errorf("%s: %v", when, err)
				}
				if when == "before" {
					shell(t, dir, "rm -rf d; mkdir d; echo x >d/a; echo y >d/z")
				}
			}
		})
	}
}

// packed is a tree as it is sent, and its hash.
func packed(t *testing.T, at string) (archive []byte, hash string) {
	t.Helper()
	tree, err := ReadTree(t.Context(), at)
	must(t, err)
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	hash, err = tree.Pack(t.Context(), zip)
	must(t, err)
	must(t, zip.Close())
	return out.Bytes(), hash
}

// TestInput: an input that was sent, and one that was cloned, are the same, are found, and share
// nothing with what they come from.
func TestInput(t *testing.T) {
	dir := t.TempDir()
	shell(t, dir, "mkdir -p d/empty d/a; echo x >d/a/f; chmod +x d/a/f; ln -s a/f d/l; "+
		": >\"d/two\nlines\"; echo one >f")
	for _, name := range []string{"d", "f"} {
		from := filepath.Join(dir, name)
		archive, hash := packed(t, from)
		for _, way := range []string{"sent", "cloned"} {
			t.Run(name+" "+way, func(t *testing.T) {
				a := &agent{root: t.TempDir()}
				t.Cleanup(func() { must(t, removeAll(inputsDir(a.root))) })
				var reply codeReply
				var err error
				if way == "sent" {
					for _, r := range []codeRequest{{Data: archive}, {Last: true}} {
						r.Hash, r.Token = hash, "t"
						reply, err = a.input(t.Context(), &inputRequest{codeRequest: r})
						must(t, err)
					}
				} else {
					reply, err = a.input(t.Context(), &inputRequest{
						codeRequest: codeRequest{Hash: hash, Token: "t", Last: true}, From: from})
					must(t, err)
				}
				got := InputPath(reply.Dir, name == "f")
				if _, again := packed(t, got); again != hash {
					t.Errorf("what is in %s is not what was sent", got)
				}
				found, err := a.input(t.Context(),
					&inputRequest{codeRequest: codeRequest{Hash: hash}})
				if err != nil || found.Dir != reply.Dir || found.Changed != "" {
					t.Errorf("it is found as %+v: %v", found, err)
				}
				file := filepath.Join(got, map[string]string{"d": "a/f"}[name])
				st, _ := mustStat(t, file).Sys().(*syscall.Stat_t)
				if st.Nlink != 1 || st.Mode&0o222 != 0 {
					t.Errorf("%s has %d links and mode %o", file, st.Nlink, st.Mode)
				}
				// Whoever writes to it all the same gets no other job into trouble.
				must(t, os.Chmod(file, 0o600))
				must(t, os.WriteFile(file, []byte("other"), 0))
				found, err = a.input(t.Context(),
					&inputRequest{codeRequest: codeRequest{Hash: hash}})
				if err != nil || found.Dir != "" || found.Changed == "" {
					t.Errorf("written to, it is found as %+v: %v", found, err)
				}
			})
		}
	}
	t.Run("another than it is said to be", func(t *testing.T) {
		a := &agent{root: t.TempDir()}
		_, err := a.input(t.Context(), &inputRequest{From: dir, codeRequest: codeRequest{
			Hash: strings.Repeat("0", 64), Token: "t", Last: true}})
		if err == nil || !strings.Contains(err.Error(), "has the hash") {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(inputsDir(a.root), ".*")); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	})
}

// TestLayInputs: a run finds its inputs where it is told, whatever came before its start, and an
// input stays as long as a run has it.
func TestLayInputs(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	dir := t.TempDir()
	shell(t, dir, "echo one >f; echo two >g")
	put := func(name string) (string, string) {
		archive, hash := packed(t, filepath.Join(dir, name))
		at, err := c.PutInput(t.Context(), hash, "t"+name, bytes.NewReader(archive))
		must(t, err)
		return InputPath(at, true), filepath.Dir(at)
	}
	one, copied := put("f")
	two, _ := put("g")
	list := strings.Repeat("line\n", 300_000) // longer than one piece
	s := m.command("cat $JOBSERVER_INPUTS/*.txt; wc -l <$JOBSERVER_INPUTS/list; sleep 1000")
	var at string
	for _, links := range [][]Pair{{{"old.txt", two}}, {{"a.txt", one}, {"b.txt", two}}} {
		var err error
		at, err = c.LayInputs(t.Context(), s.Run, links, "list", []byte(list))
		must(t, err)
	}
	s.Env = append(s.Env, Pair{InputsVariable, at})
	id := start(t, c, s)
	awaitOutput(t, c, id, "one\ntwo\n300000\n")
	again, err := c.LayInputs(t.Context(), s.Run, []Pair{{"c.txt", two}}, "", nil)
	if must(t, err); again != at {
		t.Errorf("it is in %s, and then in %s", at, again)
	}
	if _, err := os.Lstat(filepath.Join(at, "c.txt")); err == nil {
		t.Error("a run that was started got another input")
	}
	a := &agent{root: m.root, bootID: "boot-1"}
	all := a.inputStore()
	all.most = 0
	must(t, all.prune(time.Now().Add(time.Hour)))
	if _, err := os.Stat(copied); err != nil {
		t.Errorf("an input that a run has is gone: %v", err)
	}
	must(t, c.Control(t.Context(), id, Control{Cancel: true, Grace: -1}))
	follow(t, c, id)
	must(t, all.prune(time.Now().Add(time.Hour)))
	if _, err := os.Stat(copied); !errors.Is(err, unix.ENOENT) {
		t.Errorf("an input that nobody has stays: %v", err)
	}
	must(t, c.Forget(t.Context(), []RunID{id}, false))
	for _, name := range []string{"..", "a/b", "."} {
		if _, err := c.LayInputs(t.Context(), m.command("true").Run, []Pair{{name, one}}, "",
			nil); err == nil {
			t.Errorf("an input is called %s", name)
		}
	}
}
