package web_test

import (
	"fmt"
	"testing"
)

// views are all pages, with what each shows when it is complete.
var views = []struct{ name, path, shows string }{
	{"pool", "/", "Look at this"},
	{"jobs", "/jobs", "echo held"},
	{"jobs-failed", "/jobs?sel=:failed", "failed"},
	{"job-log", "/jobs/%log%", "ready"},
	{"job-failed", "/jobs/%failed%", "exited with code 1"},
	{"job-waiting", "/jobs/%waiting%", "It has not run yet"},
	{"job-blocked", "/jobs/%blocked%", "waiting, blocked"},
	{"job-given", "/jobs/%given%", "gpu=0,1"},
	{"matrices", "/matrices", "sleepers"},
	{"matrix-cells", "/matrices/block", "Across"},
	{"matrix-heat", "/matrices/rates/heat?metric=loss", "nats"},
	{"matrix-table", "/matrices/rates/table", "DEPTH"},
	{"matrix-plot", "/matrices/rates/plot", "95 % confidence"},
	{"timeline", "/timeline?hours=1", "attempts"},
	{"machines", "/machines", "local:gold"},
	{"machine", "/machines/local%3Ared", "Slots"},
	{"machine-gpus", "/machines/local%3Agold", "Given out"},
	{"events", "/events", "matrix.submitted"},
}

// TestViews looks at every page in light and dark, wide and on a phone: each shows what it is for,
// has no error and no violation of accessibility, and doesn't scroll sideways, nor at twice the
// size or on paper.
func TestViews(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.night()
	tab := newBrowser(t).tab()
	replace := map[string]string{
		"/jobs/%log%":     "/jobs/" + s.newest("class=bench:done"),
		"/jobs/%failed%":  "/jobs/" + s.newest("%block:failed"),
		"/jobs/%waiting%": "/jobs/" + s.newest("class=far:waiting"),
		"/jobs/%blocked%": "/jobs/" + s.newest("class=bench:waiting"),
		"/jobs/%given%":   "/jobs/" + s.newest("@trained"),
	}
	for _, v := range views {
		if path := replace[v.path]; path != "" {
			v.path = path
		}
		for _, dark := range []bool{false, true} {
			tab.looks(1280, 900, dark)
			tab.open(s, v.path)
			tab.sees(v.shows)
			tab.until(`!document.body.innerText.includes("Loading…")`)
			tab.shot(
				fmt.Sprintf("%s-%v", v.name, map[bool]string{false: "light", true: "dark"}[dark]),
			)
			tab.audit(fmt.Sprintf("%s, dark %v", v.name, dark))
		}
		tab.looks(375, 800, false)
		tab.until("innerWidth === 375")
		tab.sees(v.shows)
		tab.shot(v.name + "-phone")
		tab.fits(v.name+" on a phone", 375)
		tab.looks(640, 450, false) // 1280 by 900, twice as large
		tab.until("innerWidth === 640")
		tab.fits(v.name+" at 200 %", 640)
		tab.printed(func() {
			tab.sees(v.shows)
			tab.until(`!document.querySelector("header .views").checkVisibility()`)
			tab.fits(v.name+" on paper", 640)
			tab.shot(v.name + "-paper")
		})
	}
	tab.quiet()
}

// manyViews are those that have to stay light with a million jobs. The map of a matrix is a byte a
// cell, which compress to next to nothing as long as the cells are alike.
var manyViews = []struct{ path, shows string }{
	{"/", "1,000,000 waiting"},
	{"/jobs", "I=1000 J=100"},
	{"/jobs?sel=class=far:waiting", "I=1000 J=100"},
	{"/jobs?sel=:failed", "No job matches"},
	{"/jobs?before=500000", "echo"},
	{"/jobs/5", "It has not run yet"},
	{"/matrices", "many9"},
	{"/matrices/many3", "Across"},
	{"/machines", "No machines yet"},
	{"/timeline", "nothing has run"},
	{"/events", "matrix.submitted"},
}

// TestAMillion: no view fetches more when there are a million jobs.
func TestAMillion(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 10 {
		s.J(t, "matrix", "add", "--name", fmt.Sprintf("many%d", i), "far", "echo {I} {J}", "",
			"I=1..1000", "J=1..100")
	}
	tab := newBrowser(t).tab()
	for _, v := range manyViews {
		tab.open(s, v.path)
		tab.sees(v.shows)
		tab.until(`!document.body.innerText.includes("Loading…")`)
		fetched := eval[int](tab, `performance.getEntriesByType("resource")
			.filter((r) => r.name.includes("/api/") && !r.name.includes("/api/live"))
			.reduce((sum, r) => sum + r.transferSize, 0)`)
		t.Logf("%s: %d bytes", v.path, fetched)
		if fetched > 50_000 || fetched == 0 {
			t.Errorf("%s fetches %d bytes", v.path, fetched)
		}
	}
	tab.quiet()
}
