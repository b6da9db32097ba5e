package completion

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// strangerUID is in no password file, so that the library takes its home directory from HOME.
const strangerUID = 54321

// asStranger makes cmd run as a user without an entry, whoever runs the test.
func asStranger(t *testing.T, cmd *exec.Cmd, home string) {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := os.Chown(home, strangerUID, strangerUID); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: strangerUID, Gid: strangerUID, NoSetGroups: true}}
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: strangerUID, HostID: os.Geteuid(), Size: 1}},
	}
}

// TestStartUpFiles edits start-up files through posener/complete, which finds them by the user and not by a
// parameter: hence a process of its own, whose home is the test's.
func TestStartUpFiles(t *testing.T) {
	home, err := os.MkdirTemp("", "completion")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	try := exec.Command("true")
	if asStranger(t, try, home); try.Run() != nil && os.Geteuid() != 0 {
		t.Log("without user namespaces an ordinary user can only be himself, and his own files are not touched")
		return
	}
	program := filepath.Join(home, "rc")
	build := exec.Command("go", "build", "-o", program, "./testdata/rc")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the real binary is built
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := map[string]string{".bashrc": "alias ll='ls -l'\n", ".zshrc": "bindkey -e\n"}
	for name, content := range before {
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(path, strangerUID, strangerUID); err != nil {
				t.Fatal(err)
			}
		}
	}
	run := func(verb, want string) {
		t.Helper()
		cmd := exec.Command(program, verb, "j")
		cmd.Dir = home
		cmd.Env = []string{"HOME=" + home, "USER=stranger", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home}
		asStranger(t, cmd, home)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%s: %v\n%s", verb, err, out)
		}
	}
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(home, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	run("install", "edited the start-up files")
	run("install", "already")
	line := "complete -C " + program + " j\n"
	if diff := cmp.Diff(before[".bashrc"]+line, read(".bashrc")); diff != "" {
		t.Errorf(".bashrc (-want +got):\n%s", diff)
	}
	if got := read(".zshrc"); !strings.Contains(got, "bashcompinit\n") || !strings.HasSuffix(got, "-C "+program+" j\n") {
		t.Errorf(".zshrc:\n%s", got)
	}
	run("uninstall", "edited the start-up files")
	run("uninstall", "no start-up file completes j")
	if diff := cmp.Diff(before[".bashrc"], read(".bashrc")); diff != "" {
		t.Errorf(".bashrc afterwards (-want +got):\n%s", diff)
	}
}
