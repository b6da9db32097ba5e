package sshtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Stop ends sshd and its connections; commands that survive that go on.
func (m *Machine) Stop() error {
	if m.cmd == nil {
		return nil
	}
	// The listener is stopped first, so that it starts no connection meanwhile.
	pid := m.cmd.Process.Pid
	errs := []error{syscall.Kill(pid, syscall.SIGSTOP)}
	_, err := m.KillSessions()
	errs = append(errs, err, syscall.Kill(pid, syscall.SIGKILL))
	if err := m.cmd.Wait(); err != nil && m.cmd.ProcessState == nil {
		errs = append(errs, err)
	}
	<-m.read
	m.cmd = nil
	return errors.Join(errs...)
}

// Restart starts sshd again on the same port, after Stop or instead of it.
func (m *Machine) Restart() error {
	if err := m.Stop(); err != nil {
		return err
	}
	return m.start()
}

// Close ends sshd, its connections, and every process that was started
// through them, even one that left its session.
func (m *Machine) Close() error {
	err := m.Stop()
	_, err2 := m.KillAll()
	return errors.Join(err, err2)
}

// Pause stops sshd and its connections where they are (SIGSTOP).
func (m *Machine) Pause() error { return m.signalServers(syscall.SIGSTOP) }

// Resume lets them go on.
func (m *Machine) Resume() error { return m.signalServers(syscall.SIGCONT) }

func (m *Machine) signalServers(sig syscall.Signal) error {
	if m.cmd == nil {
		return errors.New("sshd doesn't run")
	}
	below, err := sessions([]*Machine{m})
	if err != nil {
		return err
	}
	for _, pid := range append([]int{m.cmd.Process.Pid}, below...) {
		if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
			return err
		}
	}
	return nil
}

// KillSessions kills the sshd processes of all connections, and says how many.
func (m *Machine) KillSessions() (int, error) { return KillSessions(m) }

// KillSessions does the same with all connections of several machines at once.
func KillSessions(machines ...*Machine) (int, error) {
	pids, err := sessions(machines)
	if err != nil {
		return 0, err
	}
	return len(pids), killAndWait(pids)
}

// KillAll kills every process that was started through the machine, as a
// reboot would, but not sshd itself. It says how many it found.
func (m *Machine) KillAll() (int, error) {
	total := 0
	for {
		// Again and again: a process may start others while it is looked for.
		pids, err := m.commands()
		if err != nil || len(pids) == 0 {
			return total, err
		}
		total += len(pids)
		if err := killAndWait(pids); err != nil {
			return total, err
		}
	}
}

// sessions are the processes of sshd below the listeners of the machines that run.
func sessions(machines []*Machine) ([]int, error) {
	var below []int
	for _, m := range machines {
		if m.cmd != nil {
			below = append(below, m.cmd.Process.Pid)
		}
	}
	listeners := len(below)
	if listeners == 0 {
		return nil, nil
	}
	all, err := processes()
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, p := range all {
		// sshd, or from OpenSSH 9.8 on sshd-session and sshd-auth. Below
		// the user's command there is nothing of sshd's.
		if strings.HasPrefix(p.name, "sshd") && !p.zombie {
			children[p.parent] = append(children[p.parent], p.pid)
		}
	}
	for i := 0; i < len(below); i++ {
		below = append(below, children[below[i]]...)
	}
	return below[listeners:], nil
}

// commands are the processes that inherited the machine's mark, or that run a
// program from its home, without sshd.
func (m *Machine) commands() ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range all {
		if p.zombie || p.pid == os.Getpid() || strings.HasPrefix(p.name, "sshd") {
			continue
		}
		program, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(p.pid), "exe"))
		if err == nil && strings.HasPrefix(program, m.Home+"/") {
			pids = append(pids, p.pid)
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "environ"))
		if err != nil {
			continue // of another user, or gone
		}
		if slices.ContainsFunc(bytes.Split(env, []byte{0}),
			func(v []byte) bool { return string(v) == m.mark }) {
			pids = append(pids, p.pid)
		}
	}
	return pids, nil
}

type process struct {
	pid, parent int
	name        string
	zombie      bool
}

// processes lists all processes, by /proc/PID/stat (proc_pid_stat(5)).
func processes() ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, errors.New("no /proc to find processes in")
	}
	var list []process
	for _, dir := range dirs {
		b, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PARENT …, and NAME may contain anything.
		open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
		if open < 0 || end < open {
			return nil, fmt.Errorf("%s/stat: unknown form", dir)
		}
		p := process{name: string(b[open+1 : end])}
		rest := strings.Fields(string(b[end+1:]))
		if p.pid, err = strconv.Atoi(filepath.Base(dir)); err != nil || len(rest) < 2 {
			return nil, fmt.Errorf("%s/stat: unknown form", dir)
		}
		if p.parent, err = strconv.Atoi(rest[1]); err != nil {
			return nil, fmt.Errorf("%s/stat: %w", dir, err)
		}
		p.zombie = rest[0] == "Z" || rest[0] == "X"
		list = append(list, p)
	}
	return list, nil
}
