package completion

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// startUpTest is a home directory with start-up files.
type startUpTest struct {
	t    *testing.T
	home string
	env  map[string]string
}

func newStartUpTest(t *testing.T) *startUpTest {
	home := t.TempDir()
	return &startUpTest{t, home, map[string]string{"HOME": home, "SHELL": "/bin/bash"}}
}

func (s *startUpTest) installation(shell string) Installation {
	return Installation{Name: "j", Binary: "/opt/it's/jobserver", Shell: shell, RC: true,
		Getenv: func(name string) string {
			return s.env[name]
		}}
}

// do is one Install or Uninstall, and what it has to say.
func (s *startUpTest) do(run func() ([]string, error), want string) {
	s.t.Helper()
	notes, err := run()
	if diff := cmp.Diff([]string{want}, notes); err != nil || diff != "" {
		s.t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
}

func (s *startUpTest) write(path, content string, mode os.FileMode) {
	s.t.Helper()
	path = filepath.Join(s.home, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		s.t.Fatal(err)
	}
}

func (s *startUpTest) read(path string) string {
	s.t.Helper()
	content, err := os.ReadFile(filepath.Join(s.home, path))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

// TestStartUpFiles edits the file of the one shell that is meant, and leaves all of it as it was
// but for the line.
func TestStartUpFiles(t *testing.T) {
	for _, test := range []struct {
		shell, file string
		env         string // NAME=VALUE
		before      string
	}{
		{"", ".bashrc", "", "alias ll='ls -l'\n"},
		{"bash", ".bashrc", "SHELL=/bin/zsh", ""},
		{"zsh", ".zshrc", "", "bindkey -e\n# the end"}, // without a line end
		{"zsh", "zsh/.zshrc", "ZDOTDIR=HOME/zsh", "bindkey -e\n"},
		{"fish", ".config/fish/config.fish", "", "set -g fish_greeting\n"},
		{"fish", "conf/fish/config.fish", "XDG_CONFIG_HOME=HOME/conf", "\n"},
	} {
		t.Run(test.shell+" "+test.env, func(t *testing.T) {
			s := newStartUpTest(t)
			if name, value, ok := strings.Cut(test.env, "="); ok {
				s.env[name] = strings.ReplaceAll(value, "HOME", s.home)
			}
			s.write(test.file, test.before, 0o640)
			in, path := s.installation(test.shell), filepath.Join(s.home, test.file)
			s.do(in.Install, "wrote a line into "+path+": new shells complete j")
			once := s.read(test.file)
			if line, ok := strings.CutPrefix(once, test.before); !ok ||
				strings.Count(strings.Trim(line, "\n"), "\n") != 0 ||
				!strings.Contains(line, "jobserver") {
				t.Errorf("installed:\n%s", once)
			}
			s.do(in.Install, path+" completes j already")
			if diff := cmp.Diff(once, s.read(test.file)); diff != "" {
				t.Errorf("installed twice (-want +got):\n%s", diff)
			}
			// Another name is another line; a program that has moved is the same one.
			other, moved := in, in
			other.Name, moved.Binary = "jj", "/elsewhere/jobserver"
			s.do(other.Install, "wrote a line into "+path+": new shells complete jj")
			s.do(moved.Install, "wrote a line into "+path+": new shells complete j")
			if got := s.read(test.file); strings.Count(got, "completes j") != 2 ||
				strings.Count(got, "/elsewhere/jobserver") == 0 {
				t.Errorf("installed for a program that has moved:\n%s", got)
			}
			s.do(other.Uninstall, "took a line out of "+path)
			s.do(in.Uninstall, "took a line out of "+path)
			s.do(in.Uninstall, "there was none: no line of "+path+" completes j")
			want := test.before
			if want != "" && !strings.HasSuffix(want, "\n") {
				want += "\n"
			}
			if diff := cmp.Diff(want, s.read(test.file)); diff != "" {
				t.Errorf("uninstalled (-want +got):\n%s", diff)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if files, err := filepath.Glob(filepath.Dir(path) + "/*.bck"); err != nil ||
				len(files) > 0 {
				t.Errorf("left behind: %q, %v", files, err)
			}
		})
	}
}

// TestStartUpLink writes through a link, and makes a file where there is none.
func TestStartUpLink(t *testing.T) {
	s := newStartUpTest(t)
	in, path := s.installation("bash"), filepath.Join(s.home, ".bashrc")
	s.do(in.Uninstall, "there was none: no line of "+path+" completes j")
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("uninstalling made %s: %v", path, err)
	}
	s.write("dotfiles/bashrc", "# mine\n", 0o600)
	if err := os.Symlink("dotfiles/bashrc", path); err != nil {
		t.Fatal(err)
	}
	s.do(in.Install, "wrote a line into "+path+": new shells complete j")
	if to, err := os.Readlink(path); err != nil || to != "dotfiles/bashrc" {
		t.Errorf("%q, %v", to, err)
	}
	if got := s.read("dotfiles/bashrc"); !strings.HasPrefix(got, "# mine\nif ") {
		t.Errorf("%q", got)
	}
	if err := os.Remove(filepath.Join(s.home, "dotfiles/bashrc")); err != nil {
		t.Fatal(err)
	}
	if notes, err := in.Install(); err == nil {
		t.Errorf("wrote through a link to nothing: %q", notes)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.do(in.Install, "wrote a line into "+path+": new shells complete j")

	bad := in
	bad.Name = "a b"
	if notes, err := bad.Install(); err == nil {
		t.Errorf("installed for a name of two words: %q", notes)
	}
	s.env["HOME"] = ""
	if notes, err := in.Install(); err == nil {
		t.Errorf("installed without a home: %q", notes)
	}
}
