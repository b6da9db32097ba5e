package fleet

import (
	"errors"
	"sync"

	"jobserver/agent"
	"jobserver/ssh"
)

// maxConns is how many further connections a link has at the most, for sshds that allow few
// sessions on one.
const maxConns = maxChannels - 1

// moreConns opens a link's further channels: on its connection, and where sshd allows no more
// sessions on that (MaxSessions), on others. These are dialed one after another, so that they don't
// count among those that have to log in yet (MaxStartups) more than once.
type moreConns struct {
	f    *Fleet
	l    *link
	root string

	mu     sync.Mutex // held while one is opened
	newest ssh.Conn   // guarded by mu
	others []ssh.Conn // likewise: all but the link's own
}

// start opens a channel with an agent.
func (c *moreConns) start() (*agent.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client, err := c.f.installer(c.newest).start(c.l.ctx, c.root)
	if !errors.Is(err, ssh.ErrTooManySessions) || len(c.others) == maxConns {
		return client, err
	}
	conn, err := c.f.connect(c.l.ctx, c.l.info.Addr)
	if err != nil {
		return nil, err
	}
	c.others, c.newest = append(c.others, conn), conn
	return c.f.installer(conn).start(c.l.ctx, c.root)
}

// close ends the connections.
func (c *moreConns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.others {
		conn.Close() // says nothing that its end didn't say
	}
}
