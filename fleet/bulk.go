package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"jobserver/agent"
	"jobserver/redact"
	"jobserver/sched"
)

// copiesPerMachine overlap: while one waits for the host's disk, the other uses the network.
const copiesPerMachine = 2

// patience is how long a copy waits for its turn, whatever it waits for, before that is said and
// its slot given up.
const patience = 2 * time.Second

// maxPatience is the longest that a machine may take for the next piece of results. A stalled copy
// doesn't count among those that are under way, and each time that it is tried again the machine
// gets twice as long.
const maxPatience = time.Hour

// bulk is the connection for results and code, beside the one for control: it is made when there is
// something to send or to copy, and closed when there was nothing for a while. It belongs to the
// actor.
type bulk struct {
	link    *link
	opening bool
	users   int         // tasks that run on it
	copies  int         // of these, those that copy results
	retry   bool        // its timer plans another attempt
	timer   *time.Timer // for the next attempt, or for closing it
	tries   int
}

// copying is a copy that is wanted.
type copying struct {
	sched.Copy
	ctx  context.Context // ends when it is stopped
	stop context.CancelFunc

	hidden  redact.Redactor // takes out of texts what the job printed of secrets
	running bool            // actor's: a task has it
	late    *time.Timer     // actor's: says that it waits, or ends its pause
	stalls  int             // how often the machine has sent nothing
	// the task's, or the actor's when it isn't running: the reason reported last
	waits string
}

func (c *copying) job() uint64 { return c.Job.Id }

func (c *copying) id() copyID {
	return copyID{c.Job.Id, c.Attempt.GetNumber(), c.Attempt.GetRank()}
}

// Copy implements sched.Fleet.
func (f *Fleet) Copy(c sched.Copy) {
	f.mu.Lock()
	if !slices.Contains(f.copiers[c.Job.Id], c.Machine.Addr) {
		f.copiers[c.Job.Id] = append(f.copiers[c.Job.Id], c.Machine.Addr)
	}
	f.mu.Unlock()
	f.tell(c.Machine.Addr, func(m *machine) { m.copy(c) })
}

// StopCopy implements sched.Fleet.
func (f *Fleet) StopCopy(job uint64) {
	f.mu.Lock()
	addrs := slices.Clone(f.copiers[job])
	f.mu.Unlock()
	for _, addr := range addrs {
		f.inform(addr, func(m *machine) { m.stopCopy(job) })
	}
}

func (m *machine) copy(s sched.Copy) {
	if m.copies[s.Job.Id] != nil {
		return
	}
	c := &copying{Copy: s, hidden: redact.New(s.Secrets...)}
	c.ctx, c.stop = context.WithCancel(m.ctx)
	m.copies[c.job()] = c
	m.enqueue(c)
	if m.link == nil && m.waiting {
		m.copyWaits(c, "the machine is away")
	}
}

// enqueue lets a copy wait for its turn.
func (m *machine) enqueue(c *copying) {
	m.queue = append(m.queue, c)
	m.laterFor(c, patience, func() { m.copyWaits(c, m.whyQueued()) })
}

// laterFor has something done for a copy after a while, unless a task has it or it has ended by
// then.
func (m *machine) laterFor(c *copying, d time.Duration, fn func()) {
	c.late = time.AfterFunc(d, func() {
		m.do(func() {
			if m.copies[c.job()] == c && !c.running {
				fn()
			}
		})
	})
}

// whyQueued says what copies wait for that have no turn yet.
func (m *machine) whyQueued() string {
	switch {
	case m.link == nil:
		return "the machine is away"
	case m.bulk.link == nil:
		return "there is no connection for copying yet"
	}
	return "other copies from this machine are under way"
}

// patience is how long the machine may take for the next piece.
func (c *copying) patience() time.Duration {
	return doubled(agent.DefaultPatience, c.stalls, maxPatience)
}

func (m *machine) stopCopy(job uint64) {
	c := m.copies[job]
	switch {
	case c == nil:
	case c.running:
		c.stop() // its task reports
	default:
		m.endCopy(c, sched.CopyEnded{Job: job, Error: errStopped.Error()})
		if err := m.f.discard(c); err != nil {
			m.log.Warn("what was copied of results stays", "job", job, "err", err)
		}
	}
}

// endCopy reports the end of a copy and forgets it.
func (m *machine) endCopy(c *copying, out sched.CopyEnded) {
	c.stop()
	c.late.Stop()
	delete(m.copies, c.job())
	for i, other := range m.queue {
		if other == c {
			m.queue = append(m.queue[:i], m.queue[i+1:]...)
			break
		}
	}
	m.f.mu.Lock()
	left := slices.DeleteFunc(m.f.copiers[c.job()], func(addr string) bool {
		return addr == c.Machine.Addr
	})
	if m.f.copiers[c.job()] = left; len(left) == 0 {
		delete(m.f.copiers, c.job())
	}
	m.f.mu.Unlock()
	out.Rank = c.Attempt.GetRank()
	out.Error = c.hidden.Redact(out.Error)
	m.f.report(out)
}

// copyWaits says that a copy can't go on at present, once for each reason.
func (m *machine) copyWaits(c *copying, reason string) {
	if c.waits != reason {
		c.waits = reason
		m.f.report(sched.CopyWaits{Job: c.job(), Rank: c.Attempt.GetRank(),
			Reason: c.hidden.Redact(reason)})
	}
}

// startCopies sets going what may go.
func (m *machine) startCopies() {
	if len(m.queue) == 0 || m.bulk.copies >= copiesPerMachine {
		return
	}
	if m.bulk.link == nil {
		if !m.bulk.opening && !m.bulk.retry {
			m.openBulk()
		}
		return
	}
	l := m.bulk.link
	for len(m.queue) > 0 && m.bulk.copies < copiesPerMachine {
		c := m.queue[0]
		m.queue = m.queue[1:]
		c.running = true
		c.late.Stop()
		m.bulk.users++
		m.bulk.copies++
		l.spawn(func() { m.runCopy(l, c) })
	}
}

// openBulk makes the bulk connection, off the actor's goroutine.
func (m *machine) openBulk() {
	m.bulk.opening = true
	root := m.root
	m.f.tasks.Go(func() {
		l, err := m.f.open(m.ctx, m.ctx, m.addr, root)
		if m.ctx.Err() != nil {
			if err == nil {
				l.close()
			}
			return
		}
		m.do(func() { m.bulkOpened(l, err) })
	})
}

func (m *machine) bulkOpened(l *link, err error) {
	m.bulk.opening = false
	switch {
	case err == nil && m.link == nil: // the machine went away meanwhile
		l.close()
	case err == nil:
		m.bulk.link, m.bulk.tries = l, 0
		if trip := m.link.source.known(); trip > 0 {
			l.source.measured(trip)
		}
		m.bulk.users++
		m.bulkLeft() // it is closed, too, if nobody wants it any more
		m.f.tasks.Go(func() {
			<-l.client.Done()
			m.do(func() { m.bulkBroken(l) })
		})
	case m.link != nil:
		m.outOfSessions(err)
		for _, c := range m.queue {
			m.copyWaits(c, "no connection for copying: "+err.Error())
		}
		m.bulk.retry = true
		m.bulk.after(doubled(m.f.opt.RetryMin, m.bulk.tries, m.f.opt.RetryMax), func() {
			m.do(func() { m.bulk.retry = false })
		})
		m.bulk.tries++
	}
}

// after plans fn instead of what was planned before.
func (b *bulk) after(d time.Duration, fn func()) {
	if b.timer != nil {
		b.timer.Stop()
	}
	b.timer = time.AfterFunc(d, fn)
}

func (m *machine) bulkBroken(l *link) {
	if m.bulk.link == l {
		m.closeBulk()
	}
}

// closeBulk closes the bulk connection. Copies on it fail and wait for the next.
func (m *machine) closeBulk() {
	if m.bulk.timer != nil {
		m.bulk.timer.Stop()
		m.bulk.retry = false
	}
	if m.bulk.link != nil {
		m.bulk.link.close()
		m.bulk.link = nil
	}
}

// bulkLeft takes a task's place on the bulk connection back.
func (m *machine) bulkLeft() {
	m.bulk.users--
	if m.bulk.users > 0 || len(m.queue) > 0 || len(m.uploads) > 0 {
		return
	}
	m.bulk.after(m.f.opt.BulkIdle, func() {
		m.do(func() {
			if m.bulk.users == 0 && len(m.queue) == 0 && len(m.uploads) == 0 {
				m.closeBulk()
			}
		})
	})
}

// runCopy is the task of one copy, until it has ended or the link breaks.
func (m *machine) runCopy(l *link, c *copying) {
	out, err := m.carry(l, c)
	m.do(func() {
		c.running = false
		switch {
		case m.ctx.Err() != nil: // the daemon stops: a later one goes on where this one was
		case err != nil && c.ctx.Err() == nil && linkBroke(l):
			m.copyWaits(c, "the connection broke: "+err.Error())
			m.enqueue(c)
		case errors.Is(err, agent.ErrStalled) && c.ctx.Err() == nil:
			m.copyWaits(c, fmt.Sprintf("%s sends nothing of them; it is asked again", m.addr))
			c.stalls++
			m.laterFor(c, doubled(m.f.opt.RemoveMin, c.stalls, m.f.opt.RemoveMax), func() {
				m.enqueue(c)
			})
		default:
			if err != nil {
				out = sched.CopyEnded{Job: c.job(), Error: err.Error()}
			}
			m.endCopy(c, out)
		}
		m.bulk.copies--
		m.bulkLeft()
	})
}
