package agent

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"jobserver/disk"

	"golang.org/x/sys/unix"
)

// facts reads what describes the machine: all of it small files and system calls. What can't be
// read stays zero.
func (a *agent) facts() Facts {
	f := Facts{BootID: a.bootID, OS: runtime.GOOS, Arch: runtime.GOARCH, Root: a.root,
		Cores: runtime.NumCPU(), Now: time.Now()}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		f.Kernel, f.Hostname = unix.ByteSliceToString(uts.Release[:]),
			unix.ByteSliceToString(uts.Nodename[:])
	}
	if u, err := user.Current(); err == nil {
		f.User, f.Home = u.Username, u.HomeDir
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		f.MemoryBytes = int64(info.Totalram) * int64(info.Unit)
		f.Load1 = float64(info.Loads[0]) / (1 << unix.SI_LOAD_SHIFT)
	}
	if free, err := disk.Free(a.root); err == nil {
		f.FreeBytes = free
	}
	a.keeper.bound(&f)
	f.CPUModel = cpuModel()
	f.GPUs = a.gpus()
	f.MemoryWhy = "an allocation has cores and limits of its own"
	if a.keeper == nil {
		f.CPUs, f.MemoryWhy = processors("/sys/devices/system/cpu"), a.unlimited()
		f.LimitsMemory = f.MemoryWhy == ""
	}
	f.KillsUserProcesses, f.NoSubreaper = killsUserProcesses("/", f.User), !canAdoptOrphans()
	return f
}

// cpuModel is the first that /proc/cpuinfo names.
func cpuModel() string {
	p, _ := readFile("/proc/cpuinfo", 64<<10)
	for line := range strings.Lines(string(p)) {
		key, value, ok := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name", "cpu model", "Model":
			if ok {
				return strings.TrimSpace(value)
			}
		}
	}
	return ""
}

// killsUserProcesses tells whether systemd-logind ends what a login leaves: logind.conf(5), where
// later files and lines win, and only for processes in a session's scope of a user without
// lingering. It reads below root.
func killsUserProcesses(root, user string) bool {
	if _, err := os.Stat(filepath.Join(root, "run/systemd/sessions")); err != nil {
		return false
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/systemd/linger", user)); err == nil {
		return false
	}
	group, err := readFile(filepath.Join(root, "proc/self/cgroup"), 64<<10)
	if err != nil || !strings.Contains(string(group), "/session-") {
		return false
	}
	kills := false
	for _, file := range logindFiles(root) {
		p, err := readFile(file, 64<<10)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(p)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "KillUserProcesses="); ok {
				switch strings.ToLower(value) {
				case "yes", "true", "on", "1", "y", "t":
					kills = true
				default:
					kills = false
				}
			}
		}
	}
	return kills
}

// logindFiles are the main files, then the drop-ins in the order of their names, of which those in
// /etc hide those of the same name in /run, and those the ones in /usr/lib.
func logindFiles(root string) []string {
	var files []string
	for _, dir := range [...]string{"usr/lib/systemd", "etc/systemd"} {
		files = append(files, filepath.Join(root, dir, "logind.conf"))
	}
	byName := map[string]string{}
	var names []string
	for _, dir := range [...]string{"usr/lib/systemd", "run/systemd", "etc/systemd"} {
		found, _ := filepath.Glob(filepath.Join(root, dir, "logind.conf.d", "*.conf"))
		for _, file := range found {
			name := filepath.Base(file)
			if byName[name] == "" {
				names = append(names, name)
			}
			byName[name] = file
		}
	}
	slices.Sort(names)
	for _, name := range names {
		files = append(files, byName[name])
	}
	return files
}

// chooseRoot finds and makes the directory for runs, for a machine whose root hasn't been fixed.
func chooseRoot() (string, error) {
	var candidates []string
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		candidates = append(candidates, filepath.Join(state, "jobserver"))
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		candidates = append(candidates, filepath.Join(home, ".local/state/jobserver"))
	}
	candidates = append(candidates, "/var/tmp/jobserver-"+strconv.Itoa(os.Getuid()))
	var reasons []string
	for _, dir := range candidates {
		err := usableRoot(dir)
		if err == nil {
			return dir, nil
		}
		reasons = append(reasons, err.Error())
	}
	return "", fmt.Errorf("no directory for runs: %s; set XDG_STATE_HOME on the machine to one of "+
		"a local disk that allows programs", strings.Join(reasons, "; "))
}

// usableRoot makes a directory if it isn't there, and tells why runs can't be kept in it: it must
// be ours, local (locks and notices don't cross a network), writable and executable.
func usableRoot(dir string) error {
	if err := os.MkdirAll(runsDir(dir), 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory of ours", dir)
	}
	fs, err := disk.Of(dir)
	if err != nil {
		return err
	}
	if err := keepsRuns(dir, fs); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// keepsRuns tells why runs can't be kept on a file system of that kind.
func keepsRuns(dir string, fs disk.FileSystem) error {
	switch {
	case fs.Network != "":
		return fmt.Errorf("%s is on %s, not on a local disk", dir, fs.Network)
	case fs.FUSE: // mostly sshfs, and its notices are unreliable even where it is local
		return fmt.Errorf("%s is on FUSE, not on a local disk", dir)
	case fs.NoExec:
		return fmt.Errorf("%s is mounted noexec", dir)
	}
	return nil
}
