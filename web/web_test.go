package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/live"
)

// fake is a daemon that has one job, and remembers what it was asked.
type fake struct {
	mu    sync.Mutex
	calls []string
	args  map[string]any // by method, the newest
	log   []byte
}

func (f *fake) Call(ctx context.Context, method string, args, reply any) error {
	f.mu.Lock()
	f.calls = append(f.calls, method)
	f.args[method] = args
	f.mu.Unlock()
	switch r := reply.(type) {
	case *api.ChangesReply:
		if args.(*api.ChangesArgs).Wait > 0 {
			<-ctx.Done()
			return ctx.Err()
		}
	case *api.ListJobsReply:
		r.Jobs = []api.Job{{JID: 17, Status: "done", Cmd: "</script><script>alert(1)</script>"}}
	case *api.LogReply:
		r.Data, r.Size, r.EOF = f.log, int64(len(f.log)), true
	case *api.ChangeJobsReply:
		r.Total, r.Changed = 2, 1
	case *api.Job:
		return api.Errorf(api.NotFound, "no job 99").WithHint("`jobserver job ls` lists jobs")
	case *api.MatrixMapReply:
		r.Status, r.Cells, r.JID = []byte{5, 6}, 2, 17
	case *api.ListMatricesReply:
		r.Matrices = []api.Matrix{{ID: 1, Name: "rates", Cells: 4}}
	case *api.MatrixCellsReply:
		hostileCells(r)
	}
	return nil
}

func (f *fake) called(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, m := range f.calls {
		if m == method {
			n++
		}
	}
	return n
}

// page is a server under test.
type page struct {
	t     *testing.T
	addr  string
	token string
	fake  *fake
	log   *bytes.Buffer
}

func serve(t *testing.T, options ...func(*Options)) *page {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{
		t:     t,
		addr:  l.Addr().String(),
		token: NewToken(),
		fake:  &fake{args: map[string]any{}},
		log:   &bytes.Buffer{},
	}
	f := live.New(p.fake, live.Options{})
	o := Options{
		Follower: f, Token: p.token, Addr: l.Addr(), Name: "lab", Version: "test", Now: time.Now,
		Log: slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, option := range options {
		option(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server, err := Server(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	running.Go(func() { _ = server.Serve(l) }) // it ends when the test does
	t.Cleanup(func() {
		cancel()
		server.Close()
		running.Wait()
		if strings.Contains(p.log.String(), p.token) {
			t.Error("the token is in the log")
		}
	})
	if _, _, err := f.Next(t.Context(), 0); err != nil { // it follows
		t.Fatal(err)
	}
	return p
}

// ask makes a request; headers are "Name: value". Host is one of them.
func (p *page) ask(method, path, body string, headers ...string) (*http.Response, string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(
		p.t.Context(),
		method,
		"http://"+p.addr+path,
		strings.NewReader(body),
	)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if again, ok := strings.CutPrefix(name, "+"); ok { // beside one that is there
			r.Header.Add(again, value)
			continue
		}
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	reply, err := transport.RoundTrip(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return reply, string(text)
}

func (p *page) bearer() string { return "Authorization: Bearer " + p.token }

// TestWhoGetsIn tries what other sites, other ports, rebound names and strangers could ask for.
func TestWhoGetsIn(t *testing.T) {
	t.Parallel()
	p := serve(t)
	_, port, _ := net.SplitHostPort(p.addr)
	change := `{"op":"cancel","selectors":["17"],"request":"0123456789abcdef"}`
	json := "Content-Type: application/json"
	tests := []struct {
		what    string
		method  string
		path    string
		body    string
		headers []string
		want    int
	}{
		{"our page's files", "GET", "/app.js", "", nil, 200},
		{"a view", "GET", "/jobs/17", "", nil, 200},
		{
			"a view that another site links to",
			"GET",
			"/",
			"",
			[]string{"Sec-Fetch-Site: cross-site"},
			200,
		},
		{"no such file", "GET", "/x.js", "", nil, 404},
		{"a file is not written to", "PUT", "/app.js", "x", nil, 405},
		{"a way out of the files", "GET", "/../web.go", "", nil, 307},
		{"no token", "GET", "/api/state", "", nil, 401},
		{
			"a wrong token",
			"GET",
			"/api/state",
			"",
			[]string{"Authorization: Bearer x" + p.token[1:]},
			401,
		},
		{
			"a part of the token",
			"GET",
			"/api/state",
			"",
			[]string{"Authorization: Bearer " + p.token[:20]},
			401,
		},
		{
			"the token as a password",
			"GET",
			"/api/state",
			"",
			[]string{"Authorization: Basic " + p.token},
			401,
		},
		{"the token in the address", "GET", "/api/state?token=" + p.token, "", nil, 401},
		{
			"the token in a cookie",
			"GET",
			"/api/state",
			"",
			[]string{"Cookie: token=" + p.token},
			401,
		},
		{"the token", "GET", "/api/state", "", []string{p.bearer()}, 200},
		{
			"by the name localhost",
			"GET",
			"/api/state",
			"",
			[]string{p.bearer(), "Host: localhost:" + port},
			200,
		},
		{
			"a rebound name",
			"GET",
			"/api/state",
			"",
			[]string{p.bearer(), "Host: evil.example:" + port},
			421,
		},
		{"a rebound name without port", "GET", "/", "", []string{"Host: evil.example"}, 421},
		{
			"another port's name",
			"GET",
			"/api/state",
			"",
			[]string{p.bearer(), "Host: 127.0.0.1:1"},
			421,
		},
		{
			"another loopback address",
			"GET",
			"/api/state",
			"",
			[]string{p.bearer(), "Host: 127.0.0.2:" + port},
			421,
		},
		{
			"a script of another port",
			"GET",
			"/api/state",
			"",
			[]string{p.bearer(), "Sec-Fetch-Site: same-site", "Origin: http://127.0.0.1:1"},
			403,
		},
		{
			"a script of another site",
			"GET",
			"/api/live",
			"",
			[]string{p.bearer(), "Sec-Fetch-Site: cross-site"},
			403,
		},
		{
			"another origin, from an old browser",
			"GET",
			"/api/jobs",
			"",
			[]string{p.bearer(), "Origin: https://evil.example"},
			403,
		},
		{"no origin at all", "GET", "/api/jobs", "", []string{p.bearer(), "Origin: null"}, 403},
		{
			"our own page",
			"POST",
			"/api/jobs",
			change,
			[]string{p.bearer(), json, "Sec-Fetch-Site: same-origin", "Origin: http://" + p.addr},
			200,
		},
		{"no browser", "POST", "/api/jobs", change, []string{p.bearer(), json}, 200},
		{
			"a form of another site",
			"POST",
			"/api/jobs",
			change,
			[]string{"Sec-Fetch-Site: cross-site"},
			403,
		},
		{
			"a form of another port",
			"POST",
			"/api/jobs",
			change,
			[]string{p.bearer(), json, "Sec-Fetch-Site: same-site"},
			403,
		},
		{
			"without the token",
			"POST",
			"/api/jobs",
			change,
			[]string{json, "Origin: http://" + p.addr},
			401,
		},
		{
			"as a form",
			"POST",
			"/api/jobs",
			change,
			[]string{p.bearer(), "Content-Type: text/plain"},
			400,
		},
		{
			"without the request's id",
			"POST",
			"/api/jobs",
			`{"op":"cancel","selectors":["17"]}`,
			[]string{p.bearer(), json},
			400,
		},
		{
			"a short id",
			"POST",
			"/api/jobs",
			`{"op":"cancel","selectors":["17"],"request":"1"}`,
			[]string{p.bearer(), json},
			400,
		},
		{
			"an unknown field",
			"POST",
			"/api/jobs",
			`{"op":"cancel","jobs":["17"]}`,
			[]string{p.bearer(), json},
			400,
		},
		{
			"an unknown operation",
			"POST",
			"/api/jobs",
			`{"op":"clone","selectors":["17"],"request":"0123456789abcdef"}`,
			[]string{p.bearer(), json},
			400,
		},
		{
			"everything",
			"POST",
			"/api/jobs",
			`{"op":"cancel","selectors":[],"request":"0123456789abcdef"}`,
			[]string{p.bearer(), json},
			400,
		},
		{
			"all machines",
			"POST",
			"/api/machines",
			`{"op":"drain","request":"0123456789abcdef"}`,
			[]string{p.bearer(), json},
			400,
		},
		{"no JSON", "POST", "/api/jobs", `{`, []string{p.bearer(), json}, 400},
		{
			"a body without an end",
			"POST",
			"/api/jobs",
			`{"op":"` + strings.Repeat("x", maxBody),
			[]string{p.bearer(), json},
			400,
		},
		{"only the time", "GET", "/api/timeline?from=4611686018427387903", "", []string{p.bearer()},
			400},
		{"a query that is cut", "GET", "/api/jobs?sel=%zz", "", []string{p.bearer()}, 400},
		{"a query of two kinds", "GET", "/api/jobs?sel=a;b", "", []string{p.bearer()}, 400},
		{"a query that why can't read", "GET", "/api/why?sel=%", "", []string{p.bearer()}, 400},
		{"a read with a body", "GET", "/api/state", "x", []string{p.bearer()}, 400},
		{"the head of a stream", "HEAD", "/api/live", "", []string{p.bearer()}, 400},
		{"the head of a file", "HEAD", "/app.js", "", nil, 200},
		{"what a browser asks before", "OPTIONS", "/api/jobs", "",
			[]string{"Origin: http://evil.example", "Access-Control-Request-Method: POST"}, 403},
		{"an echo", "TRACE", "/api/state", "", []string{p.bearer()}, 404},
		{"an echo of a file", "TRACE", "/app.js", "", nil, 405},
		{"a name with a dot", "GET", "/", "", []string{"Host: localhost.:" + port}, 421},
		{"an address with a dot", "GET", "/", "", []string{"Host: 127.0.0.1.:" + port}, 421},
		{"an address as a number", "GET", "/", "", []string{"Host: 2130706433:" + port}, 421},
		{"a name below", "GET", "/", "", []string{"Host: x.localhost:" + port}, 421},
		{"a port with a zero", "GET", "/", "", []string{"Host: 127.0.0.1:0" + port}, 421},
		{"two origins, ours first", "GET", "/api/state", "", []string{p.bearer(),
			"+Origin: http://" + p.addr, "+Origin: http://evil.example"}, 403},
		{"two sites, ours first", "GET", "/api/state", "", []string{p.bearer(),
			"+Sec-Fetch-Site: same-origin", "+Sec-Fetch-Site: cross-site"}, 403},
		{"our address with a path", "GET", "/api/state", "",
			[]string{p.bearer(), "Origin: http://" + p.addr + "/"}, 403},
		{"our address by another name", "GET", "/api/state", "",
			[]string{p.bearer(), "Origin: http://localhost:" + port}, 403},
		{"two tokens", "GET", "/api/state", "", []string{"+Authorization: Bearer x",
			"+" + p.bearer()}, 401},
		{"more than the token", "GET", "/api/state", "", []string{p.bearer() + "x"}, 401},
		{"the token and a blank before it", "GET", "/api/state", "",
			[]string{"Authorization: Bearer  " + p.token}, 401},
		{"another host's address", "GET", "//evil.example/", "", nil, 307},
		{"more than one change", "POST", "/api/jobs", change + change,
			[]string{p.bearer(), json}, 400},
		{"an id without an end", "POST", "/api/jobs", `{"op":"cancel","selectors":["17"],` +
			`"request":"` + strings.Repeat("x", 65) + `"}`, []string{p.bearer(), json}, 400},
		{"a wrong method", "DELETE", "/api/jobs", "", []string{p.bearer()}, 404},
		{"no such address", "GET", "/api/nothing", "", []string{p.bearer()}, 404},
		{"no such job", "GET", "/api/jobs/99", "", []string{p.bearer()}, 404},
		{"no number", "GET", "/api/jobs/x", "", []string{p.bearer()}, 400},
		{"a number too large", "GET", "/api/jobs?limit=9999", "", []string{p.bearer()}, 400},
	}
	for _, test := range tests {
		before := p.fake.called(api.ChangeJobs) + p.fake.called("ChangeMachines")
		reply, text := p.ask(test.method, test.path, test.body, test.headers...)
		if reply.StatusCode != test.want {
			t.Errorf(
				"%s: %s %s: %d %s, want %d",
				test.what,
				test.method,
				test.path,
				reply.StatusCode,
				text,
				test.want,
			)
		}
		if after := p.fake.called(
			api.ChangeJobs,
		) + p.fake.called(
			"ChangeMachines",
		); test.method == "POST" &&
			(after > before) != (test.want == 200) {
			t.Errorf("%s: %d changes were asked for", test.what, after-before)
		}
		h := reply.Header
		if to := h.Get("Location"); to != "" && (to[0] != '/' || strings.HasPrefix(to, "//")) {
			t.Errorf("%s: it leads to %s", test.what, to)
		}
		if len(h["Set-Cookie"]) > 0 || h.Get("Access-Control-Allow-Origin") != "" ||
			strings.Contains(text+fmt.Sprint(h), p.token) {
			t.Errorf("%s: cookies, other origins or the token: %v", test.what, h)
		}
		if h.Get("Content-Security-Policy") != policy ||
			h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: the policy is missing: %v", test.what, h)
		}
		if strings.HasPrefix(test.path, "/api/") && test.want == 200 &&
			h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: it may be kept: %v", test.what, h)
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	p := serve(t, func(o *Options) { o.ReadOnly = true })
	for path, ops := range map[string]map[string]string{
		"/api/jobs": jobOps, "/api/machines": machineOps, "/api/matrices": matrixOps,
	} {
		for op := range ops {
			for _, dry := range []bool{true, false} {
				body := fmt.Sprintf(`{"op":%q,"selectors":["17"],"addrs":["a"],"matrix":"1",`+
					`"request":"0123456789abcdef","dry_run":%v}`, op, dry)
				reply, text := p.ask("POST", path, body, p.bearer(),
					"Content-Type: application/json")
				if reply.StatusCode != 403 || !strings.Contains(text, "--read-only") {
					t.Errorf("%s %s: %d %s", path, op, reply.StatusCode, text)
				}
			}
		}
	}
	if _, text := p.ask(
		"GET",
		"/api/state",
		"",
		p.bearer(),
	); !strings.Contains(
		text,
		`"read_only":true`,
	) {
		t.Error(text)
	}
}

// TestTheRequestsIDIsThePages: a click that is repeated is one request, whatever happens between.
func TestTheRequestsIDIsThePages(t *testing.T) {
	t.Parallel()
	p := serve(t)
	for range 2 {
		reply, text := p.ask(
			"POST",
			"/api/jobs",
			`{"op":"hold","selectors":["%1:waiting","it's"],"request":"0123456789abcdef"}`,
			p.bearer(),
			"Content-Type: application/json",
		)
		if reply.StatusCode != 200 ||
			!strings.Contains(text, `"command":"jobserver job hold %1:waiting 'it'\\''s'"`) {
			t.Error(reply.StatusCode, text)
		}
		args := p.fake.args[api.ChangeJobs].(*api.ChangeJobsArgs)
		if args.RequestID != "0123456789abcdef" || args.Op != api.OpHold ||
			args.DryRun {
			t.Errorf("%+v", args)
		}
	}
}

// TestBytes: logs and maps are sent as they are, and never as something that a browser would show.
func TestBytes(t *testing.T) {
	t.Parallel()
	p := serve(t)
	p.fake.log = []byte("<script>alert(1)</script>\x1b]52;c;eA==\x07\xff\n")
	reply, text := p.ask("GET", "/api/jobs/17/log?tail=100", "", p.bearer())
	if text != string(p.fake.log) ||
		reply.Header.Get("Content-Type") != "application/octet-stream" ||
		reply.Header.Get("X-Eof") != "true" {
		t.Errorf("%q %v", text, reply.Header)
	}
	reply, text = p.ask("GET", "/api/matrices/1/map", "", p.bearer())
	if text != "\x05\x06" || reply.Header.Get("X-Cells") != "2" ||
		reply.Header.Get("X-Here") != "2" {
		t.Errorf("%q %v", text, reply.Header)
	}
	if _, text = p.ask("GET", "/api/jobs", "", p.bearer()); strings.Contains(text, "<script>") {
		t.Error("markup in JSON:", text)
	}
}

// TestOtherUser: a process of another user is refused before it can try tokens.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		p := serve(t) // only root can be another user: ourselves are let in
		if reply, _ := p.ask("GET", "/", ""); reply.StatusCode != 200 {
			t.Error(reply.StatusCode)
		}
		return
	}
	p := serve(t)
	cmd := exec.Command(
		"bash",
		"-c",
		`exec 3<>/dev/tcp/${1%:*}/${1#*:}; printf 'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$1" >&3; cat <&3`,
		"-",
		p.addr,
	)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "HTTP/1.1 403 ") ||
		!strings.Contains(string(out), "another user") {
		t.Errorf("%v\n%s", err, out)
	}
	if reply, _ := p.ask("GET", "/", ""); reply.StatusCode != 200 {
		t.Error("we are refused as well:", reply.StatusCode)
	}
}

func TestFindUID(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   " +
		"uid  timeout inode\n"
	const (
		listens = "   0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0  1000        0 1 1 0 100\n"
		client  = "   1: 0100007F:C350 0100007F:1F90 01 0:0 00:0 0  1001        0 2 1 0 100\n"
		orphan  = "   1: 0100007F:C350 0100007F:1F90 05 0:0 00:0 0     0        0 0 1 0 100\n"
		ours    = "   2: 0100007F:1F90 0100007F:C350 01 0:0 00:0 0  1000        0 3 1 0 100\n"
		short   = "   3: short\n"
	)
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000}
	to := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	for _, test := range []struct {
		what, table string
		want        lookup
	}{
		{"it is there", head + listens + ours + short + client, lookup{1001, true, true}},
		{"the other way round", head + listens + ours, lookup{told: true}},
		{"one that nobody holds", head + orphan + listens, lookup{told: true}},
		{"a table that tells nothing", head, lookup{}},
		{"no table", "", lookup{}},
	} {
		got := findUID(strings.NewReader(test.table), procAddr(from, false), procAddr(to, false))
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", test.what, got, test.want)
		}
	}
	six := procAddr(&net.TCPAddr{IP: net.ParseIP("::1"), Port: 80}, true)
	if six != "00000000000000000000000001000000:0050" {
		t.Error(six)
	}
}

// TestPeerThatIsGone: who sends something and leaves has no user any more, and isn't taken for us.
func TestPeerThatIsGone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct {
		what  string
		leave func(*net.TCPConn) error
		want  peerIs
	}{
		{"it is there", func(*net.TCPConn) error { return nil }, peerFound},
		{"it has ended what it says", (*net.TCPConn).CloseWrite, peerFound},
		{"it has closed", (*net.TCPConn).Close, peerGone},
		{"it has broken off", func(c *net.TCPConn) error {
			return errors.Join(c.SetLinger(0), c.Close())
		}, peerGone},
	} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := test.leave(client.(*net.TCPConn)); err != nil {
			t.Fatal(err)
		}
		uid, is := peerUID(conn)
		if is != test.want || is == peerFound && uid != os.Geteuid() {
			t.Errorf("%s: %d of user %d, want %d", test.what, is, uid, test.want)
		}
		client.Close()
		conn.Close()
	}
}

// TestSlowBody: what begins a request and doesn't go on holds a connection no longer than a body
// may take, whether it has the token or not.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	p := serve(t, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(-bodyTime) } // its time is over at once
	})
	for _, test := range []struct{ what, header, want string }{
		{"a stranger", "X: y", " 401 "},
		{"the page", p.bearer(), " 400 "},
		{"another site", "Origin: null", " 403 "},
	} {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /api/jobs HTTP/1.1\r\nHost: %s\r\n%s\r\n"+
			"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{", p.addr, test.header)
		reply, err := io.ReadAll(conn) // until the server closes it
		if err != nil || !strings.Contains(string(reply), test.want) {
			t.Errorf("%s: %v, %q", test.what, err, reply)
		}
		conn.Close()
	}
}

// vendored are the files of others, which are here as they were published.
var vendored = map[string]string{
	"assets/vendor/htm-preact-3.1.1.js": "" +
		"72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
}

func TestVendored(t *testing.T) {
	for name, want := range vendored {
		body, err := embedded.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s is another file: %s", name, got)
		}
		readme, err := embedded.ReadFile("assets/vendor/README.md")
		if err != nil || !strings.Contains(string(readme), want) {
			t.Errorf("its README says another hash: %v", err)
		}
	}
}

// TestSize holds what the first load takes: all files, compressed.
func TestSize(t *testing.T) {
	a, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, f := range a.files {
		total += len(f.gzipped)
	}
	if total > 60_000 {
		t.Errorf("the page has %d bytes, at most 60,000", total)
	}
	t.Logf("%d bytes in %d files", total, len(a.files))
}
