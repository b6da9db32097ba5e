package agent

import (
	"bytes"
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
)

// order is what a supervisor gets from the agent, over a socket, so that secrets are in no file and
// no argument. fileRun, with the lock, comes with its first byte. The answer is a StartResult as
// soon as the command runs. Both have their length in front (4 bytes). An empty message from the
// supervisor says, after the run, that it can take another order.
type order struct {
	Spec     Spec
	RunDir   string   // absolute
	BootID   string   // the machine's
	LoginDir string   // the agent's working directory
	Env      []string // the agent's environment
}

func (o *order) fields(c *coder) {
	nested(c, &o.Spec, func(c *coder, s *Spec) { s.fields(c) })
	c.string(&o.RunDir)
	c.string(&o.BootID)
	c.string(&o.LoginDir)
	list(c, &o.Env, func(c *coder, s *string) { c.string(s) })
}

// orderFD is the socket in a supervisor. Its standard streams are /dev/null; during a run, 2 is
// fileRun.
const orderFD = 3

// orderSocket reads and writes the socket, whose descriptor is a constant of the process.
type orderSocket struct{}

func (orderSocket) Write(p []byte) (int, error) {
	n, err := unix.SendmsgN(orderFD, p, nil, nil, unix.MSG_NOSIGNAL)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

func (orderSocket) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(orderFD, p)
		if err == unix.EINTR {
			continue
		}
		if n == 0 && err == nil {
			return 0, io.EOF
		}
		return max(n, 0), err
	}
}

// awaitOrder waits until there is an order, or the socket has ended. It is false when we are told
// to end first.
func awaitOrder(signals int) bool {
	seen := make([]byte, 512)
	for {
		polls := []unix.PollFd{{Fd: orderFD, Events: unix.POLLIN},
			{Fd: int32(signals), Events: unix.POLLIN}}
		if _, err := unix.Poll(polls, -1); err != nil && err != unix.EINTR {
			return false
		}
		if polls[1].Revents != 0 {
			if n, _ := unix.Read(signals, seen); bytes.IndexByte(seen[:max(0, n)], sawEnd) >= 0 {
				return false
			}
		}
		if polls[0].Revents != 0 {
			return true
		}
	}
}

// receiveOrder waits for an order.
func receiveOrder() (o order, lock int, err error) {
	var head [4]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn := 0, 0
	for err = unix.EINTR; err == unix.EINTR; {
		n, oobn, _, _, err = unix.Recvmsg(orderFD, head[:], oob,
			unix.MSG_CMSG_CLOEXEC|unix.MSG_WAITALL)
	}
	if err != nil {
		return o, -1, err
	}
	if n != len(head) {
		return o, -1, io.EOF
	}
	lock, err = passedDescriptor(oob[:oobn])
	if err != nil {
		return o, -1, err
	}
	p, err := readBody(orderSocket{}, head)
	if err == nil {
		err = decode(p, o.fields)
	}
	if err != nil {
		unix.Close(lock)
		return o, -1, err
	}
	return o, lock, nil
}

func passedDescriptor(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return -1, errorf(KindProtocol, "an order without a lock")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errorf(KindProtocol, "an order without a lock")
	}
	return fds[0], nil
}

const maxOrder = 64 << 20

func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	return readBody(r, head)
}

func readBody(r io.Reader, head [4]byte) ([]byte, error) {
	n := binary.BigEndian.Uint32(head[:])
	if n > maxOrder {
		return nil, errorf(KindProtocol, "a message of %d bytes", n)
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return p, err
}

func writeMessage(w io.Writer, p []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
	return err
}
