package agent

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// pause notes what a supervisor has stopped of its run.
type pause struct {
	since   time.Duration     // by bootTime; 0: the run goes on
	total   time.Duration     // of the pauses that are over
	stopped map[lifetime]bool // by us: what had stopped itself stays so
	changes int
}

// until is how long the run had been stopped by a time, in all.
func (p *pause) until(now time.Duration) time.Duration {
	if p.since == 0 {
		return p.total
	}
	return p.total + now - p.since
}

// setPause stops the run where it is, or lets it go on.
func (s *supervisor) setPause(on bool) {
	switch {
	case !on:
		s.goOn()
	case s.pause.since == 0 && s.pid != 0 && s.exit.Cause == NoCause:
		s.stop()
	}
}

// stop stops all that lives of the run, but for what is stopped already and what runs as another
// user.
func (s *supervisor) stop() {
	s.pause.since, s.pause.stopped = bootTime(), map[lifetime]bool{}
	left := map[lifetime]bool{}
	stopAll(func() []procStat {
		all := s.members()
		going := all[:0]
		for _, p := range all {
			if p.state != 'T' || s.pause.stopped[p.lifetime()] {
				going = append(going, p)
			}
		}
		return going
	}, s.pause.stopped, left)
	s.awaitStopped()
	s.applyTimeout()
	s.sayPause(len(left))
}

// awaitStopped waits until all have stopped that were told to: on a busy machine one may still be
// waiting for its turn to do so. What sleeps in the kernel, on a disk that hangs say, isn't waited
// for longer: it does nothing of its own before it has stopped.
func (s *supervisor) awaitStopped() {
	for pause := time.Millisecond; pause <= time.Second; pause *= 2 {
		going := slices.ContainsFunc(s.members(), func(p procStat) bool {
			return p.state != 'T' && s.pause.stopped[p.lifetime()]
		})
		if !going {
			return
		}
		time.Sleep(pause)
	}
}

// goOn lets what was stopped go on.
func (s *supervisor) goOn() {
	if s.pause.since == 0 {
		return
	}
	s.pause.total, s.pause.since = s.pause.until(bootTime()), 0
	// Children first, which are younger: a group whose leader's parent ends while it is stopped is
	// hung up by the kernel.
	stopped := slices.Collect(maps.Keys(s.pause.stopped))
	slices.SortFunc(stopped, func(a, b lifetime) int { return cmp.Compare(b.start, a.start) })
	for _, p := range stopped {
		if now, ok := readStat(p.pid); ok && now.lifetime() == p {
			_ = unix.Kill(p.pid, unix.SIGCONT) // it may have been killed
		}
	}
	s.pause.stopped = nil
	s.applyTimeout()
	s.sayPause(0)
}

// sayPause tells who follows the run; the place is allocated.
func (s *supervisor) sayPause(left int) {
	s.pause.changes++
	p := Pause{Changes: s.pause.changes, On: s.pause.since != 0, At: s.wall(), Total: s.pause.total,
		Left: left}
	if err := slotPause.write(s.file, p.lines); err != nil {
		fmt.Fprintf(os.Stderr, "write that it is paused: %v\n", err) // into fileRun
	}
}

// sendSignals sends those that have come since the last time to the command and its group.
func (s *supervisor) sendSignals() {
	for _, sent := range s.control.sent {
		if sent.Seq > s.lastSignal {
			s.lastSignal = sent.Seq
			if s.pid != 0 {
				_ = unix.Kill(-s.pid, unix.Signal(sent.Signal)) // it may have ended
			}
		}
	}
}
