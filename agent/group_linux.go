package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A run whose memory is limited has a control group of its own (cgroups(7), version 2), where its
// command is from its first moment; the supervisor stays where it is. That takes a file system of
// groups that may be written to, which is root's, and it is tried before it is promised: a login's
// scope isn't ours to divide, and what a user's service manager runs dies with the last login
// unless lingering is enabled.

// groupsName is the directory of groups that holds those of runs.
const groupsName = "jobserver"

// groupsDir is where the groups of runs are; "" where there is no file system of them.
var groupsDir = sync.OnceValue(func() string {
	p, err := readFile("/proc/self/mountinfo", 1<<20)
	if err != nil {
		return ""
	}
	top := groupMount(p)
	if top == "" {
		return ""
	}
	return filepath.Join(top, groupsName)
})

// groupMount finds where groups of version 2 that know of memory are mounted (proc(5), mountinfo).
func groupMount(mounts []byte) string {
	for line := range bytes.Lines(mounts) {
		at, kind, ok := bytes.Cut(line, []byte(" - "))
		fields := strings.Fields(string(at))
		if !ok || len(fields) < 5 || !bytes.HasPrefix(kind, []byte("cgroup2 ")) {
			continue
		}
		// the kernel writes blanks in names as octal numbers, which nobody has in this one
		known, err := os.ReadFile(filepath.Join(fields[4], "cgroup.controllers"))
		if err == nil && strings.Contains(" "+string(known)+" ", "memory") {
			return fields[4]
		}
	}
	return ""
}

// prepareGroups makes the directory of groups, and has memory counted in those below it.
func prepareGroups() error {
	dir := groupsDir()
	if dir == "" {
		return errors.New("there are no control groups of version 2 that know of memory")
	}
	if err := enableMemory(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return enableMemory(dir)
}

// enableMemory has a directory of groups divide memory among those below it.
func enableMemory(dir string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	if p, err := os.ReadFile(file); err == nil && strings.Contains(string(p), "memory") {
		return nil
	}
	return os.WriteFile(file, []byte("+memory"), 0)
}

// tryGroups says why the memory of runs can't be limited here, by making a group with a limit.
func tryGroups() error {
	if err := prepareGroups(); err != nil {
		return err
	}
	g := group{dir: filepath.Join(groupsDir(), fmt.Sprintf("trial-%d", os.Getpid()))}
	if err := g.enter(1<<30, &syscall.SysProcAttr{}); err != nil {
		return err
	}
	defer g.leave()
	if p, err := os.ReadFile(filepath.Join(g.dir, "memory.max")); err != nil {
		return err
	} else if got := strings.TrimSpace(string(p)); got != strconv.Itoa(1<<30) {
		return fmt.Errorf("a limit of %d is %q", 1<<30, got)
	}
	return nil
}

// whyUnlimited says why the memory of runs can't be limited here, "" where it can.
func whyUnlimited() string {
	return unlimitedWords(tryGroups(), os.Geteuid() == 0)
}

// unlimitedWords says what an error means that comes of making groups.
func unlimitedWords(err error, root bool) string {
	switch readOnly := errors.Is(err, unix.EROFS); {
	case err == nil:
		return ""
	case !root && (errors.Is(err, fs.ErrPermission) || readOnly):
		return "control groups are made by root alone, and the login isn't root's"
	case readOnly:
		return "the control groups are mounted read-only, as in a container"
	case errors.Is(err, unix.EBUSY):
		return "the control group at the top has processes of its own, as in a container: it " +
			"can't be divided"
	}
	return err.Error()
}

// group is a control group; the zero value is none.
type group struct {
	dir string
	fd  int
}

// groupOf is where the group of a run is, if it has one.
func groupOf(run RunID) string {
	if groupsDir() == "" {
		return ""
	}
	return filepath.Join(groupsDir(), run.Server+"."+run.Machine+"."+run.Name())
}

// limitMemory has what is started next begin in a group of its own, with the run's limit.
func (s *supervisor) limitMemory(sys *syscall.SysProcAttr) error {
	if s.Spec.Memory <= 0 {
		return nil
	}
	err := prepareGroups()
	if err == nil {
		s.group.dir = groupOf(s.id)
		err = s.group.enter(s.Spec.Memory, sys)
	}
	if err != nil {
		return fmt.Errorf("limit its memory: %w", err)
	}
	return nil
}

// enter makes the group, and has what is started with sys begin in it.
func (g *group) enter(memory int64, sys *syscall.SysProcAttr) (err error) {
	if err := os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, set := range [...]struct{ file, value string }{
		{"memory.max", strconv.FormatInt(memory, 10)},
		{"memory.swap.max", "0"},
		{"memory.oom.group", "1"}, // all of it ends, not whichever process is biggest
	} {
		err := os.WriteFile(filepath.Join(g.dir, set.file), []byte(set.value), 0)
		if errors.Is(err, fs.ErrNotExist) && set.file == "memory.swap.max" {
			continue // a kernel that doesn't count what is swapped
		}
		if err != nil {
			return errors.Join(err, os.Remove(g.dir))
		}
	}
	g.fd, err = unix.Open(g.dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Join(err, os.Remove(g.dir))
	}
	sys.UseCgroupFD, sys.CgroupFD = true, g.fd
	return nil
}

// leave ends what is left in the group and removes it. It tells whether what was in it was ended as
// it had used up its memory.
func (g *group) leave() (oom bool) {
	if g.dir == "" || g.fd == 0 {
		return false
	}
	unix.Close(g.fd)
	g.fd = 0
	p, _ := os.ReadFile(filepath.Join(g.dir, "memory.events"))
	for line := range strings.Lines(string(p)) {
		name, n, _ := strings.Cut(strings.TrimSpace(line), " ")
		if (name == "oom_kill" || name == "oom_group_kill") && n != "0" {
			oom = true
		}
	}
	removeGroup(g.dir)
	return oom
}

// removeGroup ends what is left in a group, and removes it. One that stays holds nothing but its
// name.
func removeGroup(dir string) {
	if dir == "" {
		return
	}
	if _, err := os.Stat(dir); err != nil {
		return
	}
	// Linux before 5.14 doesn't know this; the tree was killed before.
	_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	for pause := time.Millisecond; pause < 500*time.Millisecond; pause *= 2 {
		if err := os.Remove(dir); !errors.Is(err, unix.EBUSY) {
			return
		}
		time.Sleep(pause) // what was killed needs a moment to go
	}
}
