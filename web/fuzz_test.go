package web

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"jobserver/api"
	"jobserver/live"
	"jobserver/tests/budget"
)

// fuzzed is a page without a network, over a daemon that has one of each thing.
type fuzzed struct {
	http.Handler
	fake  *fake
	token string
}

const fuzzHost = "127.0.0.1:1"

func newFuzzed(f *testing.F, readOnly bool) *fuzzed {
	f.Helper()
	d := &fake{args: map[string]any{}, log: []byte("\x1b[31mlog\x1b[0m <b>\n")}
	follower := live.New(d, live.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); follower.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-ended })
	if _, _, err := follower.Next(ctx, 0); err != nil {
		f.Fatal(err)
	}
	p := &fuzzed{fake: d, token: NewToken()}
	var err error
	p.Handler, err = Handler(Options{
		Follower: follower, Token: p.token, ReadOnly: readOnly, Name: "lab", Version: "test",
		Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.Fatal(err)
	}
	return p
}

// ask gives the answer to a request of the page's, and what the daemon was asked for it.
func (p *fuzzed) ask(method, path, query, body string) (*httptest.ResponseRecorder, []string) {
	p.fake.mu.Lock()
	p.fake.calls, p.fake.args = nil, map[string]any{}
	p.fake.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if path == "/api/live" {
		cancel() // who follows leaves at once
	}
	raw, _ := url.PathUnescape(path)
	r := (&http.Request{
		Method: method, Host: fuzzHost, Body: http.NoBody, ProtoMajor: 1, ProtoMinor: 1,
		URL: &url.URL{Path: raw, RawPath: path, RawQuery: query},
		Header: http.Header{
			"Authorization": {"Bearer " + p.token}, "Content-Type": {"application/json"},
		},
	}).WithContext(ctx)
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	p.fake.mu.Lock()
	defer p.fake.mu.Unlock()
	return w, slices.Clone(p.fake.calls)
}

// sound fails for an answer that no page may get.
func (p *fuzzed) sound(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	h, body := w.Header(), w.Body.Bytes()
	switch w.Code {
	case 200, 307, 400, 403, 404, 405, 409:
	default:
		t.Errorf("status %d: %s", w.Code, body)
	}
	if h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" ||
		len(h["Set-Cookie"]) > 0 || strings.Contains(string(body), p.token) {
		t.Errorf("the policy, a cookie or the token: %v", h)
	}
	if to := h.Get("Location"); to != "" && (to[0] != '/' || strings.HasPrefix(to, "//")) {
		t.Errorf("it leads to %q", to)
	}
	switch kind, _, _ := strings.Cut(h.Get("Content-Type"), ";"); kind {
	case "application/json":
		if !json.Valid(body) || bytes.ContainsAny(body, "<>") {
			t.Errorf("no JSON, or markup in it: %q", body)
		}
	case "image/svg+xml":
		for d := xml.NewDecoder(bytes.NewReader(body)); ; {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if start, ok := token.(xml.StartElement); err != nil || ok &&
				strings.EqualFold(start.Name.Local, "script") {
				t.Fatalf("a plot with %v, %v: %s", token, err, body)
			}
		}
	case "text/html":
		if w.Code == 200 && !bytes.Contains(body, []byte(`<script type="module"`)) {
			t.Errorf("a page that isn't ours: %q", body)
		}
	}
}

// FuzzSelectorBox types into the box of selectors: all words come to the daemon as they were typed,
// for the list, for why, and for a change of all that match.
func FuzzSelectorBox(f *testing.F) {
	for _, seed := range []string{
		"", ":failed", " class=bench  :done\t17 ", "%rates:failed @tag 3..9", "last~2", "it's",
		"</script>", "a;b&c=d%zz+e", "\x00\xff\u202e\u00a0x\u2028y", "ſ", "#17?x=y",
	} {
		f.Add(seed)
	}
	p := newFuzzed(f, false)
	f.Fuzz(func(t *testing.T, text string) {
		defer budget.Hold(t, 4<<20+512*len(text))()
		words := strings.FieldsFunc(text, unicode.IsSpace)
		query := url.Values{"sel": {text}}.Encode()
		for _, path := range []string{"/api/jobs", "/api/why"} {
			w, _ := p.ask("GET", path, query, "")
			p.sound(t, w)
			if (w.Code == 200) != utf8.ValidString(text) {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
			if w.Code != 200 {
				return
			}
			list, _ := p.fake.args["ListJobs"].(*api.ListJobsArgs)
			why, _ := p.fake.args["WhyMany"].(*api.WhyManyArgs)
			var got []string
			switch {
			case list != nil:
				got = list.Selectors
			case why != nil:
				got = why.Selectors
			default:
				continue // the same was asked just before
			}
			if !slices.Equal(got, words) {
				t.Errorf("%s: %q came to the daemon, %q was typed", path, got, words)
			}
		}
		body, err := json.Marshal(change{Op: api.OpCancel, Selectors: words, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		w, _ := p.ask("POST", "/api/jobs", "", string(body))
		p.sound(t, w)
		if (w.Code == 200) != (len(words) > 0) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code == 200 {
			args := p.fake.args[api.ChangeJobs].(*api.ChangeJobsArgs)
			if !slices.Equal(args.Selectors, words) || !args.DryRun {
				t.Errorf("%+v, %q was typed", args, words)
			}
		}
	})
}

// fuzzPaths are all addresses of the API, where ID stands for what is fuzzed.
var fuzzPaths = []string{
	"/api/state", "/api/jobs", "/api/jobs/ID", "/api/jobs/ID/why", "/api/why", "/api/machines",
	"/api/resources", "/api/matrices", "/api/matrices/ID", "/api/matrices/ID/table",
	"/api/matrices/ID/cell", "/api/timeline", "/api/events", "/api/live", "/api/jobs/ID/log",
	"/api/matrices/ID/map", "/api/matrices/ID/plot.svg", "/api/machines/ID", "/ID", "/api/ID",
}

// FuzzQueries asks for everything that can be read, with any query: the answer is one that a page
// understands, and nothing is changed.
func FuzzQueries(f *testing.F) {
	for i := range fuzzPaths {
		f.Add(uint8(i), "17", "")
	}
	for _, seed := range []struct {
		path      uint8
		id, query string
	}{
		{1, "", "sel=:failed&before=100&limit=200"}, {1, "", "limit=0&limit=-1"},
		{1, "", "sel=%zz"}, {1, "", "sel=a;b"}, {5, "", "addr=local%3Ared&class=%ff"},
		{9, "1", "rows=RATE&cols=DEPTH&cell=loss"}, {9, "1", "cell=mean(loss),n"},
		{9, "rates", "rows=,&cols=,,&cell=,"}, {10, "1", "cell=1"},
		{11, "", "from=1&to=253402300799999&columns=2000&spans=5000&clip=1"},
		{11, "", "from=-62135596800000&class=x&machine=y"}, {13, "", "v=18446744073709551615"},
		{14, "17", "attempt=2&step=1&stderr=1&offset=9&tail=1048576&max=1&wait=25"},
		{15, "1", "from=2&metric=loss"}, {16, "1", "x=RATE&y=loss&series=DEPTH&logx=1&logy=1"},
		{16, "%00", "x=<script>&y=%22"}, {18, "../web.go", ""}, {18, "/evil.example/..", ""},
	} {
		f.Add(seed.path, seed.id, seed.query)
	}
	p := newFuzzed(f, false)
	f.Fuzz(func(t *testing.T, path uint8, id, query string) {
		defer budget.Hold(t, 6<<20+512*(len(id)+len(query)))()
		at := fuzzPaths[int(path)%len(fuzzPaths)]
		w, calls := p.ask("GET", strings.ReplaceAll(at, "ID", url.PathEscape(id)), query, "")
		p.sound(t, w)
		for _, call := range calls {
			if strings.HasPrefix(call, "Change") && call != "Changes" {
				t.Errorf("a read asks for %s", call)
			}
		}
	})
}

// FuzzBodies sends bodies to everything that changes something: what the daemon is asked is what
// was said, of something that is named, with an id unless it is a trial; and never by a page that
// is read-only.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{
		`{"op":"cancel","selectors":["17"],"request":"0123456789abcdef"}`,
		`{"op":"drain","addrs":["local:red"],"request":"0123456789abcdef"}`,
		`{"op":"rerun","matrix":"rates","failed":true,"request":"0123456789abcdef"}`,
		`{"op":"rm","classes":["bench"],"force":true,"dry_run":true}`,
		`{"op":"hold","selectors":[],"dry_run":true}`, `{"op":"cancel","selectors":[""]}`,
		`{"OP":"cancel","op":"hold","selectors":["1"],"Dry_Run":true,"dry_run":false}`,
		`{"op":"cancel","selectors":["1"],"dry_run":true}{}`, `null`, `[]`, `{`, ``, `"`,
		`{"op":"cancel","selectors":["\ud800</script>"],"dry_run":true}`,
		`{"op":"cancel","dry_run":true}`, `[[[[[[[[[[[[[[[[`, `{"op":1}`, `{"op":"forget","selectors":null}`,
	} {
		for i := range uint8(3) {
			f.Add(i, seed)
		}
	}
	p, only := newFuzzed(f, false), newFuzzed(f, true)
	f.Fuzz(func(t *testing.T, path uint8, body string) {
		defer budget.Hold(t, 4<<20+512*len(body))()
		at := []string{"/api/jobs", "/api/machines", "/api/matrices"}[path%3]
		w, _ := only.ask("POST", at, "", body)
		only.sound(t, w)
		if w.Code != 403 || len(only.fake.args) > 0 {
			t.Errorf("a page that is read-only: %d, %v", w.Code, only.fake.args)
		}
		w, calls := p.ask("POST", at, "", body)
		p.sound(t, w)
		var asked string
		named, trial := false, false
		switch args := p.fake.args[strings.Join(calls, "")].(type) {
		case *api.ChangeJobsArgs:
			asked, named, trial = args.RequestID, len(args.Selectors) > 0, args.DryRun
		case *api.ChangeMachinesArgs:
			asked, named, trial = args.RequestID, len(args.Addrs)+len(args.Classes) > 0, args.DryRun
		case *api.ChangeMatrixArgs:
			asked, named, trial = args.RequestID, args.Matrix != "", args.DryRun
		}
		if len(calls) > 0 && (!named || !trial && (len(asked) < 16 || len(asked) > 64)) {
			t.Errorf("%q asks for %v", body, p.fake.args)
		}
		if (w.Code == 200) != (len(calls) == 1) {
			t.Errorf("%q: %d after %v", body, w.Code, calls)
		}
	})
}

// hostileCells are cells whose names and values anybody may have chosen.
func hostileCells(r *api.MatrixCellsReply) {
	r.Matrix = api.Matrix{ID: 1, Cells: 4, Vars: []api.Axis{
		{Name: "RATE", Values: []string{"0.1", "0.2"}},
		{Name: "DEPTH", Values: []string{"</text><script>alert(1)</script>", "\x1b\xff\u2028&"}},
	}}
	for i, v := range []float64{1, math.MaxFloat64, -math.MaxFloat64, math.MaxFloat64} {
		r.Cells = append(r.Cells, api.Cell{JID: uint64(i + 2), Status: "done", Machine: "red",
			Index: []uint32{uint32(i / 2), uint32(i % 2)}, Metrics: []api.Measurement{
				{Name: "loss", Value: v, Unit: "<b>"}, {Name: "]]>", Value: 2},
				{Name: "loss2", Value: math.MaxFloat64},
			}})
	}
}
