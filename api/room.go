package api

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// room is what all connections share: the memory for what they ask and are answered, in bytes, or
// the turns in which answers are made. Who finds none left waits. A crowd that holds everything
// can't make a queue either: by turns there come, of the connections that haven't been given any
// yet, the newest and the oldest, and of the others the one for which that is the longest ago. What
// is small has a part of its own, and doesn't wait for what is large; what is too large gets half
// as much again when it is alone.
//
// When somebody has waited as long as patience, those connections are ended that have held the most
// for as long without taking or sending anything, half of the room at once. Who holds no more than
// a fair share isn't.
type room struct {
	size     int           // for what is large
	small    int           // what is no more than this is small
	smalls   int           // for what is small
	patience time.Duration // 0: nobody is ended
	// hears when more than half of it is used, and when less than a quarter is
	pressed func(bool)

	mu        sync.Mutex // protects all below, and what the leases hold
	used      int        // of size
	usedSmall int        // of smalls
	leases    map[*lease]struct{}
	// those of connections that haven't been served, the newest first; the others
	waiting []*claim
	round   int         // counts who have come off waiting
	full    bool        // as pressed was told
	timer   *time.Timer // runs while anybody waits
}

// lease holds what one call takes of a room.
type lease struct {
	room      *room
	conn      *serverConn
	held      int
	heldSmall int
	at        time.Time // when it got the last of it, or anything moved
}

// claim is a lease that waits for more.
type claim struct {
	lease *lease
	n     int
	since time.Time
	given chan struct{} // closed when it has it
}

// newRoom makes the room for memory, of that many connections.
func newRoom(size, conns int, patience time.Duration, pressed func(bool)) *room {
	return &room{
		size: size - size/4, smalls: size / 4, small: size / 4 / conns,
		patience: patience, pressed: pressed, leases: map[*lease]struct{}{},
	}
}

// newTurns makes a room of turns.
func newTurns(n int) *room {
	return &room{size: n, pressed: func(bool) {}, leases: map[*lease]struct{}{}}
}

// longestWait is how long a call waits before it is refused.
const longestWait = 30 * time.Second

var errCrowded = Errorf(Unavailable, "the daemon has too much to do for other clients").
	WithHint("try again; the daemon's log says how many clients it has dropped")

// take gets n more, when there is room or when ctx ends.
func (l *lease) take(ctx context.Context, n int) error {
	r := l.room
	r.mu.Lock()
	switch {
	case l.held+n > r.size+r.size/2:
		r.mu.Unlock()
		return Errorf(TooLarge,
			"it would need %d bytes of memory, and all clients together have %d",
			l.held+n, r.size)
	case r.isSmall(n), len(r.waiting) == 0 && r.fits(l, n):
		r.give(l, n)
		r.mu.Unlock()
		return nil
	}
	c := &claim{lease: l, n: n, since: time.Now(), given: make(chan struct{})}
	r.queue(c)
	r.watch()
	r.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, longestWait, errCrowded)
	defer cancel()
	select {
	case <-c.given:
		return nil
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waiting = slices.DeleteFunc(r.waiting, func(other *claim) bool { return other == c })
		r.settle()
		return context.Cause(ctx) // what it may just have got is given back with the lease
	}
}

// end gives back what the lease holds.
func (l *lease) end() {
	r := l.room
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= l.held
	r.usedSmall -= l.heldSmall
	l.held, l.heldSmall = 0, 0
	delete(r.leases, l)
	r.settle()
	r.press()
}

// press tells of the use of the room; mu is held.
func (r *room) press() {
	full := r.used > r.size/2 || r.full && r.used > r.size/4
	if full != r.full {
		r.full = full
		r.pressed(full)
	}
}

// queue puts a claim among those that wait; mu is held.
func (r *room) queue(c *claim) {
	at, _ := slices.BinarySearchFunc(r.waiting, c.lease.conn,
		func(other *claim, conn *serverConn) int {
			return cmp.Or(
				cmp.Compare(r.served(other.lease.conn).Load(), r.served(conn).Load()),
				cmp.Compare(conn.number, other.lease.conn.number),
			)
		})
	r.waiting = slices.Insert(r.waiting, at, c)
}

// served is when a connection was last given much of a room, in Unix nanoseconds; 0: never.
func (r *room) served(c *serverConn) *atomic.Int64 {
	if r.patience == 0 {
		return &c.hadTurn
	}
	return &c.hadMemory
}

func (r *room) isSmall(n int) bool { return n <= r.small && r.usedSmall+n <= r.smalls }

// fits says whether there is room for n more of a lease.
func (r *room) fits(l *lease, n int) bool {
	return r.used+n <= r.size || r.used == l.held && r.used+n <= r.size+r.size/2
}

// give books n; mu is held.
func (r *room) give(l *lease, n int) {
	l.at = time.Now()
	r.leases[l] = struct{}{}
	if r.isSmall(n) {
		r.usedSmall += n
		l.heldSmall += n
		return
	}
	r.used += n
	l.held += n
	r.served(l.conn).Store(l.at.UnixNano())
	r.press()
}

// settle gives those who wait what there is by now; mu is held.
func (r *room) settle() {
	for len(r.waiting) > 0 {
		at := r.next()
		c := r.waiting[at]
		if !r.fits(c.lease, c.n) {
			return
		}
		r.waiting = slices.Delete(r.waiting, at, at+1)
		r.give(c.lease, c.n)
		r.round++
		close(c.given)
	}
}

// next is the place of the claim that comes next; mu is held.
func (r *room) next() int {
	others := slices.IndexFunc(r.waiting, func(c *claim) bool {
		return r.served(c.lease.conn).Load() > 0
	})
	if others < 0 {
		others = len(r.waiting)
	}
	switch {
	case r.round%3 == 1 && others > 0:
		return others - 1
	case r.round%3 == 2 && others < len(r.waiting):
		return others
	}
	return 0
}

// moved notes that something was taken or sent.
func (l *lease) moved() {
	l.room.mu.Lock()
	defer l.room.mu.Unlock()
	l.at = time.Now()
}

// watch looks after those who wait, again and again; mu is held.
func (r *room) watch() {
	if r.timer == nil && r.patience > 0 && len(r.waiting) > 0 {
		r.timer = time.AfterFunc(r.patience/8, r.makeRoom)
	}
}

// makeRoom ends connections until there is room for those who wait, if one of them has waited long
// enough.
func (r *room) makeRoom() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = nil
	defer r.watch()
	late := func(c *claim) bool { return time.Since(c.since) >= r.patience }
	if !slices.ContainsFunc(r.waiting, late) {
		return
	}
	need := max(r.used+r.waiting[r.next()].n-r.size, r.size/2)
	stale := r.stale()
	ended := 0
	for ended < len(stale) && need > 0 {
		h := stale[ended]
		need -= h.held
		h.conn.drop("it has held the daemon's memory for too long")
		ended++
	}
	if ended > 0 {
		stale[0].conn.server.opt.Logger.Warn("dropped clients that don't take their answers, or "+
			"don't send"+
			" what they announced: others wait for the memory", "connections", ended)
	}
}

// holder has held at least as long as patience.
type holder struct {
	conn *serverConn
	held int
}

// stale are the connections that hold more than their share for so long, those with the most first;
// mu is held.
func (r *room) stale() []holder {
	held := map[*serverConn]int{}
	for l := range r.leases {
		if time.Since(l.at) >= r.patience {
			held[l.conn] += l.held + l.heldSmall
		}
	}
	holders := make([]holder, 0, len(held))
	for conn, n := range held {
		if n > r.small {
			holders = append(holders, holder{conn, n})
		}
	}
	slices.SortFunc(holders, func(a, b holder) int { return cmp.Compare(b.held, a.held) })
	return holders
}
