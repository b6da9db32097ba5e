package web_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"jobserver/api"
	"jobserver/web"
)

// press types keys as a user does, on what has the focus.
func (tab *tab) press(keys string) {
	tab.t.Helper()
	tab.do(chromedp.KeyEvent(keys))
}

// TestKeyboardAlone finds a job, looks at it, comes back, marks, and changes, without a mouse.
func TestKeyboardAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 3 {
		s.J(t, "add", "--hold", "far", fmt.Sprintf("echo held %d", i))
	}
	tab := newBrowser(t).tab()
	tab.open(s, "/")
	tab.sees("echo held 2")
	tab.press("2")
	tab.until(`location.pathname === "/jobs" && document.querySelectorAll("tbody tr").length === 3`)
	tab.press("jj")
	tab.until(`document.activeElement.dataset.jid === "2"`)
	tab.press(kb.Enter)
	tab.sees("It has not run yet")
	tab.sees("It is held")
	tab.press(kb.Escape)
	tab.until(`location.pathname === "/jobs" && document.querySelectorAll("tbody tr").length === 3`)
	tab.press("/")
	tab.until(`document.activeElement.name === "sel"`)
	tab.press(":held" + kb.Enter)
	tab.until(
		`location.search === "?sel=:held" && document.querySelectorAll("tbody tr").length === 3`,
	)
	tab.press("j ")
	tab.sees("1 marked")
	tab.press("k u")
	tab.sees("Unhold")
	tab.sees("change")
	// The focus is on what changes nothing.
	tab.until(`document.activeElement.textContent === "Keep as it is"`)
	tab.press(kb.Enter)
	tab.until(`!document.querySelector("dialog[open]")`)
	if n := s.held(t); n != 3 {
		t.Errorf("%d are held, though nothing was confirmed", n)
	}
	tab.press("u")
	tab.sees("1 job matches, and it changes")
	tab.press("y")
	tab.sees("1 job released")
	tab.until(`document.querySelectorAll("tbody tr").length === 2`)
	tab.press("?")
	tab.sees("the views")
	tab.audit("the help")
	tab.press(kb.Escape)
	tab.until(`!document.querySelector("dialog[open]")`)
	tab.quiet()
}

// held is how many jobs are.
func (s *site) held(t *testing.T) int {
	t.Helper()
	status, err := api.Call[api.Status](t.Context(), s.api, "Status", &api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	return status.Jobs.Held
}

// TestPauseOnThePage: what runs is paused and goes on, from the list by keys and on the job's own
// page by its buttons, and is canceled while it is paused.
func TestPauseOnThePage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.J(t, "machine", "add", "local:a", "bench")
	s.J(t, "add", "bench", "sleep 1000")
	s.J(t, "wait", "--status", "running", "1")
	tab := newBrowser(t).tab()
	tab.open(s, "/jobs?sel=:running")
	tab.sees("sleep 1000")
	tab.press("jp")
	tab.sees("1 job matches, and it changes")
	tab.press("y")
	tab.sees("paused")
	tab.press("P")
	tab.sees("jobserver job continue 1")
	tab.press("y")
	tab.until(`!document.querySelector("tbody").innerText.includes("paus")`)
	tab.open(s, "/jobs/1")
	button := func(text string) string {
		return fmt.Sprintf(`[...document.querySelectorAll(".head button")].filter(`+
			`(b) => b.textContent === %q).length === 1`, text)
	}
	tab.until(button("Pause…"))
	tab.press("p")
	tab.sees("and it changes")
	tab.press("y")
	tab.until(button("Continue…"))
	tab.audit("a paused job")
	tab.press("c")
	tab.sees("and it changes")
	tab.press("y")
	tab.sees("canceled")
	tab.until(button("Restart…"))
	tab.quiet()
}

// TestManyAreTyped: what concerns many is done only when their number has been typed, and once.
func TestManyAreTyped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.J(t, "matrix", "add", "--name", "many", "far", "echo {I}", "", "I=1..30")
	tab := newBrowser(t).tab()
	tab.open(s, "/jobs?sel=%25many")
	tab.sees("All that match")
	tab.do(
		chromedp.Evaluate[chromedp.Void](
			`[...document.querySelectorAll(".head .actions button")].find((b) => b.textContent.startsWith("Cancel")).click()`,
		),
	)
	tab.sees("30 jobs match, and all change.")
	tab.sees("jobserver job cancel %many")
	tab.audit("the question")
	tab.press("y")
	tab.until(`document.querySelector("dialog .danger").disabled`)
	tab.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".typed input").focus()`))
	tab.press("30")
	tab.until(`!document.querySelector("dialog .danger").disabled`)
	tab.do(
		chromedp.Evaluate[chromedp.Void](
			`const b = document.querySelector("dialog .danger"); b.click(); b.click()`,
		),
	)
	tab.sees("30 jobs canceled")
	tab.quiet()
}

// TestReadOnlyPage offers nothing that changes anything.
func TestReadOnlyPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *web.Options) { o.ReadOnly = true })
	s.J(t, "add", "--hold", "far", "echo held")
	tab := newBrowser(t).tab()
	tab.open(s, "/jobs?sel=:held")
	tab.sees("echo held")
	tab.sees("read-only")
	if n := eval[int](
		tab,
		`document.querySelectorAll(".actions button, input[type=checkbox]").length`,
	); n != 0 {
		t.Errorf("%d things to change something", n)
	}
	tab.press("ju")
	tab.sees("This page can change nothing")
}

// TestTenTabs: ten tabs of a browser all live, over one stream; when the one that reads it is
// closed, another one goes on. The daemon sees one follower.
func TestTenTabs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := newBrowser(t)
	var tabs []*tab
	for range 10 {
		tab := b.tab()
		if len(tabs) == 0 {
			tab.open(s, "/jobs")
		} else { // the token comes from a sibling
			tab.goes(s.base + "/jobs")
		}
		tab.sees("There are no jobs yet")
		tabs = append(tabs, tab)
	}
	locks := eval[string](
		tabs[3],
		`navigator.locks.query().then((l) => l.held.length + " " + l.pending.length)`,
	)
	if locks != "1 9" {
		t.Errorf("streams that are read, and that wait: %s", locks)
	}
	s.J(t, "add", "--hold", "far", "echo first")
	for i, tab := range tabs {
		tab.sees("echo first")
		if hash := eval[string](
			tab,
			"location.href + document.cookie",
		); strings.Contains(
			hash,
			s.token,
		) {
			t.Errorf("tab %d still shows the token: %s", i, hash)
		}
	}
	s.calls.mu.Lock()
	waiting := s.calls.calls["Changes"]
	s.calls.mu.Unlock()
	if waiting > 12 {
		t.Errorf(
			"the daemon was asked %d times for changes, by ten tabs and for one change",
			waiting,
		)
	}
	if err := chromedp.Do(
		tabs[0].ctx,
		func(ctx context.Context, target *chromedp.Target) (none chromedp.Void, err error) {
			return none, target.Call(ctx, "Page.close", nil, nil)
		},
	); err != nil {
		t.Fatal(err)
	}
	s.J(t, "add", "--hold", "far", "echo second")
	for _, tab := range tabs[1:] {
		tab.sees("echo second")
	}
}

// TestTheDaemonIsKilled: the page says so, keeps what it showed, and is right again by itself.
func TestTheDaemonIsKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.J(t, "add", "--hold", "far", "echo before")
	tab := newBrowser(t).tab()
	tab.open(s, "/jobs")
	tab.sees("echo before")
	tab.do(
		chromedp.Evaluate[chromedp.Void](
			`window.row = document.querySelector("tbody tr"); window.row.focus()`,
		),
	)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	tab.sees("Reconnecting.")
	tab.sees("echo before")
	tab.audit("a page without a daemon")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.J(t, "add", "--hold", "far", "echo after")
	tab.sees("echo after")
	tab.until(`!document.body.innerText.includes("Reconnecting.")`)
	// The row that had the focus is the same element, and has it still.
	if !eval[bool](tab, `window.row.isConnected && document.activeElement === window.row`) {
		t.Error("the row was made anew, or has lost the focus")
	}
}
