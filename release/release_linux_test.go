package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/ssh/sshtest"
)

// TestRelease makes a release twice, from checkouts in different places, and tries what is in it.
// One client is made, and this host's own archive and packages; the others differ in their
// processor. With TORTURE=1 all are made, and those for Linux tried.
func TestRelease(t *testing.T) {
	targets := []string{"darwin/arm64", "linux/" + runtime.GOARCH}
	if os.Getenv("TORTURE") == "1" {
		targets = append(slices.Clone(clients), machines...)
	}
	var made [2]string
	for i := range made {
		dir := filepath.Join(t.TempDir(), strings.Repeat("deeper/", i)+"checkout")
		if i == 0 {
			checkout(t, dir)
		} else {
			first, _ := filepath.Split(made[0])
			sh(t, ".", nil, "git", "clone", "-q", first, dir)
		}
		made[i] = filepath.Join(dir, "dist")
		sh(t, dir, nil, "go", "run", "./release", "-only", strings.Join(targets, ","), made[i])
	}
	first, second := contentOf(t, made[0]), contentOf(t, made[1])
	if len(first) < 7 || len(first) != len(second) {
		t.Fatalf("the releases have %d and %d files", len(first), len(second))
	}
	for name, content := range first {
		if !bytes.Equal(content, second[name]) {
			t.Errorf("%s isn't the same when it is made again", name)
		}
	}
	dist := made[0]
	t.Run("checksums", func(t *testing.T) {
		sh(t, dist, nil, "sha256sum", "-c", "--strict", "SHA256SUMS")
		if n := bytes.Count(first["SHA256SUMS"], []byte("\n")); n != len(first)-1 {
			t.Errorf("%d of %d files have a checksum", n, len(first)-1)
		}
	})
	for _, target := range targets {
		goos, goarch, _ := strings.Cut(target, "/")
		t.Run(target, func(t *testing.T) {
			switch {
			case goos == "darwin":
				tryClient(t, dist, goarch)
			case sshtest.Emulate(t, goarch): // as of this host it is always so
				tryArchive(t, dist, goarch)
			}
		})
	}
	t.Run("bill", func(t *testing.T) { tryBill(t, dist) })
	t.Run("bare root", func(t *testing.T) { tryBareRoot(t, dist) })
	t.Run("deb", func(t *testing.T) { tryDeb(t, dist) })
	t.Run("rpm", func(t *testing.T) { tryRPM(t, dist) })
	t.Run("pool", func(t *testing.T) { tryPool(t, dist) })
}

// checkout makes a repository of one commit of what is in this one, committed or not.
func checkout(t *testing.T, dir string) {
	t.Helper()
	names := sh(t, "..", nil, "git", "ls-files", "-co", "--exclude-standard", "-z")
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		from := filepath.Join("..", name)
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, info.Mode().Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	env := []string{
		"GIT_AUTHOR_NAME=a",
		"GIT_AUTHOR_EMAIL=a@a",
		"GIT_AUTHOR_DATE=2026-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=a",
		"GIT_COMMITTER_EMAIL=a@a",
		"GIT_COMMITTER_DATE=2026-01-02T03:04:05Z",
	}
	sh(t, dir, env, "git", "init", "-q")
	sh(t, dir, env, "git", "add", "-A")
	sh(t, dir, env, "git", "commit", "-q", "-m", "all")
	sh(t, dir, env, "git", "tag", "v9.8.7")
}

// sh runs a program and gives what it prints.
func sh(t *testing.T, dir string, env []string, words ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", words, err, out)
	}
	return string(out)
}

func contentOf(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// tryClient looks into an archive that can't be run here.
func tryClient(t *testing.T, dist, goarch string) {
	dir := "jobserver-client-9.8.7-darwin-" + goarch
	packed, err := os.Open(filepath.Join(dist, dir+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, dir+"/")
		names = append(names, name)
		if h.ModTime.UTC().Format("2006-01-02") != "2026-01-02" || h.Uid != 0 || h.Uname != "root" {
			t.Errorf("%s is of %v and %s", h.Name, h.ModTime, h.Uname)
		}
		if name != "jobserver" {
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil || info.Path != "jobserver" || h.Mode != 0o755 {
			t.Errorf("the client is %v, %v, with mode %o", info, err, h.Mode)
		}
	}
	want := []string{"CHANGELOG.md", "README.md", "install.sh", "jobserver", "jobserver.1"}
	if !slices.Equal(names, want) {
		t.Errorf("the client's archive has %v", names)
	}
}

// tryBill compares the bill of materials with go.mod.
func tryBill(t *testing.T, dist string) {
	content, err := os.ReadFile(
		filepath.Join(dist, "jobserver-9.8.7-linux-"+runtime.GOARCH+".cdx.json"),
	)
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BOMFormat  string `json:"bomFormat"`
		Components []component
	}
	if err := json.Unmarshal(content, &bill); err != nil || bill.BOMFormat != "CycloneDX" {
		t.Fatal(err, bill.BOMFormat)
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range bill.Components {
		if c.Name != "go" && !bytes.Contains(module, []byte(c.Name+" "+c.Version)) {
			t.Errorf("%s %s is not what go.mod says", c.Name, c.Version)
		}
	}
	if len(bill.Components) < 10 {
		t.Errorf("there are only %d components", len(bill.Components))
	}
}

// tryArchive installs for a user who has nothing yet, runs the demonstration, and removes
// everything.
func tryArchive(t *testing.T, dist, goarch string) {
	name := "jobserver-9.8.7-linux-" + goarch
	home := t.TempDir()
	sh(t, home, nil, "tar", "xzf", filepath.Join(dist, name+".tar.gz"))
	env := bare(home)
	for range 2 { // installed over itself, it is the same
		if said := sh(
			t,
			home,
			env,
			filepath.Join(home, name, "install.sh"),
		); !strings.Contains(
			said,
			"put it on your PATH",
		) {
			t.Errorf("install.sh says %s", said)
		}
	}
	try(t, home, env, filepath.Join(home, ".local", "bin", "jobserver"))
	if text := sh(
		t,
		home,
		env,
		"cat",
		".local/share/bash-completion/completions/jobserver",
	); !strings.Contains(
		text,
		home+"/.local/bin/jobserver",
	) {
		t.Errorf("the completion doesn't name the program: %s", text)
	}
	if systemd, err := exec.LookPath("systemd-analyze"); err == nil {
		unit := home + "/.config/systemd/user/jobserver.service"
		// or it verifies nothing
		running := append(slices.Clone(env), "XDG_RUNTIME_DIR="+t.TempDir())
		sh(t, home, running, systemd, "verify", "--user", "--man=no", unit)
	}
	sh(t, home, env, filepath.Join(home, name, "install.sh"), "--uninstall")
	if err := os.RemoveAll(filepath.Join(home, name)); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, home)
}

// tryBareRoot goes the way of somebody who has nothing but a shell: a root directory with BusyBox,
// the archive, and the commands that README.md shows; before them the two that are enough.
func tryBareRoot(t *testing.T, dist string) {
	root := t.TempDir()
	name := "jobserver-9.8.7-linux-" + runtime.GOARCH
	if err := os.Mkdir(filepath.Join(root, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	sh(t, root, nil, "cp", filepath.Join(dist, name+".tar.gz"), filepath.Join(root, "root"))
	began := time.Now()
	said := inRoot(t, root, "tar xzf "+name+".tar.gz\n"+name+"/jobserver demo")
	t.Logf("from the archive to a table of results: %v", time.Since(began))
	if !strings.Contains(said, "8D") || !strings.Contains(said, "LEVEL") {
		t.Errorf("the demonstration shows\n%s", said)
	}
	said = inRoot(t, root, "rm -r *-demo "+name+"\n"+strings.ReplaceAll(readme(t),
		"jobserver-1.1.0-linux-amd64", name))
	for _, want := range []string{"jobserver is in /root/.local/bin", "8D", "LEVEL"} {
		if !strings.Contains(said, want) {
			t.Errorf("there is no %q in\n%s", want, said)
		}
	}
	said = inRoot(t, root,
		name+"/install.sh --uninstall\nrm -r *-demo "+name+"*\nfind . /tmp -type f")
	if !strings.HasSuffix(said, "removed from /root/.local\n") {
		t.Errorf("this is left behind: %s", said)
	}
}

// readme is the block of README.md that says that it is tested here.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "<!-- tested by TestRelease -->\n```console\n")
	block, _, found := strings.Cut(after, "```")
	if !found || strings.Count(block, "$ ") != 3 {
		t.Fatalf("README.md has no three lines for this test: %q", block)
	}
	return strings.ReplaceAll(block, "$ ", "")
}

// inRoot runs a script in a root directory, which gets BusyBox and nothing else.
func inRoot(t *testing.T, root, script string) string {
	t.Helper()
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: install busybox-static", err)
	}
	for _, dir := range []string{"bin", "proc", "dev", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, root, nil, "cp", box, filepath.Join(root, "bin", "busybox"))
	return sh(t, root, nil, "unshare", "--map-root-user", "--mount", "sh", "-c", `
mount --rbind /proc proc
mount --rbind /dev dev
exec env -i HOME=/root PATH=/bin:/usr/bin TERM=dumb `+chroot+` . /bin/busybox sh -c "$0"`,
		"set -e\nbusybox --install -s /bin\ncd\n"+script)
}

// chroot is not on the PATH of ordinary users.
const chroot = "/usr/sbin/chroot"

// tryInstalled runs what a package has put into a root directory.
func tryInstalled(t *testing.T, root string) {
	t.Helper()
	said := inRoot(t, root, "jobserver version\njobserver demo\nrm -r *-demo")
	for _, want := range []string{"jobserver 9.8.7\n", "8D", "LEVEL"} {
		if !strings.Contains(said, want) {
			t.Errorf("there is no %q in\n%s", want, said)
		}
	}
}

// bare is the environment of a user whose home is empty.
func bare(home string) []string {
	return []string{
		"HOME=" + home,
		"PATH=/usr/bin:/bin:/usr/sbin:/sbin",
		"XDG_STATE_HOME=",
		"XDG_CONFIG_HOME=" + home + "/.config",
		"XDG_RUNTIME_DIR=",
		"JOBSERVER_SOCKET=",
		"TERM=dumb",
	}
}

// try runs a program that was installed: its version, and the demonstration, which is a daemon, a
// machine and jobs.
func try(t *testing.T, home string, env []string, program string) {
	t.Helper()
	if text := sh(
		t,
		home,
		env,
		program,
		"version",
	); !strings.HasPrefix(
		text,
		"jobserver 9.8.7\n",
	) ||
		!strings.Contains(text, "date      2026-01-02\n") {
		t.Errorf("version prints %s", text)
	}
	results := filepath.Join(home, "demo")
	if text := sh(
		t,
		home,
		env,
		program,
		"demo",
		"--dir",
		results,
	); !strings.Contains(
		text,
		results,
	) {
		t.Errorf("the demonstration prints %s", text)
	}
	if err := os.RemoveAll(results); err != nil {
		t.Fatal(err)
	}
}

// nothingLeft looks for files that nobody has removed.
func nothingLeft(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == root {
			return nil // it went with the last of them
		}
		if err == nil && !d.IsDir() {
			t.Errorf("%s was left behind", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// tryDeb installs the package into an empty root, with a database of its own.
func tryDeb(t *testing.T, dist string) {
	root := t.TempDir()
	for _, dir := range []string{"updates", "info"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dpkg := []string{
		"dpkg",
		"--root=" + root,
		"--force-not-root,script-chrootless",
		"--log=/dev/null",
	}
	deb := filepath.Join(dist, "jobserver-9.8.7-linux-"+runtime.GOARCH+".deb")
	sh(t, root, nil, append(dpkg, "-i", deb)...)
	tryInstalled(t, root)
	sh(t, root, nil, append(dpkg, "-P", "jobserver")...)
	nothingLeft(t, filepath.Join(root, "usr"))
}

// tryRPM is tryDeb for the other kind of package.
func tryRPM(t *testing.T, dist string) {
	root := t.TempDir()
	rpm := []string{"rpm", "--root", root, "--nodeps", "--noscripts"}
	file := filepath.Join(dist, "jobserver-9.8.7-linux-"+runtime.GOARCH+".rpm")
	sh(t, root, nil, append(rpm, "-i", file)...)
	tryInstalled(t, root)
	sh(t, root, nil, append(rpm, "-e", "jobserver")...)
	nothingLeft(t, filepath.Join(root, "usr"))
}
