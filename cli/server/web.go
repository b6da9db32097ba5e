package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/live"
	"jobserver/version"
	"jobserver/web"
)

// Web is `web`.
type Web struct {
	Listen   string `name:"listen"                   placeholder:"ADDR" help:"Where to listen: an address of this computer, and a port; 127.0.0.1 and the port of the last time by default."`
	Open     bool   `name:"open"                                        help:"Open the page in the browser."`
	ReadOnly bool   `name:"read-only"                                   help:"A page that can change nothing."`
	Insecure bool   `name:"insecure-open-to-network"                    help:"Allow --listen to be an address that others can reach: whoever has the token, or can read along, can do what you can."`
}

// Run serves the page until it is interrupted.
func (c *Web) Run(ctx context.Context, e *cli.Env) error {
	daemon, err := keepConnection(ctx, e)
	if err != nil {
		return err
	}
	defer daemon.Close()
	l, err := c.listen(e)
	if err != nil {
		return err
	}
	defer l.Close()
	follower := live.New(daemon, live.Options{Now: e.Now})
	o := web.Options{
		Follower: follower, Token: web.NewToken(), Addr: l.Addr(), ReadOnly: c.ReadOnly,
		Name: hostName(e), Version: version.String(), Now: e.Now, Open: c.Insecure,
		Log: slog.New(slog.NewTextHandler(e.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server, err := web.Server(ctx, o)
	if err != nil {
		return err
	}
	url := "http://" + l.Addr().String() + "/#token=" + o.Token
	fmt.Fprintln(e.Stdout, url)
	e.Note("the address lets whoever has it do what you can; Ctrl-C ends it")
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { follower.Run(ctx) })
	if c.Open {
		running.Go(func() { openBrowser(ctx, e, url) })
	}
	running.Go(func() {
		<-ctx.Done()
		_ = server.Close() // pages notice, and say so
	})
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		cancel()
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}

// listen listens at the address given, or at loopback and the port of the last time, for bookmarks.
func (c *Web) listen(e *cli.Env) (net.Listener, error) {
	if c.Listen == "" {
		file := portFile(e)
		if port := lastPort(file); port > 0 {
			if l, err := net.Listen(
				"tcp",
				net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			); err == nil {
				return l, nil
			}
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		rememberPort(file, l.Addr().(*net.TCPAddr).Port)
		return l, nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, api.Errorf(api.Usage, "--listen %s: %v", c.Listen, err).
			WithHint("as 127.0.0.1:8000, or [::1]:0 for any port")
	}
	ip := net.ParseIP(host)
	if loopback := host == "localhost" || ip != nil && ip.IsLoopback(); !loopback && !c.Insecure {
		return nil, api.Errorf(api.Usage,
			"--listen %s: others could reach this address, and read along", c.Listen).
			WithHint("run `jobserver web --host HOST` where your browser is, or say " +
				"--insecure-open-to-network")
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, api.Errorf(api.Usage, "--listen %s: %v", c.Listen, err)
	}
	return l, nil
}

// portFile is where the port of the last time is remembered, one for each daemon; "": nowhere. The
// token is in no file.
func portFile(e *cli.Env) string {
	dir, err := e.StateDir()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(
		[]byte(e.Globals.Host + "\x00" + e.Globals.Socket + "\x00" + e.Globals.Address),
	)
	return filepath.Join(dir, "web-port-"+hex.EncodeToString(sum[:4]))
}

// lastPort gives the one remembered, 0 for none.
func lastPort(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || port < 1024 || port > 65535 {
		return 0
	}
	return port
}

// rememberPort is a convenience: without it the next page has another port.
func rememberPort(file string, port int) {
	if file == "" || os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	_ = os.WriteFile(file, []byte(strconv.Itoa(port)+"\n"), 0o600)
}

// hostName is where the daemon is.
func hostName(e *cli.Env) string {
	if e.Globals.Host != "" {
		return e.Globals.Host
	}
	name, err := os.Hostname()
	if err != nil {
		return "here"
	}
	return name
}

// openTime is how long the browser may take to read the address.
const openTime = 10 * time.Second

// openBrowser shows the page. The address goes through a private file that is soon gone: arguments
// of programs are for all users to see.
func openBrowser(ctx context.Context, e *cli.Env, url string) {
	dir, err := os.MkdirTemp("", "jobserver-web-")
	if err != nil {
		e.Note("the browser can't be opened: %v", err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "open.html")
	page := `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=` +
		url + `"><title>jobserver</title>`
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		e.Note("the browser can't be opened: %v", err)
		return
	}
	opener := "xdg-open"
	if own := e.Getenv("BROWSER"); own != "" {
		opener = own
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	cmd := exec.Command(opener, file)
	if err := cmd.Start(); err != nil {
		e.Note("the browser can't be opened: %v; open the address yourself", err)
		return
	}
	go func() { _ = cmd.Wait() }() // a browser may run for days
	<-ctx.Done()
}
