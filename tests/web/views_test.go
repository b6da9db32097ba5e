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
// has no error and no violation of accessibility, and doesn't scroll sideways.
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
		if wide := eval[int](tab, "document.documentElement.scrollWidth"); wide > 375 {
			t.Errorf("%s is %d wide on a phone", v.name, wide)
		}
	}
	tab.quiet()
}
