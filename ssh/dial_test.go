package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/semaphore"

	"jobserver/ssh/sshtest"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(relayVar); addr != "" {
		os.Exit(relay(addr))
	}
	if what := os.Getenv(forwardVar); what != "" {
		os.Exit(forward(what))
	}
	goleak.VerifyTestMain(m)
}

// dialer makes a Dialer that knows only what m's client side knows.
func dialer(m *sshtest.Machine, change ...func(*Options)) *Dialer {
	o := Options{ConfigFile: m.ConfigFile}
	for _, f := range change {
		f(&o)
	}
	return NewDialer(o)
}

func mustDial(t *testing.T, d *Dialer, addr string) Conn {
	t.Helper()
	c, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// output runs a command to its end.
func output(t *testing.T, c Conn, command string) (string, error) {
	t.Helper()
	s, err := c.Exec(t.Context(), command)
	if err != nil {
		t.Fatalf("exec %q: %v", command, err)
	}
	s.CloseWrite()
	b, err := io.ReadAll(s)
	if err != nil {
		t.Fatalf("read from %q: %v", command, err)
	}
	return string(b), s.Wait()
}

// wantError dials and checks the kind of the error, that it names the machine,
// and that it has a hint.
func wantError[E Hinter](t *testing.T, d *Dialer, addr string, permanent bool) E {
	t.Helper()
	c, err := d.Dial(t.Context(), addr)
	var e E
	if err == nil {
		c.Close()
		t.Fatalf("dial %s succeeded, want a %T", addr, e)
	}
	if !errors.As(err, &e) {
		t.Fatalf("dial %s: %T %v, want a %T", addr, err, err, e)
	}
	if !strings.Contains(err.Error(), addr) || e.Hint() == "" {
		t.Errorf("error %q (hint %q) should name %s and have a hint", err, e.Hint(), addr)
	}
	if IsFinal(err) != permanent {
		t.Errorf("IsFinal(%v) = %v, want %v", err, !permanent, permanent)
	}
	return e
}

func TestDialByAlias(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	c := mustDial(t, dialer(m), m.Name)
	if out, err := output(t, c, "echo $HOME"); out != m.Home+"\n" || err != nil {
		t.Errorf("got %q, %v; want %q", out, err, m.Home)
	}
	if i := c.Info(); i.Cipher != "aes128-gcm@openssh.com" || i.User != m.User ||
		!strings.HasPrefix(i.Server, "SSH-2.0-OpenSSH") {
		t.Errorf("info = %+v", i)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	<-c.Done()
	if c.Err() != ErrClosed {
		t.Errorf("Err = %v after Close", c.Err())
	}
	if _, err := c.Exec(t.Context(), "true"); !errors.Is(err, ErrClosed) {
		t.Errorf("Exec on a closed connection: %v", err)
	}
}

func TestDialByAddress(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	o := Options{ConfigFile: "/dev/null", Identity: m.KeyFile, KnownHosts: m.KnownHosts}
	mustDial(t, NewDialer(o), m.Addr)
}

// TestDialWithoutClient reads the configuration itself.
func TestDialWithoutClient(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	d := dialer(m, func(o *Options) { o.SSHProgram = "/nonexistent/ssh" })
	mustDial(t, d, m.Name)
}

func TestUnresolvable(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	if err := m.AddHost("nowhere", "x", "no-such-machine.invalid", 22); err != nil {
		t.Fatal(err)
	}
	e := wantError[*ResolveError](t, dialer(m), "nowhere", true)
	if e.Host != "no-such-machine.invalid" {
		t.Errorf("host = %q", e.Host)
	}
	if text := e.Error(); !strings.HasPrefix(text, "nowhere: look up the name "+
		"no-such-machine.invalid: ") || strings.Count(text, e.Host) != 1 {
		t.Errorf("it says %q", text)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	e := wantError[*DialError](t, dialer(m), m.Name, false)
	if !strings.Contains(e.Error(), "connection refused") {
		t.Error(e)
	}
}

// listen accepts connections, says greeting, and nothing else.
func listen(t *testing.T, greeting string, hold bool) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	stop := make(chan struct{})
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				io.WriteString(c, greeting)
				if hold {
					<-stop
				} else {
					// Read what the client says, or closing would reset.
					c.Read(make([]byte, 256))
				}
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(stop)
		conns.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	m.AddHost("silent", "x", "127.0.0.1", listen(t, "", true))
	d := dialer(m, func(o *Options) { o.DialTimeout = 50 * time.Millisecond })
	if e := wantError[*DialError](t, d, "silent", false); !e.Timeout() ||
		!errors.Is(e, os.ErrDeadlineExceeded) {
		t.Errorf("not a timeout: %v", e)
	}
	// An impatient caller gets its own reason back.
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	time.AfterFunc(10*time.Millisecond, func() { cancel(why) })
	if _, err := dialer(m).Dial(ctx, "silent"); !errors.Is(err, why) {
		t.Errorf("canceled dial: %v", err)
	}
}

func TestNotSSH(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	m.AddHost("other", "x", "127.0.0.1", listen(t, "Not allowed at this time\r\n", false))
	if e := wantError[*DialError](t, dialer(m), "other", false); !strings.Contains(e.Error(),
		"Not allowed at this time") {
		t.Errorf("%v", e)
	}
}

func TestProxyCommandNeedsOpenSSH(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.Named("behind"), sshtest.ClientConfig("ProxyCommand nc %h %p"))
	if e := wantError[*ConfigError](t, dialer(m), "behind", true); !strings.Contains(e.Hint(),
		"--transport openssh") {
		t.Errorf("hint %q", e.Hint())
	}
}

func TestJumpHosts(t *testing.T) {
	t.Parallel()
	client, err := sshtest.NewClient(t.TempDir())
	if err != nil {
		sshtest.Require(t)
		t.Fatal(err)
	}
	first := sshtest.Start(t, sshtest.Shared(client), sshtest.Named("first"))
	sshtest.Start(t, sshtest.Shared(client), sshtest.Named("second"))
	last := sshtest.Start(t, sshtest.Shared(client), sshtest.Named("last"),
		sshtest.ClientConfig("ProxyJump first,second"))
	d := dialer(last)
	d.dials = semaphore.NewWeighted(1) // no hop holds a place while the next one waits for its own
	c := mustDial(t, d, "last")
	if out, err := output(t, c, "echo $HOME"); out != last.Home+"\n" || err != nil {
		t.Errorf("got %q, %v; want %q", out, err, last.Home)
	}
	if got := c.Info().Via; got != "first,second" {
		t.Errorf("via %q", got)
	}
	keys, err := d.HostKeys(t.Context(), "last")
	if err != nil || len(keys) != 1 || !keys[0].Known {
		t.Errorf("host keys through jump hosts: %v, %v", keys, err)
	}
	// The end of the first hop is the end of the connection.
	if _, err := first.KillSessions(); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	var lost *LostError
	if !errors.As(c.Err(), &lost) {
		t.Errorf("Err = %v", c.Err())
	}
	// A machine that is down behind them.
	if err := last.Stop(); err != nil {
		t.Fatal(err)
	}
	wantError[*DialError](t, d, "last", false)
	// The key of each hop is checked.
	if err := os.Truncate(client.KnownHosts, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial(t.Context(), "last"); err == nil ||
		!strings.Contains(err.Error(), "first: the host key is unknown") {
		t.Errorf("dial over an unknown jump host: %v", err)
	}
}

func TestJumpSilent(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	m.AddHost("silent", "x", "127.0.0.1", listen(t, "", true), "ProxyJump "+m.Name)
	d := dialer(m, func(o *Options) { o.DialTimeout = 2 * time.Second })
	if e := wantError[*DialError](t, d, "silent", false); !e.Timeout() {
		t.Errorf("not a timeout: %v", e)
	}
}

func TestJumpCircle(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	m.AddHost("a", "x", "127.0.0.1", 1, "ProxyJump b")
	m.AddHost("b", "x", "127.0.0.1", 2, "ProxyJump a")
	wantError[*ConfigError](t, dialer(m), "a", true)
}

// TestManyDials shows that the limits keep below sshd's MaxStartups, which
// would drop the rest.
func TestManyDials(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.ServerConfig("MaxStartups 10:100:10"))
	d := dialer(m)
	var all sync.WaitGroup
	errs := make(chan error, 20)
	for i := range 20 {
		all.Go(func() {
			c, err := d.Dial(t.Context(), m.Name)
			if err != nil {
				errs <- fmt.Errorf("dial %d: %w", i, err)
				return
			}
			c.Close()
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.perAddr) != 0 {
		t.Errorf("%d limits are kept after all dials", len(d.perAddr))
	}
}

func TestBrokenConfig(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t)
	name := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(name, []byte("Nonsense yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := dialer(m, func(o *Options) { o.ConfigFile = name })
	if e := wantError[*ConfigError](t, d, "anything",
		true); !strings.Contains(strings.ToLower(e.Error()), "nonsense") {
		t.Error(e)
	}
}

func TestUnknownCiphers(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.ClientConfig("Ciphers aes256-ctr"))
	c := mustDial(t, dialer(m), m.Name)
	if got := c.Info().Cipher; got != "aes256-ctr" {
		t.Errorf("cipher %q, want the configured one", got)
	}
	d := dialer(m, func(o *Options) { o.Ciphers = []string{"rot13"} })
	wantError[*ConfigError](t, d, m.Name, true)
}

// TestFullAddress: those who wait for an address of which all places are taken, such as a jump host
// that hangs, keep nobody from other addresses.
func TestFullAddress(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	write(t, file,
		"Host behind*\n  ProxyJump 127.0.0.1:1\nHost other\n  HostName 127.0.0.1\n  Port 2\n")
	synctest.Test(t, func(t *testing.T) {
		d := NewDialer(Options{ConfigFile: file, SSHProgram: "/nonexistent/ssh"})
		for range maxDialsPerAddr {
			release, err := d.acquire(t.Context(), "127.0.0.1:1")
			if err != nil {
				t.Fatal(err)
			}
			defer release()
		}
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		defer waiting.Wait()
		defer cancel()
		for i := range maxDials {
			addr := fmt.Sprintf("behind%d", i)
			waiting.Go(func() {
				if c, err := d.Dial(ctx, addr); err == nil {
					c.Close()
				}
			})
			waiting.Go(func() { d.HostKeys(ctx, addr) })
		}
		synctest.Wait()
		patient, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if _, err := d.Dial(patient, "other"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial another address: %v, want a refusal", err)
		}
	})
}
