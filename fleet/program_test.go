package fleet

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jobserver/ssh/sshtest"
)

// TestCheckProgram: what the kernel refuses to execute is refused, for a reason that helps, and
// nothing else.
func TestCheckProgram(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script := file("script", "#!/bin/sh\nexit 0\n", 0o755)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("script", link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, want string }{
		{script, ""},
		{link, ""},
		{"/bin/true", ""},
		{file("blanks", "#! \t/bin/sh -e\nexit 0\n", 0o755), ""},
		{file("env", "#!/usr/bin/env sh\nexit 0\n", 0o700), ""},
		{file("no newline", "#!/bin/true", 0o755), ""},
		{file("by script", "#!"+script+"\n", 0o755), ""},
		{file("crlf after", "#!/bin/sh\nexit 0\r\n", 0o755), ""},
		{file("no bang", "exit 0\n", 0o755), "#!/bin/sh"},
		{file("crlf", "#!/bin/sh\r\nexit 0\r\n", 0o755), "CRLF"},
		{file("crlf env", "#!/usr/bin/env python3\r\n", 0o755), "CRLF"},
		{file("no x", "#!/bin/sh\n", 0o644), "chmod +x"},
		{file("empty", "", 0o755), "is empty"},
		{file("bom", "\xef\xbb\xbf#!/bin/sh\n", 0o755), "byte order mark"},
		{file("nowhere", "#!/no/such/sh\n", 0o755), "no such file"},
		{file("nothing", "#!\n", 0o755), "no interpreter"},
		{file("interpreter x", "#!"+file("lib", "#!/bin/sh\n", 0o644)+"\n", 0o755), "chmod +x"},
		{file("itself", "#!"+filepath.Join(dir, "itself")+"\n", 0o755), "interpreters"},
		{dir, "not a file"},
		{filepath.Join(dir, "gone"), "no such file"},
	} {
		err := CheckProgram(test.path)
		if (err == nil) != (test.want == "") || err != nil &&
			!strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", filepath.Base(test.path), err, test.want)
		}
		// The kernel is the judge. (What a script of env's doesn't find, env says.)
		cmd := exec.Command(test.path)
		started := cmd.Start() == nil
		if started {
			_ = cmd.Wait()
		}
		if strings.Contains(test.path, "env") && started {
			continue
		}
		if started != (err == nil) {
			t.Errorf("%s: started %v, but %v", filepath.Base(test.path), started, err)
		}
	}
}

// TestFormats: formats that the kernel was told of are told apart as it does.
func TestFormats(t *testing.T) {
	const python = "enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic a70d0d0a\n"
	const masked = "enabled\ninterpreter /x\nflags: F\noffset 2\nmagic 4100ff\nmask ff00f0\n"
	for _, test := range []struct {
		format, path, head string
		want               bool
	}{
		{python, "/x", "\xa7\r\r\nrest", true}, {python, "/x", "exit 0\n", false},
		{python, "/x", "\xa7", false},
		{strings.Replace(python, "enabled", "disabled", 1), "/x", "\xa7\r\r\nrest", false},
		{masked, "/x", "..A?\xf1", true}, {masked, "/x", "..A?\x01", false},
		{"enabled\n", "/x", "anything", false},
		{"enabled\ninterpreter /x\nflags: \nextension .jar\n", "/a.jar", "x", true},
		{"enabled\nextension .jar\n", "/a.sh", "x", false},
	} {
		if got := isFormat(test.format, test.path, []byte(test.head)); got != test.want {
			t.Errorf("%q of %q: %v", test.head, test.format, got)
		}
	}
}

// TestLoginEnv: jobs of local machines see a login's environment, and of the daemon's what they are
// let see.
func TestLoginEnv(t *testing.T) {
	daemon := []string{"HOME=/h", "PATH=/opt/x", "AWS_SECRET_ACCESS_KEY=s", "LANG=C.UTF-8",
		"LC_TIME=C", "CUDA_HOME=/cuda", "CUDA_X=1", "TZ=UTC", "EDITOR=vi", "VIRTUAL_ENV=/v"}
	for _, test := range []struct {
		pass      []string
		with, not []string
	}{
		{nil, []string{"HOME=/h", "PATH=" + loginPath, "LANG=C.UTF-8", "LC_TIME=C", "TZ=UTC"},
			[]string{"AWS_SECRET_ACCESS_KEY=s", "CUDA_HOME=/cuda", "PATH=/opt/x", "EDITOR=vi"}},
		{[]string{"PATH"}, []string{"PATH=/opt/x"},
			[]string{"PATH=" + loginPath, "VIRTUAL_ENV=/v"}},
		{[]string{"CUDA_*", "VIRTUAL_ENV"},
			[]string{"CUDA_HOME=/cuda", "CUDA_X=1", "VIRTUAL_ENV=/v"}, []string{"EDITOR=vi"}},
		{[]string{"["}, nil, []string{"EDITOR=vi"}},
	} {
		env := loginEnv(daemon, test.pass)
		for _, v := range test.with {
			if !slices.Contains(env, v) {
				t.Errorf("pass %q: %s is missing in %q", test.pass, v, env)
			}
		}
		for _, v := range test.not {
			if slices.Contains(env, v) {
				t.Errorf("pass %q: %s is in it", test.pass, v)
			}
		}
		for _, name := range []string{"HOME=", "USER=", "LOGNAME=", "SHELL=", "PATH="} {
			if n := len(slices.DeleteFunc(slices.Clone(env),
				func(v string) bool { return !strings.HasPrefix(v, name) })); n != 1 {
				t.Errorf("%s is in it %d times", name, n)
			}
		}
	}
}

// TestLocalEnv: a job of a local machine doesn't see what the daemon was started with.
func TestLocalEnv(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("CUDA_HOME", "/cuda")
	h := newHost(t, nil, func(o *Options) { o.PassEnv = []string{"CUDA_*"} })
	h.connected("local")
	r := job("local", 1, `echo "<$AWS_SECRET_ACCESS_KEY><$CUDA_HOME>"; pwd`)
	h.Start(r)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	h.ends(r, "<></cuda>\n"+here+"\n")
}

// TestLoginFiles: wherever the files of a login shell go, and whatever they leave open or ignored,
// jobs begin at home and with nothing of it. What they set on purpose holds: variables, the mask of
// new files, limits.
func TestLoginFiles(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	m := sshtest.Start(t, sshtest.ServerConfig(
		`ForceCommand cd /tmp; trap '' INT HUP PIPE; exec 7</dev/null; umask 027; export FROM_LOGIN=x; ulimit -c 0; eval "$SSH_ORIGINAL_COMMAND"`))
	h := newHost(t, m)
	h.connected(m.Name)
	r := job(m.Name, 1,
		`pwd; umask; echo $FROM_LOGIN; ls /proc/self/fd | grep -x 7; trap "echo caught" INT; kill -INT $$; echo end`)
	h.Start(r)
	h.ends(r, home+"\n0027\nx\ncaught\nend\n")
}
