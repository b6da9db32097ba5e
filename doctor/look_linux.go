package doctor

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// LookAtProcess reads what this user may read of a process.
func LookAtProcess(ctx context.Context, pid int) (p Process) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	limits, _ := os.ReadFile(proc + "limits") // of another user's nothing is known
	for line := range strings.Lines(string(limits)) {
		rest, ok := strings.CutPrefix(line, "Max open files")
		if fields := strings.Fields(rest); ok && len(fields) > 0 {
			p.Files, _ = strconv.ParseInt(fields[0], 10, 64) // "unlimited" is as good as unknown
		}
	}
	environ, err := os.ReadFile(proc + "environ")
	if err != nil {
		return p
	}
	p.AgentEnv = true
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if sock, ok := bytes.CutPrefix(entry, []byte("SSH_AUTH_SOCK=")); ok && len(sock) > 0 {
			p.AgentSock = string(sock)
			p.AgentErr = dialAgent(ctx, p.AgentSock)
		}
	}
	return p
}

// dialAgent says why nobody listens at a socket.
func dialAgent(ctx context.Context, path string) error {
	conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Words gives the words of a process's command line; nil when they can't be read.
func Words(pid int) []string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

// LookAtClock asks the kernel.
func LookAtClock() (c ClockFacts) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return c
	}
	return ClockFacts{
		Known: true, Synced: state != unix.TIME_ERROR,
		MaxError: time.Duration(t.Maxerror) * time.Microsecond,
	}
}

// InotifyInstances is how many a user may have; 0 when that isn't known.
func InotifyInstances() int {
	text, _ := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// LookAtService asks systemd, where there is one.
func LookAtService(ctx context.Context, pid int) (s ServiceFacts) {
	group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	s.Unit = strings.Contains(string(group), "/user@") &&
		strings.Contains(string(group), "jobserver.service")
	if u, err := user.Current(); err == nil {
		out, err := exec.CommandContext(ctx, "loginctl", "show-user", "--property=Linger",
			"--value", u.Username).Output()
		s.Lingers = err == nil && strings.TrimSpace(string(out)) == "yes"
	}
	files, _ := filepath.Glob("/etc/systemd/logind.conf.d/*.conf")
	for _, file := range append([]string{"/etc/systemd/logind.conf"}, files...) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "KillUserProcesses="); ok {
				s.KillUserProcesses = value == "yes" || value == "true" || value == "1"
			}
		}
	}
	return s
}
