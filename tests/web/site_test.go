// Package web_test looks at the page as its users do: real daemons with machines and jobs, the page
// served as `jobserver web` serves it, and a real browser.
package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"jobserver/api"
	"jobserver/daemontest"
	"jobserver/live"
	"jobserver/web"
)

func TestMain(m *testing.M) {
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// patience is only ever used up by a test that fails.
const patience = time.Minute

// site is a daemon and its page.
type site struct {
	*daemontest.Daemon
	t     *testing.T
	api   *api.Client
	url   string // with the token
	base  string // without
	token string
	calls *counted
}

// counted counts the calls that the page makes.
type counted struct {
	live.Daemon
	mu    sync.Mutex
	calls map[string]int
}

func (c *counted) Call(ctx context.Context, method string, args, reply any) error {
	c.mu.Lock()
	c.calls[method]++
	c.mu.Unlock()
	return c.Daemon.Call(ctx, method, args, reply)
}

func newSite(t *testing.T, options ...func(*web.Options)) *site {
	t.Helper()
	// A machine that nobody reaches, without asking the network's name server for it.
	config := filepath.Join(t.TempDir(), "ssh_config")
	violet := "Host violet\n\tHostName 127.0.0.1\n\tPort 1\n"
	if err := os.WriteFile(config, []byte(violet), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &site{Daemon: daemontest.New(t, "--ssh-config", config), t: t}
	s.serve(options...)
	return s
}

// serve serves the page of the daemon.
func (s *site) serve(options ...func(*web.Options)) {
	s.t.Helper()
	client, err := api.Dial(s.t.Context(), s.Socket, api.ClientOptions{RedialFor: -1})
	if err != nil {
		s.t.Fatal(err)
	}
	s.api = client
	s.calls = &counted{Daemon: client, calls: map[string]int{}}
	follower := live.New(s.calls, live.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	o := web.Options{
		Follower: follower, Token: web.NewToken(), Addr: l.Addr(), Name: "lab", Version: "test",
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
	for _, option := range options {
		option(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server, err := web.Server(ctx, o)
	if err != nil {
		s.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { follower.Run(ctx) })
	running.Go(func() {
		if err := server.Serve(l); err != http.ErrServerClosed {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(func() {
		cancel()
		server.Close()
		client.Close()
		running.Wait()
	})
	s.token, s.base = o.Token, "http://"+l.Addr().String()
	s.url = s.base + "/#token=" + o.Token
}

// night is a pool with a story: two machines fail all, one of them is set aside; a block of a
// sweep's cells fails, and what was to run after it is blocked; a job has both GPUs; another sweep
// is two thirds done and has numbers; logs have colours.
func (s *site) night() {
	s.t.Helper()
	for _, m := range []string{"red", "green", "blue"} {
		s.J(s.t, "machine", "add", "--slots", "4", "local:"+m, "bench")
	}
	s.J(s.t, "machine", "add", "--slots", "3", "--resource", "gpu=0,1", "local:gold", "gpu")
	s.J(s.t, "resource", "set", "license=2")
	s.J(s.t, "machine", "add", "--slots", "2", "--no-wait", "violet", "far")
	s.J(
		s.t,
		"matrix",
		"add",
		"--name",
		"rates",
		"bench",
		`echo "METRIC: loss=$(awk 'BEGIN{print ({RATE}-0.3)^2+0.02*{DEPTH}+0.004*{REPEAT}}') nats"; echo "METRIC: seconds=1{REPEAT} s"`,
		"",
		"RATE=0.1,0.2,0.3,0.4,0.5",
		"DEPTH=2,4,8",
		"-x",
		"3",
	)
	s.await(`%rates`, 45)
	s.J(
		s.t,
		"matrix",
		"add",
		"--name",
		"block",
		"--max-failures",
		"0",
		"bench",
		`if [ {I} -ge 12 ] && [ {I} -lt 18 ]; then echo "RuntimeError: singular matrix at {I}" >&2; exit 1; fi; echo fine {I}`,
		"",
		"I=1..24",
		"SCALE=small,large",
	)
	s.await(`%block`, 48)
	s.J(
		s.t,
		"add",
		"--max-failures",
		"0",
		"bench",
		`printf '\033[1;32mready\033[0m <script>alert(1)</script>\n\033]8;;https://evil.example\033\\link\033]8;;\033\\\n10%%\r55%%\r100%%\n\033[31merror: \033[0mnone\n'`,
	)
	s.J(s.t, "add", "far", "echo never")
	s.J(s.t, "add", "--tag", "trained", "--needs", "gpu=2,license=1", "gpu", "sleep 600")
	s.J(s.t, "add", "--after", "%block", "bench", "echo all went well")
	s.J(
		s.t,
		"matrix",
		"add",
		"--name",
		"sleepers",
		"gpu",
		"sleep $(( {N} < 5 ? 0 : 600 )); echo {N}",
		"",
		"N=1..9",
	)
	s.J(s.t, "add", "--hold", "bench", "echo held")
	s.await("class=bench", 45+30+1)
}

// await waits until so many of the jobs that a selector matches have ended.
func (s *site) await(selector string, n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cursor := uint64(0)
	for {
		reply, err := api.Call[api.WaitReply](
			ctx,
			s.api,
			"Wait",
			&api.WaitArgs{Selectors: []string{selector}, Wait: 10 * time.Second, Cursor: cursor},
		)
		if err != nil {
			s.t.Fatal(err)
		}
		if reply.Total-reply.Counts.Unfinished() >= n {
			return
		}
		cursor = reply.Cursor
	}
}

// browser is one browser; its tabs share what tabs of one window do.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium-headless-shell")
	if err != nil {
		t.Fatalf("%v: `.ci/deps` installs it", err)
	}
	options := append(
		chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.WindowSize(1280, 900),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag(
			"disable-background-networking",
			true,
		),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag(
			"no-first-run",
			true,
		),
		chromedp.Flag(
			"host-resolver-rules",
			"MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
		),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	return &browser{t: t, ctx: ctx}
}

// tab is one, with what its console and policy said.
type tab struct {
	t    *testing.T
	ctx  context.Context
	mu   sync.Mutex
	said []string
}

func (b *browser) tab() *tab {
	b.t.Helper()
	tab := &tab{t: b.t}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithListener(func(event any) {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			tab.said = append(
				tab.said,
				fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception),
			)
		case *runtime.EventConsoleAPICalled:
			if string(e.Type) == "error" {
				tab.said = append(tab.said, fmt.Sprint(e.Args))
			}
		}
	}))
	b.t.Cleanup(cancel)
	tab.ctx = ctx
	// The tab lives as long as the context that it is started with.
	if err := chromedp.Do(ctx); err != nil {
		b.t.Fatalf("open a tab: %v", err)
	}
	return tab
}

// step is something that is done in a tab.
type step = chromedp.Action[chromedp.Void]

// do carries out steps.
func (tab *tab) do(steps ...step) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	tab.check(chromedp.Do(ctx, steps...))
}

// check fails with what the page shows.
func (tab *tab) check(err error) {
	tab.t.Helper()
	if err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(tab.ctx, 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(
		ctx,
		chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText.slice(0, 3000)`),
	)
	tab.t.Fatalf("%v\n%s\n%v", err, text, tab.said)
}

// open opens a view, in the page that is there, or with the token.
func (tab *tab) open(s *site, path string) {
	tab.t.Helper()
	tab.goes(s.base + path + "#token=" + s.token)
}

// goes loads an address, again where Chromium gave up because an interface came or went on this
// host: other tests make networks of their own. Then the page is an error, or stays as it is before
// its scripts have run, as one of them wasn't loaded.
func (tab *tab) goes(url string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	for {
		err := chromedp.Do(ctx, chromedp.Navigate(url))
		if err == nil {
			var ran bool
			ran, err = chromedp.Run(ctx, chromedp.Evaluate[bool](
				`!!document.body.innerText && !document.querySelector(".boot")`))
			if err == nil && !ran {
				continue
			}
		}
		if err == nil || !strings.Contains(err.Error(), "ERR_NETWORK_CHANGED") {
			tab.check(err)
			return
		}
	}
}

// until waits until an expression is true in the page. It is asked at each of its frames.
func (tab *tab) until(expression string) {
	tab.t.Helper()
	tab.do(chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(0)))
}

// sees waits until the page shows a text.
func (tab *tab) sees(text string) {
	tab.t.Helper()
	tab.until(fmt.Sprintf("document.body.innerText.includes(%s)", quote(text)))
}

// eval gives the value of an expression, which may be a promise.
func eval[T any](tab *tab, expression string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	tab.check(err)
	return value
}

func quote(text string) string {
	b, _ := json.Marshal(text) // a string always can be
	return string(b)
}

// looks sets how wide the window is and whether it is night.
func (tab *tab) looks(width, height int64, dark bool) {
	tab.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	tab.do(func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		if _, err = cdp.Call(
			ctx,
			t,
			emulation.SetDeviceMetricsOverride,
			emulation.SetDeviceMetricsOverrideParams{
				Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 700,
			},
		); err != nil {
			return none, err
		}
		_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return none, err
	})
}

// printed shows the page as it is printed, and then as before.
func (tab *tab) printed(look func()) {
	tab.t.Helper()
	media := func(media string) {
		tab.do(func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
			_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia,
				emulation.SetEmulatedMediaParams{Media: media})
			return none, err
		})
	}
	media("print")
	look()
	media("")
}

// fits fails when a view is wider than the window.
func (tab *tab) fits(what string, width int) {
	tab.t.Helper()
	if wide := eval[int](tab, "document.documentElement.scrollWidth"); wide > width {
		tab.t.Errorf("%s is %d wide, in a window of %d", what, wide, width)
	}
}

// quiet fails when the page had errors; the policy's refusals are some.
func (tab *tab) quiet() {
	tab.t.Helper()
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for _, text := range tab.said {
		tab.t.Errorf("the page says: %s", text)
	}
}

// picture is one of what the window shows.
func (tab *tab) picture() []byte {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	tab.check(err)
	return png
}

// shot puts a picture of the page into the directory that the environment names, for people to look
// at.
func (tab *tab) shot(name string) {
	tab.t.Helper()
	if dir := os.Getenv("JOBSERVER_SHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), tab.picture(), 0o644); err != nil {
			tab.t.Fatal(err)
		}
	}
}

// audit runs axe on the page, and fails for each violation of WCAG 2.2 AA.
func (tab *tab) audit(what string) {
	tab.t.Helper()
	script, err := os.ReadFile("testdata/axe-4.14.1.min.js")
	if err != nil {
		tab.t.Fatal(err)
	}
	if !eval[bool](tab, "!!window.axe") {
		tab.do(chromedp.Evaluate[chromedp.Void](string(script) + "; true"))
	}
	found := eval[[]string](
		tab,
		`axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
		.then((r) => r.violations.map((v) => v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + (n.failureSummary || "").slice(0, 200)).join(" | ")))`,
	)
	for _, violation := range found {
		tab.t.Errorf("%s: %s", what, violation)
	}
}

// newest is the id of the newest job that a selector matches.
func (s *site) newest(selector string) string {
	s.t.Helper()
	reply, err := api.Call[api.ListJobsReply](s.t.Context(), s.api, "ListJobs",
		&api.ListJobsArgs{Newest: true, Selectors: []string{selector}, Limit: 1})
	if err != nil || len(reply.Jobs) == 0 {
		s.t.Fatalf("the newest job of %s: %v, %v", selector, reply, err)
	}
	return fmt.Sprint(reply.Jobs[0].JID)
}
