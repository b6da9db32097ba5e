package fleet

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/ssh/sshtest"
)

// fileSystem is one that results may be copied to.
type fileSystem struct {
	name  string
	mount func(t *testing.T, dir string) // as root
	folds bool                           // Model.bin and model.bin are one name
	links bool                           // it has symbolic links
	colon bool                           // names may have a colon
	modes bool                           // it keeps permissions
}

var fileSystems = []fileSystem{
	{name: "ordinary", links: true, colon: true, modes: true},
	{name: "exfat", mount: mountExFAT, folds: true},
	{name: "ntfs", mount: mountNTFS, folds: true, links: true, colon: true},
	{name: "sshfs", mount: mountSSHFS, links: true, colon: true, modes: true},
	{name: "overlay", mount: mountOverlay, links: true, colon: true, modes: true},
}

// sh runs a command that must succeed.
func sh(t *testing.T, words ...string) string {
	t.Helper()
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", words, err, out)
	}
	return strings.TrimSpace(string(out))
}

// mayMount tells whether this user may mount things here, as root in most containers may not.
func mayMount(t *testing.T) bool {
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		return false
	}
	dir := t.TempDir()
	if err := exec.Command("mount", "-t", "tmpfs", "none", dir).Run(); err != nil {
		return false
	}
	unmount(t, dir)
	return true
}

// unmount unmounts a directory when the test ends.
func unmount(t *testing.T, dir string) {
	t.Cleanup(func() { sh(t, "umount", dir) })
}

func mountExFAT(t *testing.T, dir string) {
	image := filepath.Join(t.TempDir(), "image")
	sh(t, "truncate", "-s", "64M", image)
	sh(t, "mkfs.exfat", image)
	loop := sh(t, "losetup", "-f", "--show", image)
	t.Cleanup(func() { sh(t, "losetup", "-d", loop) })
	sh(t, "mount.exfat-fuse", loop, dir)
	unmount(t, dir)
}

func mountNTFS(t *testing.T, dir string) {
	image := filepath.Join(t.TempDir(), "image")
	sh(t, "truncate", "-s", "64M", image)
	sh(t, "mkfs.ntfs", "-F", "-Q", "-q", image)
	sh(t, "lowntfs-3g", "-o", "ignore_case", image, dir)
	unmount(t, dir)
}

func mountSSHFS(t *testing.T, dir string) {
	m := sshtest.Start(t, sshtest.ServerConfig("Subsystem sftp internal-sftp"))
	sh(t, "sshfs", "-F", m.ConfigFile, m.Name+":"+t.TempDir(), dir)
	unmount(t, dir)
}

func mountOverlay(t *testing.T, dir string) {
	at := t.TempDir()
	sh(t, "mount", "-t", "tmpfs", "none", at) // overlays of overlays are refused
	unmount(t, at)
	sh(t, "mkdir", at+"/lower", at+"/upper", at+"/work")
	sh(
		t,
		"mount",
		"-t",
		"overlay",
		"none",
		"-o",
		"lowerdir="+at+"/lower,upperdir="+at+"/upper,workdir="+at+"/work",
		dir,
	)
	unmount(t, dir)
}

// Results come whole to whatever file system there is, or it is said what didn't and why; nothing
// is ever replaced. Who may not mount anything tries only the one that is there.
func TestFileSystems(t *testing.T) {
	may := mayMount(t)
	for _, fs := range fileSystems {
		if fs.mount != nil && !may {
			continue
		}
		t.Run(fs.name, func(t *testing.T) {
			top := t.TempDir()
			if fs.mount != nil {
				fs.mount(t, top)
			}
			fs.try(t, top)
		})
	}
}

func (fs fileSystem) try(t *testing.T, top string) {
	f := daemon(t, "srv")
	long := strings.Repeat("x", smallSize+1)
	plain := []string{"o/", "o/x=1", "o/long=" + long, "o/sub/", "o/sub/y=2", "top=3"}
	want := map[string]string{
		"o":       "/",
		"o/x":     "1",
		"o/long":  long,
		"o/sub":   "/",
		"o/sub/y": "2",
		"top":     "3",
	}
	whole := func(dest string, jid uint64, shared bool, old map[string]string) {
		t.Helper()
		plant(t, dest, old)
		out, err := f.copyFrom(&said{lines: plain}, jid, dest, shared)
		if err != nil || out.Error != "" || out.Files != 4 {
			t.Errorf("job %d ended with %+v, %v", jid, out, err)
		}
		got := tree(t, dest)
		for name := range old {
			if got[name] != old[name] {
				t.Errorf("job %d: %s is %q", jid, name, got[name])
			}
			delete(got, name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("job %d:\n%s", jid, diff)
		}
	}
	whole(filepath.Join(top, "1"), 1, false, nil)
	whole(filepath.Join(top, "2"), 2, false, map[string]string{"old": "old", "o/old": "old"})
	whole(filepath.Join(top, "flat"), 3, true, map[string]string{"old": "old"})
	if info, err := os.Stat(
		filepath.Join(top, "1/o/x"),
	); fs.modes &&
		(err != nil || info.Mode().Perm() != 0o644) {
		t.Errorf("a file has %v, %v", info.Mode(), err)
	}

	_, err := f.copyFrom(
		&said{lines: []string{"o/", "o/x=another"}},
		4,
		filepath.Join(top, "flat"),
		true,
	)
	var taken *takenError
	if !errors.As(err, &taken) || !strings.HasSuffix(taken.name, "o/x") {
		t.Errorf("over another's file: %v", err)
	}
	out, err := f.copyFrom(
		&said{lines: []string{"o/", "o/l -> x", "o/x=1", "o/a:b=2"}},
		5,
		filepath.Join(top, "5"),
		false,
	)
	for text, fails := range map[string]bool{"no symbolic links": !fs.links,
		"can't have it": !fs.colon} {
		if err != nil || strings.Contains(out.Error, text) != fails {
			t.Errorf("odd results: %+v, %v", out, err)
		}
	}
	for _, lines := range [][]string{
		{"o/", "o/Model.bin=1", "o/model.bin=2"}, {"o/", "o/d/", "o/D/"},
		{"o/", "o/Long=" + long, "o/lonG=" + long},
		{"o/", "o/d/", "o/D=1"}, {"o/", "o/d/", "o/d/x=1", "o/D -> d"},
	} {
		dest := filepath.Join(top, "6")
		_, err = f.copyFrom(&said{lines: lines}, 6, dest, false)
		var clash *clashError
		if errors.As(err, &clash) != fs.folds {
			t.Errorf("%.80q: %v", lines, err)
		} else if clash != nil && (!strings.EqualFold(clash.a, clash.b) || clash.a == clash.b) {
			t.Errorf("%.80q: %v", lines, err)
		}
		if err := os.RemoveAll(dest); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(top)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ourNames) {
			t.Errorf("%s is left", e.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}
