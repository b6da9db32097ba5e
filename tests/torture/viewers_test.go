package torture_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// viewers look at one page, a process of its own, while everything breaks: they read, stall and
// vanish.
type viewers struct {
	l     *load
	page  *exec.Cmd
	addr  string
	token string
	ended chan error

	mu    sync.Mutex
	looks int
}

const (
	viewersCount = 10
	// pageMemory is the most that the page may take, in bytes: 40 MB and what Go's collector has
	// not given back.
	pageMemory = 80 << 20
)

// watchers starts the page. It ends with the test, if not before.
func (l *load) watchers(t testing.TB) *viewers {
	t.Helper()
	v := &viewers{l: l, ended: make(chan error, 1)}
	v.page = exec.Command(l.w.Binary, "--socket", l.w.Socket, "web", "--listen", "127.0.0.1:0")
	v.page.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := v.page.StdoutPipe()
	must(t, err)
	must(t, v.page.Start())
	go func() { v.ended <- v.page.Wait() }()
	t.Cleanup(func() { v.end(t) })
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	var ok bool
	v.addr, v.token, ok = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "http://"),
		"/#token=")
	if !ok {
		t.Fatalf("the page has no address: %q", line)
	}
	return v
}

// end ends the page.
func (v *viewers) end(t testing.TB) {
	t.Helper()
	if v.ended == nil {
		return
	}
	_ = v.page.Process.Signal(syscall.SIGINT) // it may have ended, which Wait tells
	select {
	case err := <-v.ended:
		if state := v.page.ProcessState; state.ExitCode() != 130 && state.ExitCode() != 0 {
			t.Errorf("the page ended with %v", err)
		}
	case <-time.After(patience()):
		t.Error("the page doesn't end")
		_ = v.page.Process.Kill()
		<-v.ended
	}
	v.ended = nil
}

// run lets them look until ctx ends.
func (v *viewers) run(ctx context.Context, rng *rand.Rand) {
	var running sync.WaitGroup
	for range viewersCount {
		own := rand.New(rand.NewPCG(rng.Uint64(), 5))
		running.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				v.look(ctx, client, own)
			}
		})
	}
	running.Wait()
}

// viewed lists what pages ask for.
var viewed = []string{
	"state", "live", "live", "jobs?limit=200", "jobs?limit=50&sel=:failed", "machines", "matrices",
	"timeline?columns=300", "events", "jobs/1/log?wait=5", "jobs/2/why", "resources",
}

// look asks for one thing, reads some of it or all, perhaps after a pause, and goes away.
func (v *viewers) look(ctx context.Context, client *http.Client, rng *rand.Rand) {
	what := viewed[rng.IntN(len(viewed))]
	if rng.IntN(8) == 0 {
		v.vanish(ctx, what, rng)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rng.Int64N(int64(2*time.Second))))
	defer cancel()
	reply, err := v.get(ctx, client, what)
	if err != nil {
		if ctx.Err() == nil {
			v.l.fault("the page doesn't answer: %v", err)
		}
		return
	}
	defer reply.Body.Close()
	if reply.StatusCode == http.StatusUnauthorized || reply.StatusCode == http.StatusForbidden {
		v.l.fault("the page refuses %s: %s", what, reply.Status)
	}
	if rng.IntN(3) == 0 { // a tab in the background
		sleep(ctx, time.Duration(rng.Int64N(int64(time.Second))))
	}
	_, _ = io.CopyN(io.Discard, reply.Body, rng.Int64N(64<<10)) // what there is, until it leaves
	v.mu.Lock()
	v.looks++
	v.mu.Unlock()
}

func (v *viewers) get(
	ctx context.Context, client *http.Client, what string,
) (*http.Response, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.addr+"/api/"+what, nil)
	if err != nil {
		return nil, err
	}
	ask.Header.Set("Authorization", "Bearer "+v.token)
	return client.Do(ask)
}

// vanish begins a request, and never reads the answer.
func (v *viewers) vanish(ctx context.Context, what string, rng *rand.Rand) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", v.addr)
	if err != nil {
		return
	}
	defer c.Close()
	text := fmt.Sprintf("GET /api/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
		what, v.addr, v.token)
	if _, err := io.WriteString(c, text[:rng.IntN(len(text)+1)]); err == nil {
		sleep(ctx, time.Duration(rng.Int64N(int64(time.Second))))
	}
}

// verify checks that the page is right again by itself, and that what was left hanging holds
// nothing.
func (v *viewers) verify(t testing.TB) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	pid := v.page.Process.Pid
	resident := residentOf(t, pid, "VmRSS")
	eventually(t, "the page shows what there is", func() bool {
		reply, err := v.get(t.Context(), client, "state")
		if err != nil {
			return false
		}
		defer reply.Body.Close()
		var state struct {
			Online bool `json:"online"`
		}
		return json.NewDecoder(reply.Body).Decode(&state) == nil && state.Online
	})
	// Its listener, its connections to the daemon, what the runtime has, and one of ours.
	eventually(t, "the page lets go of viewers that are gone", func() bool {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		return err == nil && len(open) <= 16
	})
	if resident > pageMemory {
		t.Errorf("the page takes %d bytes", resident)
	}
	count(t, v.looks, "looks at the page")
	v.end(t)
}
