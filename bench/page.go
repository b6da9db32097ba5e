package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// page is a `jobserver web` over a daemon, a process of its own.
type page struct {
	cmd         *exec.Cmd
	addr, token string
	client      *http.Client
}

// openPage starts it.
func (d *daemon) openPage(ctx context.Context) (*page, error) {
	words := d.words("web", "--listen", "127.0.0.1:0")
	p := &page{cmd: exec.CommandContext(ctx, words[0], words[1:]...),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * viewers}}}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the page gives no address: %w", err), p.close())
	}
	p.addr, p.token, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "http://"),
		"/#token=")
	return p, nil
}

func (p *page) close() error {
	p.client.CloseIdleConnections()
	_ = p.cmd.Process.Kill() // it may have ended, which Wait tells
	if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState.ExitCode() != -1 {
		return fmt.Errorf("the page: %w", err)
	}
	return nil
}

// get asks for data as the page in a browser does, and gives how many bytes came.
func (p *page) get(ctx context.Context, path string) (int64, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+"/api/"+path, nil)
	if err != nil {
		return 0, err
	}
	ask.Header.Set("Authorization", "Bearer "+p.token)
	ask.Header.Set("Accept-Encoding", "gzip")
	reply, err := p.client.Do(ask)
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", path, reply.Status)
	}
	return io.Copy(io.Discard, reply.Body)
}

// asked is what a view in a browser asks for, and how often: while things happen, and while
// nothing does, where 0 is not at all. The pauses are those of web/assets.
type asked struct {
	path        string
	busy, quiet time.Duration
}

// pageViews are what ten viewers look at. job and matrix are ids of the history; the timelines are
// of the last hours, to the five seconds.
func pageViews(job, matrix uint64, now time.Time) [viewers][]asked {
	const second = time.Second
	to := now.Truncate(5 * second).Add(5 * second).UnixMilli()
	timeline := func(hours, spans int) string {
		from := to - int64(hours)*time.Hour.Milliseconds()
		return fmt.Sprintf("timeline?columns=1000&from=%d&to=%d&clip=1&spans=%d", from, to, spans)
	}
	list := []asked{{"jobs?limit=200", second / 2, 0}}
	pool := []asked{
		{"machines", 2 * second, 5 * second}, {"matrices", 2 * second, 0},
		{"resources", 2 * second, 0}, {"jobs?limit=12", second / 2, 0},
		{timeline(6, 0), 15 * second, time.Minute},
	}
	return [viewers][]asked{
		pool, pool, list, list,
		{{"jobs?limit=200&sel=:done", second / 2, 0}},
		{{"jobs?limit=200&sel=class=cluster:failed", second / 2, 0}},
		{{fmt.Sprintf("jobs/%d", job), second / 2, 0},
			{fmt.Sprintf("jobs/%d/why", job), 3 * second / 2, 0}},
		{{fmt.Sprintf("matrices/%d", matrix), second, 0},
			{fmt.Sprintf("matrices/%d/map", matrix), second, 0}},
		{{"machines", second, 5 * second}, {timeline(1, 3000), 5 * second, time.Minute}},
		{{"events", second, 0}},
	}
}

// watch lets the viewers look until stop is called, which says what went wrong. Each has the stream
// of changes open beside what it asks for.
func (p *page) watch(ctx context.Context, views [viewers][]asked, busy bool) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	var failed atomic.Pointer[error]
	look := func(path string, every time.Duration) {
		for {
			if _, err := p.get(ctx, path); err != nil && ctx.Err() == nil {
				failed.CompareAndSwap(nil, &err)
			}
			if every == 0 || pause(ctx, every) != nil {
				return
			}
		}
	}
	for _, view := range views {
		running.Go(func() { look("live", 0) })
		for _, a := range view {
			every := a.quiet
			if busy {
				every = a.busy
			}
			running.Go(func() { look(a.path, every) })
		}
	}
	return func() error {
		cancel()
		running.Wait()
		if err := failed.Load(); err != nil {
			return *err
		}
		return nil
	}
}
