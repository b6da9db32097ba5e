package ssh

import (
	"context"
	"io"
	"net"
	"sync"
)

// A Conn is an authenticated connection to one machine. Its methods may be
// called from any goroutine.
//
// sshd allows 10 sessions (running commands) on a connection by default, and
// counts one that is being closed: a caller stays at 4. DialUnix doesn't count.
type Conn interface {
	// Exec runs command with the login shell of the machine's user. ctx covers
	// the start only: the command goes on when it ends later. A machine that
	// allows no more sessions gives ErrTooManySessions, a connection that is
	// gone a *LostError.
	Exec(ctx context.Context, command string) (*Stream, error)

	// DialUnix connects to a Unix socket of the machine. A deadline that
	// passes on the net.Conn ends it for good.
	DialUnix(ctx context.Context, path string) (net.Conn, error)

	// Done is closed when the connection has ended, for whatever reason.
	Done() <-chan struct{}

	// Err is nil until Done is closed, then ErrClosed or a *LostError.
	Err() error

	// Close ends the connection and waits for its goroutines. Commands that
	// run lose their streams; whether they end is up to them. It is safe to
	// call it more than once.
	Close() error

	// Info says where the connection leads.
	Info() Info
}

// Info describes a connection.
type Info struct {
	Addr       string // as given to Dial
	User       string // that we are logged in as
	RemoteAddr string // host:port, after the ssh configuration
	Via        string // the jump hosts, first to last, separated by commas; or empty
	Server     string // the version that the server sent; empty with OpenSSH's client
	Cipher     string // what the bulk of the bytes is encrypted with; empty with OpenSSH's client
}

// ending is how a Conn has ended: once, and for a reason.
type ending struct {
	done chan struct{}
	mu   sync.Mutex
	err  error // why; guarded by mu, final once done is closed
}

func (e *ending) Done() <-chan struct{} { return e.done }

func (e *ending) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// A Stream is a running command: Read reads its stdout, Write writes to its
// stdin, and the end of its stderr is kept for error messages. Read and Write
// may be called at the same time, each from one goroutine.
//
// Read may return io.EOF when the connection is lost, as it does at the end of
// stdout: only Wait tells the two apart.
type Stream struct {
	stdout     io.Reader
	stdin      io.Writer
	closeWrite func() error
	close      func() error
	stderr     *tail
	done       chan struct{} // closed when err is final
	err        error         // set before done is closed
}

// Read reads the command's stdout.
func (s *Stream) Read(p []byte) (int, error) { return s.stdout.Read(p) }

// Write writes to the command's stdin. It blocks while the machine's window
// is full.
func (s *Stream) Write(p []byte) (int, error) { return s.stdin.Write(p) }

// CloseWrite ends the command's stdin; its stdout stays open.
func (s *Stream) CloseWrite() error { return s.closeWrite() }

// Close gives the stream up, also under a Read. The command loses its stdin and
// stdout, but sshd doesn't end it, and its session stays taken while it lives.
func (s *Stream) Close() error { return s.close() }

// Done is closed when Wait would not block.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Wait waits until the command has ended. It returns nil for exit code 0, an
// *ExitError for another code or a signal, a *LostError if that isn't known,
// and ErrClosed after Close. It may be called from several goroutines. A
// command that writes much only ends when somebody reads its stdout.
func (s *Stream) Wait() error {
	<-s.done
	return s.err
}

// Stderr returns the last bytes (4 KiB at most) that the command wrote to
// stderr up to now.
func (s *Stream) Stderr() string { return s.stderr.String() }
