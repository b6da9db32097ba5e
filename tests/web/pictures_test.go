package web_test

import (
	"bytes"
	"flag"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

var update = flag.Bool("update", false, "make the pictures of docs/live.md and README.md anew")

// pictures lists those of the documentation, with what is done before each is taken.
var pictures = []struct {
	name, path, shows string
	dark              bool
	do                string
	morning           bool // after a night; else while the pool is at work
}{
	{
		name:  "pool",
		path:  "/",
		shows: "jobs failed",
		do: `[...document.querySelectorAll("button")]
			.find((b) => b.textContent.startsWith("What made"))?.click()`,
		morning: true,
	},
	{name: "timeline", path: "/timeline?hours=24", shows: "attempts", dark: true, morning: true},
	{name: "cells", path: "/matrices/block", shows: "Across"},
	{name: "plot", path: "/matrices/rates/plot", shows: "95 % confidence", dark: true},
	{name: "log", path: "/jobs/%log%", shows: "epoch 3"},
}

// TestPictures holds that the documentation shows the pictures that are here, and no other; with
// -update it takes them of a pool at work.
func TestPictures(t *testing.T) {
	t.Parallel()
	if *update {
		takePictures(t)
	}
	var have []string
	for _, p := range pictures {
		file, err := os.ReadFile(filepath.Join("../../docs/pictures", p.name+".png"))
		if err != nil {
			t.Error(err)
			continue
		}
		if c, err := png.DecodeConfig(bytes.NewReader(file)); err != nil || c.Width < 1000 {
			t.Errorf("%s: %v, %d wide", p.name, err, c.Width)
		}
		have = append(have, p.name)
	}
	var shown []string
	for _, doc := range []string{"../../docs/live.md", "../../README.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(
			`pictures/([a-z]+)\.png`,
		).FindAllStringSubmatch(string(text), -1) {
			shown = append(shown, m[1])
		}
	}
	slices.Sort(have)
	slices.Sort(shown)
	if shown = slices.Compact(shown); !slices.Equal(have, shown) {
		t.Errorf("there are %v, and shown are %v", have, shown)
	}
}

func takePictures(t *testing.T) {
	t.Helper()
	s := newSite(t)
	s.night()
	s.J(
		t,
		"matrix",
		"add",
		"--name",
		"train",
		"--max-failures",
		"0",
		"bench",
		`sleep $(awk 'BEGIN{srand({N});print 0.4+1.5*rand()}'); [ "$JOBSERVER_MACHINE" != local:blue ] || [ {N} -lt 40 ] || exit 1`,
		"",
		"N=1..110",
	)
	s.J(
		t,
		"add",
		"bench",
		`printf '\033[2m2026-03-14 02:11:07\033[0m loading 3 shards\n'; for i in 1 2 3; do printf "\033[1mepoch $i\033[0m  loss \033[36m0.%s\033[0m  \033[32maccuracy 0.9%s\033[0m\n" $((9-i*2))1 $i; done; printf '\033[33mwarning:\033[0m learning rate fell below 1e-5\n'`,
	)
	s.await("last", 1)
	after := morning(t)
	tab := newBrowser(t).tab()
	if err := os.MkdirAll("../../docs/pictures", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures {
		if p.path == "/jobs/%log%" {
			p.path = "/jobs/" + s.newest("class=bench:done")
		}
		tab.looks(1200, 750, p.dark)
		if p.morning {
			tab.open(after, p.path)
		} else {
			tab.open(s, p.path)
		}
		tab.sees(p.shows)
		tab.until(`!document.body.innerText.includes("Loading…")`)
		if p.do != "" {
			tab.do(chromedp.Evaluate[chromedp.Void](p.do))
			tab.until(
				`!document.body.innerText.includes("Looking…") && document.querySelector(".groups")`,
			)
		}
		png := tab.picture()
		if err := os.WriteFile(
			filepath.Join("../../docs/pictures", p.name+".png"),
			png,
			0o644,
		); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(os.Stderr, "%s: %d kB\n", p.name, len(png)/1000)
	}
}
