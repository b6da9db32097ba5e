package ssh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// guard runs a command, and ends it with all that it began when its standard input ends: that is
// when we do, however that comes about. It leads a process group.
const guard = `exec 3<&0; "$@" </dev/null 3<&- & p=$!; trap "" HUP INT TERM; ` +
	`{ read x; kill -TERM $p; sleep 1; kill -KILL 0; } <&3 3<&- & wait $p; kill -KILL 0`

// DialUnix connects to a socket through a master of its own: ssh forwards only what we ask it for
// then, and not what the configuration has, whose ports may be taken.
func (c *opensshConn) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	conn, err := c.dialUnix(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: connect to socket %s: %w", c.info.Addr, path, err)
	}
	return conn, nil
}

func (c *opensshConn) dialUnix(ctx context.Context, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, &timeoutError{c.timeout})
	defer cancel()
	// Only we can enter the directory.
	dir, err := socketDir()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	control := "ControlPath=" + quoteWord(literal(filepath.Join(dir, "c")))
	m, err := c.startMaster(ctx, control)
	if err != nil {
		return nil, err
	}
	local := filepath.Join(dir, "s")
	// Without the configuration, which would add its forwardings to ours.
	cmd := exec.CommandContext(ctx, c.program, "-F", "none", "-o", control, "-O", "forward", "-L",
		local+":"+path, "--", "host")
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		m.close()
		return nil, fmt.Errorf("ssh -O forward: %w: %s", err, strings.TrimSpace(string(out)))
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", local)
	if err != nil {
		m.close()
		return nil, err
	}
	return &forwardedConn{UnixConn: conn.(*net.UnixConn), kill: m.close}, nil
}

// maxSocketDir is how long the name of a directory may be for the sockets in it: the name of one
// has 104 bytes where it has least, and ssh appends 17 of its own while it makes one.
const maxSocketDir = 104 - 20

// socketDir makes a directory of our own for sockets: in /tmp if the usual place has too long a
// name.
func socketDir() (string, error) {
	dir, err := os.MkdirTemp("", "jobserver-ssh")
	if err != nil || len(dir) <= maxSocketDir {
		return dir, err
	}
	os.Remove(dir)
	return os.MkdirTemp("/tmp", "jobserver-ssh")
}

// A master is an ssh that holds a connection, and forwards over it.
type master struct {
	c     *opensshConn
	cmd   *exec.Cmd
	life  *os.File // what it reads until our end
	ended chan error
}

// startMaster returns when the master is logged in.
func (c *opensshConn) startMaster(ctx context.Context, control string) (*master, error) {
	// The first value of an option counts. LocalCommand tells when we are in.
	args := append([]string{"-N", "-M", "-o", control, "-o", "PermitLocalCommand=yes", "-o",
		"LocalCommand=echo ready"}, c.args...)
	cmd := exec.Command("/bin/sh", append([]string{"-c", guard, "sh", c.program}, args...)...)
	theirs, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		theirs.Close()
		life.Close()
		return nil, err
	}
	defer out.Close()
	stderr := &tail{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = theirs, theirOut, stderr, c.env
	cmd.WaitDelay = time.Second
	m := &master{c: c, cmd: cmd, life: life, ended: make(chan error, 1)}
	err = c.run(cmd, func(err error) { m.ended <- err })
	theirOut.Close()
	theirs.Close()
	if err != nil {
		life.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.kill(cmd.Process) })
	defer stop()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		err = <-m.ended
		life.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if text := stderr.String(); text != "" {
			return nil, c.sortStderr(text, err)
		}
		return nil, &DialError{Addr: c.info.Addr, Op: "run ssh",
			Err: errors.New("it ended without a word")}
	}
	return m, nil
}

// close ends the master, and waits until it has ended.
func (m *master) close() {
	m.c.kill(m.cmd.Process)
	<-m.ended
	m.life.Close()
}

// A forwardedConn ends its ssh when it is closed.
type forwardedConn struct {
	*net.UnixConn
	once sync.Once
	kill func()
}

func (f *forwardedConn) Close() error {
	err := f.UnixConn.Close()
	f.once.Do(f.kill)
	return err
}
