package hostile_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

// evilSSH is an sshd that does one thing wrong.
type evilSSH struct {
	t    *testing.T
	name string
	key  xssh.Signer
	ends chan struct{} // closed at the end of the test
	open atomic.Int64  // connections
	most atomic.Int64  // of them at a time
}

// server says what one does with a connection that is up, channel by channel.
type server struct {
	e    *evilSSH
	conn *xssh.ServerConn
	ch   xssh.NewChannel
}

// accept takes the channel, and answers its requests as the sshd wants: nil answers none.
func (s *server) accept(answer func(ch xssh.Channel, r *xssh.Request)) {
	ch, reqs, err := s.ch.Accept()
	if err != nil {
		return
	}
	go func() {
		for r := range reqs {
			if answer != nil {
				answer(ch, r)
			}
		}
	}()
}

// execs takes the channel, says yes to the command, and goes on as run says.
func (s *server) execs(run func(ch xssh.Channel)) {
	s.accept(func(ch xssh.Channel, r *xssh.Request) {
		_ = r.Reply(true, nil) // the other side may be gone
		if r.Type == "exec" {
			go run(ch)
		}
	})
}

// forever writes the same again and again, until nobody takes it.
func forever(w io.Writer, text string) {
	for {
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
	}
}

// script is what an sshd says to a connection that isn't up yet: something once, and something
// again and again; without an end it waits then.
type script struct {
	once, again, drip string
	hangsUp           bool
}

const (
	version  = "SSH-2.0-OpenSSH_9.2\r\n"
	escapes  = "\x1b]0;mine\a\x1b[2J\x1b[31mFORGED \u202e"
	announce = "\xff\xff\xff\xff" // a packet of 4 GB
)

var manyNames = strings.Repeat("a,", 900)

// spoken are the things that an sshd does wrong before there is a connection. The bytes stand as
// they are in RFC 4253.
var spoken = map[string]script{
	"says nothing":              {},
	"hangs up":                  {hangsUp: true},
	"a banner without end":      {again: "Welcome to the machine\r\n"},
	"a line without end":        {once: "SSH-2.0-", again: strings.Repeat("x", 1000)},
	"zeros":                     {again: strings.Repeat("\x00", 1000)},
	"escapes for a version":     {once: "SSH-2.0-" + escapes + "\r\n"},
	"escapes for a banner":      {once: escapes + "\r\n" + escapes + "\r\n", hangsUp: true},
	"http":                      {again: "HTTP/1.1 400 Bad Request\r\n\r\n"},
	"version 1":                 {once: "SSH-1.5-x\r\n"},
	"only a version":            {once: version},
	"byte by byte":              {drip: version + strings.Repeat("\x00", 1<<16)},
	"a packet of 4 GB":          {once: version + announce, again: strings.Repeat("x", 1<<16)},
	"packets of 0 bytes":        {once: version, again: strings.Repeat("\x00", 4<<10)},
	"packets that say nothing":  {once: version, again: strings.Repeat(ignored, 1000)},
	"algorithms with escapes":   {once: version + algorithms(escapes), hangsUp: true},
	"too many algorithms":       {once: version + algorithms(manyNames), hangsUp: true},
	"a disconnect with escapes": {once: version + disconnect(escapes+strings.Repeat("y", 20000))},
}

// says goes through a script.
func (e *evilSSH) says(c net.Conn, s script) {
	gone := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, c); close(gone) }()
	_, _ = io.WriteString(c, s.once) // the other side may be gone
	switch {
	case s.hangsUp:
		return
	case s.again != "":
		forever(c, s.again)
	case s.drip != "":
		e.drip(c, s.drip)
	}
	<-gone
}

// packet is one as it is before there are keys.
func packet(payload []byte) string {
	pad := 8 - (len(payload)+5)%8 + 8
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)+1+pad))
	b = append(append(b, byte(pad)), payload...)
	return string(append(b, make([]byte, pad)...))
}

// ignored is a packet that says that it is to be ignored.
var ignored = packet([]byte{2, 0, 0, 0, 4, 'j', 'u', 'n', 'k'})

// algorithms is a packet that says of everything that these are what it can.
func algorithms(names string) string {
	p := append([]byte{20}, make([]byte, 16)...)
	for range 10 {
		p = append(binary.BigEndian.AppendUint32(p, uint32(len(names))), names...)
	}
	return packet(append(p, 0, 0, 0, 0, 0))
}

// disconnect is a packet that ends a connection.
func disconnect(why string) string {
	p := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0, 2}, uint32(len(why)))
	return packet(append(append(p, why...), 0, 0, 0, 0))
}

// drip writes a byte every now and then.
func (e *evilSSH) drip(c net.Conn, text string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, b := range []byte(text) {
		select {
		case <-e.ends:
			return
		case <-tick.C:
		}
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
	}
}

// repeats runs any command, and prints the same without end.
func repeats(text string) func(s *server) {
	return func(s *server) { s.execs(func(ch xssh.Channel) { forever(ch, text) }) }
}

// ends runs any command, which ends at once, with that message.
func ends(request string, payload []byte) func(s *server) {
	return func(s *server) {
		s.execs(func(ch xssh.Channel) {
			_, _ = ch.SendRequest(request, false, payload)
			ch.Close()
		})
	}
}

// badSignal is a signal of a name that isn't one.
var badSignal = xssh.Marshal(struct {
	Name        string
	Core        bool
	Text, Local string
}{escapes, true, strings.Repeat("q", 20000), ""})

// connected are the things that an sshd does wrong with a channel.
var connected = map[string]func(s *server){
	"no channel": func(*server) {},
	"no channel, with escapes": func(s *server) {
		_ = s.ch.Reject(xssh.Prohibited, escapes+strings.Repeat("z", 20000))
	},
	"no answer to exec": func(s *server) { s.accept(nil) },
	"no to exec": func(s *server) {
		s.accept(func(_ xssh.Channel, r *xssh.Request) { _ = r.Reply(false, nil) })
	},
	"exec, and silence":       func(s *server) { s.execs(func(xssh.Channel) {}) },
	"exec, and the end":       func(s *server) { s.execs(func(ch xssh.Channel) { ch.Close() }) },
	"output without end":      repeats(strings.Repeat("x", 32<<10)),
	"lines without end":       repeats("motd\n"),
	"an answer without sense": repeats("jobserver-agent 1 {}\n\x00\x00"),
	"errors without end": func(s *server) {
		s.execs(func(ch xssh.Channel) { forever(ch.Stderr(), escapes+"\n") })
	},
	"a status of 4 billion":   ends("exit-status", []byte{255, 255, 255, 255}),
	"a status of 1 byte":      ends("exit-status", []byte{1}),
	"a signal that isn't one": ends("exit-signal", badSignal),
	"statuses without end": func(s *server) {
		s.execs(func(ch xssh.Channel) {
			for {
				if _, err := ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0}); err != nil {
					return
				}
			}
		})
	},
	"channels at us": func(s *server) {
		s.accept(nil)
		for _, kind := range []string{
			"x11", "auth-agent@openssh.com", "forwarded-tcpip", "session",
		} {
			go func() {
				for {
					ch, _, err := s.conn.OpenChannel(kind, make([]byte, 30000))
					switch err.(type) {
					case nil:
						s.e.t.Errorf("%s: it opened a channel of kind %s", s.e.name, kind)
						ch.Close()
					case *xssh.OpenChannelError:
					default:
						return
					}
				}
			}()
		}
	},
	"requests at us": func(s *server) {
		s.accept(nil)
		go func() {
			for {
				if _, _, err := s.conn.SendRequest("junk", true, make([]byte, 30000)); err != nil {
					return
				}
			}
		}()
	},
}

// serve answers one connection.
func (e *evilSSH) serve(c net.Conn) {
	defer c.Close()
	if s, ok := spoken[e.name]; ok {
		e.says(c, s)
		return
	}
	conf := &xssh.ServerConfig{
		PublicKeyCallback: func(xssh.ConnMetadata, xssh.PublicKey) (*xssh.Permissions, error) {
			switch e.name {
			case "no key is enough":
				return nil, &xssh.PartialSuccessError{Next: xssh.ServerAuthCallbacks{
					PublicKeyCallback: anyKey(100_000),
				}}
			case "no key is right":
				return nil, fmt.Errorf("no")
			case "no key is answered":
				<-e.ends
			}
			return nil, nil
		},
		BannerCallback: func(xssh.ConnMetadata) string { return strings.Repeat(escapes, 2000) },
	}
	if e.name == changingKey {
		conf.AddHostKey(newKey(e.t))
	} else {
		conf.AddHostKey(e.key)
	}
	conn, channels, requests, err := xssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	go xssh.DiscardRequests(requests)
	for ch := range channels {
		if does := connected[e.name]; does != nil {
			does(&server{e, conn, ch})
		}
	}
}

// anyKey takes keys again and again, and never says that it is enough.
func anyKey(left int) func(xssh.ConnMetadata, xssh.PublicKey) (*xssh.Permissions, error) {
	return func(xssh.ConnMetadata, xssh.PublicKey) (*xssh.Permissions, error) {
		if left == 0 {
			return nil, fmt.Errorf("no")
		}
		return nil, &xssh.PartialSuccessError{Next: xssh.ServerAuthCallbacks{
			PublicKeyCallback: anyKey(left - 1),
		}}
	}
}

// evilNames are all of them.
func evilNames() (names []string) {
	for name := range spoken {
		names = append(names, name)
	}
	for name := range connected {
		names = append(names, name)
	}
	return append(names, "no key is enough", "no key is right", "no key is answered", changingKey)
}

// changingKey has another host key for each connection.
const changingKey = "changing key"

func newKey(t *testing.T) xssh.Signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Error(err)
		return nil
	}
	signer, err := xssh.NewSignerFromKey(private)
	if err != nil {
		t.Error(err)
	}
	return signer
}

// startEvil starts one, and tells the client of it.
func startEvil(t *testing.T, name, alias string, client *sshtest.Client) *evilSSH {
	t.Helper()
	e := &evilSSH{t: t, name: name, key: newKey(t), ends: make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := client.AddHost(alias, "someone", "127.0.0.1", port); err != nil {
		t.Fatal(err)
	}
	key := string(xssh.MarshalAuthorizedKey(e.key.PublicKey()))
	if err := client.Know("127.0.0.1", port, key); err != nil {
		t.Fatal(err)
	}
	var all sync.Map
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Store(c, true)
			if n := e.open.Add(1); n > e.most.Load() {
				e.most.Store(n)
			}
			serving.Go(func() {
				e.serve(c)
				all.Delete(c)
				e.open.Add(-1)
			})
		}
	})
	t.Cleanup(func() {
		close(e.ends)
		l.Close()
		all.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		serving.Wait()
	})
	return e
}

// TestHostileSSHD: machines whose sshd does everything wrong that an sshd can, all at once. Two
// honest ones do the work of 200 jobs meanwhile, the daemon takes little memory and no second
// connection to any of them, what they say does nothing to a terminal, and they can be removed.
func TestHostileSSHD(t *testing.T) {
	t.Parallel()
	client, err := sshtest.NewClient(filepath.Join(t.TempDir(), "ssh"))
	if err != nil {
		t.Fatal(err)
	}
	var evil []*evilSSH
	var aliases []string
	for i, name := range evilNames() {
		aliases = append(aliases, fmt.Sprintf("evil%d", i))
		evil = append(evil, startEvil(t, name, aliases[i], client))
	}
	d := daemontest.New(t, "--ssh-config", client.ConfigFile)
	d.J(t, append(append([]string{"machine", "add"}, aliases...), "bad")...)
	d.J(t, "machine", "add", "local:a", "local:b", "good", "--slots", "4")
	d.J(t, "add", "bad", "-x", "50", "true")
	d.J(t, "add", "good", "-x", "200", `echo $JOBSERVER_JID`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, errs, code, err := d.Run(ctx, "wait", "class=good"); err != nil || code != 0 {
		t.Errorf("the honest machines' jobs: code %d, %v\n%s%s", code, err, out, errs)
	}
	select { // so long they may go on
	case <-time.After(during(t) / 4):
	case <-d.Ended():
		t.Fatalf("the daemon died:\n%s", d.ConsoleText())
	}
	type row struct {
		Addr  string `json:"addr"`
		State string `json:"state"`
	}
	seen := 0
	for line := range strings.Lines(d.J(t, "machine", "ls", "-o", "jsonl")) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(r.Addr, "evil") {
			seen++
			if r.State == "connected" || r.State == "" {
				t.Errorf("%s is %q", r.Addr, r.State)
			}
		}
		if len(line) > 16<<10 {
			t.Errorf("%d bytes: %q", len(line), line[:1000])
		}
	}
	for _, words := range [][]string{{"machine", "ls"}, {"status"}, {"why", "1"}} {
		if out := d.J(t, words...); strings.ContainsAny(out, "\x1b\a\u202e") {
			t.Errorf("j %s shows %q", strings.Join(words, " "), out)
		}
	}
	if seen != len(evil) {
		t.Errorf("%d of %d machines are listed", seen, len(evil))
	}
	for i, e := range evil {
		if n := e.most.Load(); n > 2 {
			t.Errorf("%s (%s) had %d connections at a time", aliases[i], e.name, n)
		}
	}
	if console := d.ConsoleText(); bytes.ContainsAny([]byte(console), "\x1b\a\u202e") {
		t.Error("the daemon's log has control characters")
	}
	d.J(t, append([]string{"machine", "rm", "--force", "--yes"}, aliases...)...)
	if n := resident(t, d.PID()); n > maxResident {
		t.Errorf("the daemon had %d MiB", n>>20)
	} else {
		t.Logf("the daemon took %d MiB", n>>20)
	}
}
