package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"jobserver/disk"
)

// What collects on a machine has an owner that removes it: a run's directory its daemon, and
// everything else the agent, whenever a connection takes the machine over:
//
//   - programs, bin/jobserver-HASH, that no daemon uses any more and nothing runs: who takes a
//     machine over writes into its link file which one it uses;
//   - uploads, bin/.new-*, that were cut;
//   - link files and empty directories of machines that nobody has asked for in a month. A daemon
//     that lets a machine go removes its own at once.

const (
	// usedFor is how long a link file counts after its last use.
	usedFor = 30 * 24 * time.Hour
	// uploadIdle is how long an upload may rest without anybody writing it. On a network's file
	// system others may be writing it, whom nobody here sees.
	uploadIdle, uploadIdleShared = 15 * time.Second, 24 * time.Hour
	// settleTime is how long a program that was put there may take until somebody says that it is
	// used.
	settleTime = 10 * time.Minute
	// tidyAgain is when it is looked at again: what was being written may be cut by then.
	tidyAgain = time.Minute
)

// programPrefix and uploadPrefix begin the names of what an installer puts into bin; see
// fleet/bootstrap.go.
const (
	programPrefix = "jobserver-"
	uploadPrefix  = ".new-"
	probePrefix   = ".try-"
)

// tidy removes what is of no use any more, now and once more in a while.
func (a *agent) tidy(ctx context.Context) {
	a.tidyOnce(time.Now())
	timer := time.NewTimer(tidyAgain)
	defer timer.Stop()
	select {
	case <-timer.C:
		a.tidyOnce(time.Now())
	case <-ctx.Done():
	}
}

// tidyOnce removes what it can; what it can't is tried again over the next connection.
func (a *agent) tidyOnce(now time.Time) {
	used := a.tidyLinks(now)
	own := ownProgram()
	if own == "" {
		return
	}
	bin := filepath.Dir(own)
	kind, err := disk.Of(bin)
	shared := err != nil || kind.Network != "" || kind.FUSE
	if filepath.Base(bin) != "bin" {
		return // somebody has started us by hand
	}
	entries, err := os.ReadDir(bin)
	if err != nil {
		return
	}
	open := openFiles()
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		name, file, age := e.Name(), filepath.Join(bin, e.Name()), now.Sub(info.ModTime())
		idle := uploadIdle
		if shared {
			idle = uploadIdleShared
		}
		useless := false
		switch {
		case open[file]:
		case strings.HasPrefix(name, uploadPrefix), strings.HasPrefix(name, probePrefix):
			useless = age > idle
		case strings.HasPrefix(name, programPrefix):
			// Where others may run it whom we don't see, it stays: a program whose file is gone may
			// crash.
			useless = !shared && file != own && !used[name] && age > settleTime
		}
		if useless {
			_ = os.Remove(file)
		}
	}
}

// ownProgram is the path of this program; "" if it is not known, or not there any more.
func ownProgram() string {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil || strings.HasSuffix(path, " (deleted)") {
		return ""
	}
	return path
}

// openFiles are the files that processes of this user have open or run, by path.
func openFiles() map[string]bool {
	open := map[string]bool{}
	all, err := allProcesses()
	if err != nil {
		return open
	}
	note := func(link string) {
		if path, err := os.Readlink(link); err == nil {
			open[path] = true
		}
	}
	for _, p := range all {
		proc := "/proc/" + strconv.Itoa(p.pid)
		note(proc + "/exe")
		files, err := os.ReadDir(proc + "/fd")
		if err != nil {
			continue // another user's, or gone
		}
		for _, f := range files {
			note(proc + "/fd/" + f.Name())
		}
	}
	return open
}

// tidyLinks removes the link files of machines that nobody asks for any more, with their
// directories if there is no run in them. It returns the programs that are named by those that
// stay.
func (a *agent) tidyLinks(now time.Time) (used map[string]bool) {
	used = map[string]bool{}
	_ = eachName(filepath.Join(a.root, "links"), "", func(server string) error {
		return eachName(filepath.Join(a.root, "links", server), "", func(machine string) error {
			file := linkFile(a.root, server, machine)
			info, err := os.Lstat(file)
			if err != nil {
				return nil
			}
			if now.Sub(info.ModTime()) > usedFor && a.removeLink(server, machine) {
				return nil
			}
			if p, err := readFile(file, takeoverSize+512); err == nil && len(p) > takeoverSize {
				used[strings.TrimSpace(string(p[takeoverSize:]))] = true
			}
			return nil
		})
	})
	return used
}

// removeLink removes a machine's link file and directory, unless there are runs in it.
func (a *agent) removeLink(server, machine string) bool {
	dir := filepath.Join(runsDir(a.root), server, machine)
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_ = os.Remove(filepath.Dir(dir)) // if it is empty by now
	if err := os.Remove(linkFile(a.root, server, machine)); err != nil {
		return false
	}
	_ = os.Remove(filepath.Dir(linkFile(a.root, server, machine)))
	notes := begunFile(a.root, server, machine)
	_ = os.Remove(notes) // there may be none
	_ = os.Remove(filepath.Dir(notes))
	return true
}

// leave lets a machine go, if it is still this connection's.
func (a *agent) leave(server, machine string) error {
	a.mu.Lock()
	t := a.taken
	a.mu.Unlock()
	if t == nil || t.file != linkFile(a.root, server, machine) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.check() != nil {
		return nil // somebody else's by now
	}
	a.removeLink(server, machine)
	return nil
}

// keepLink says now and then that the machine is in use, as long as the host asks for it.
func (a *agent) keepLink() {
	a.mu.Lock()
	t := a.taken
	a.mu.Unlock()
	if t == nil {
		return
	}
	now := time.Now()
	if info, err := os.Stat(t.file); err == nil && now.Sub(info.ModTime()) > usedFor/30 {
		_ = os.Chtimes(t.file, now, now) // else it is said the next time
	}
}
