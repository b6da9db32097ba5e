package agent

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Killing a set of processes that may fork faster than they can be listed, change session, ignore
// SIGTERM or be restarted by each other: stop them, list again, and only when a listing has no new
// one, kill them all. A stopped process forks nothing; a fork that the signal overtook shows in the
// next listing.

// killAll ends every process that list finds, until it finds none. collect is called after each
// round, to reap children. It returns how many it killed and how many it may not kill: those run as
// another user.
func killAll(list func() []procStat, collect func()) (killed, left int) {
	seen, refused := map[lifetime]bool{}, map[lifetime]bool{}
	pause := time.Millisecond
	for {
		stopAll(list, seen, refused)
		alive := 0
		for _, p := range list() {
			if !refused[p.lifetime()] {
				alive++
				_ = unix.Kill(p.pid, unix.SIGKILL) // it may have ended; the next round looks
			}
		}
		collect()
		if alive == 0 {
			return resume(seen), len(refused)
		}
		// What was killed needs a moment to go; in the middle of a disk's I/O perhaps a long one.
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

// resume lets those go on that were stopped and turned out to be none of the set, as a supervisor
// that has had another run meanwhile. It returns how many of all were not such.
func resume(stopped map[lifetime]bool) (killed int) {
	for k := range stopped {
		s, ok := readStat(k.pid)
		if !ok || s.lifetime() != k || s.dead() {
			killed++
			continue
		}
		_ = unix.Kill(k.pid, unix.SIGCONT) // it may have ended
	}
	return killed
}

// lifetime names a process beyond the reuse of its pid.
type lifetime struct {
	pid   int
	start uint64
}

func (p procStat) lifetime() lifetime { return lifetime{p.pid, p.startTime} }

// stopAll stops every process that list finds, until it finds no new one. They are added to those
// that were stopped, or to those that may not be.
func stopAll(list func() []procStat, stopped, refused map[lifetime]bool) {
	for fresh := true; fresh; {
		fresh = false
		for _, p := range list() {
			k := p.lifetime()
			if stopped[k] || refused[k] {
				continue
			}
			if unix.Kill(p.pid, unix.SIGSTOP) == unix.EPERM {
				refused[k] = true
			} else {
				stopped[k], fresh = true, true
			}
		}
	}
}

// descendants lists the processes below this one that are not dead.
func descendants() []procStat {
	all, err := allProcesses()
	if err != nil {
		return nil
	}
	below := map[int]bool{os.Getpid(): true}
	var found []procStat
	for grew := true; grew; {
		grew = false
		for i, p := range all {
			if p.pid != 0 && below[p.parent] && !below[p.pid] {
				below[p.pid], grew = true, true
				if p.state != 'Z' && p.state != 'X' {
					found = append(found, all[i])
				}
			}
		}
	}
	return found
}
