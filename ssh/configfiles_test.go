package ssh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writeOld writes a file, and gives it and its directory a time at which
// nothing else is written.
func writeOld(t *testing.T, file, text string) {
	t.Helper()
	write(t, file, text)
	old := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, name := range []string{file, filepath.Dir(file)} {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

func resolved(t *testing.T, d *Dialer) *config {
	t.Helper()
	c, err := d.resolve(t.Context(), Addr{Host: "a"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestResolveAgain: the answer is kept for as long as only the files decide
// about it, and for configTTL otherwise.
func TestResolveAgain(t *testing.T) {
	for name, c := range map[string]struct {
		text, included string
		program        string
		lasting        bool
	}{
		"plain": {text: "Host a\n  Port 1\n# Match exec\nHost match\n  User b\n",
			lasting: true},
		"included": {text: "Host a\nInclude DIR/in*\n", included: "Port=1", lasting: true},
		"nested": {text: "Include DIR/included", included: "Include DIR/none DIR/none*",
			lasting: true},
		"home": {text: "Include ~/no-such-file-of-jobserver no-such-file-of-jobserver",
			lasting: true},
		"match":            {text: "Match host b\n  Port 1"},
		"quoted":           {text: " \"MATCH\" host b"},
		"included match":   {text: "Include=DIR/included", included: "\tmatch = all\n"},
		"canonicalization": {text: "CanonicalizeHostname no\n"},
		"aliases":          {text: "CanonicalizePermittedCNAMEs none\n"},
		"deep":             {text: "Include DIR/included", included: "Host b\nInclude DIR/a\n"},
		"quotes":           {text: "Include \"DIR/included\"\n"},
		"class":            {text: "Include DIR/include[!e]\n"},
		"directories":      {text: "Include DIR/*/config\n"},
		"user":             {text: "Include ~nobody/no-such-file-of-jobserver\n"},
		"no client":        {text: "Port 1\n", program: "/nonexistent/ssh"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := func(text string) string { return strings.ReplaceAll(text, "DIR", dir) }
			main := filepath.Join(dir, "config")
			writeOld(t, filepath.Join(dir, "included"), in(c.included)+"\n")
			// A chain that is longer than what is followed.
			for _, link := range []string{"ab", "bc", "cd", "de"} {
				writeOld(t, filepath.Join(dir, link[:1]), in("Include DIR/"+link[1:]+"\n"))
			}
			writeOld(t, main, in(c.text)+"\n")
			synctest.Test(t, func(t *testing.T) {
				d := NewDialer(Options{ConfigFile: main, SSHProgram: c.program})
				first := resolved(t, d)
				time.Sleep(configTTL - time.Second)
				if resolved(t, d) != first {
					t.Error("asked again before configTTL was over")
				}
				time.Sleep(2 * time.Second)
				if kept := resolved(t, d) == first; kept != c.lasting {
					t.Errorf("after configTTL: kept is %v, want %v", kept, c.lasting)
				}
			})
		})
	}
}

// TestResolveSeesIncludes: a change in any file is seen at once.
func TestResolveSeesIncludes(t *testing.T) {
	dir := t.TempDir()
	main, more := filepath.Join(dir, "config"), filepath.Join(dir, "more")
	if err := os.Mkdir(more, 0o700); err != nil {
		t.Fatal(err)
	}
	writeOld(t, main, "Include "+filepath.Join(more, "*.conf")+"\n")
	writeOld(t, filepath.Join(more, "b.conf"), "Include "+filepath.Join(dir, "nested")+"\n")
	d := NewDialer(Options{ConfigFile: main})
	want := func(what string, port int) {
		t.Helper()
		if c := resolved(t, d); c.port != port {
			t.Errorf("%s: port %d, want %d", what, c.port, port)
		}
	}
	want("nothing there", 22)
	found := d.files
	want("nothing new", 22)
	if d.files != found {
		t.Error("the files were read again without a change")
	}
	write(t, filepath.Join(dir, "nested"), "Port 1\n")
	want("a file that was missing", 1)
	write(t, filepath.Join(dir, "nested"), "Port 22222\n")
	want("another content", 22222)
	write(t, filepath.Join(dir, "new"), "Port 33333\n")
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "nested")); err != nil {
		t.Fatal(err)
	}
	want("another file in its place", 33333)
	write(t, filepath.Join(more, "a.conf"), "Port 4\n")
	want("a file added to a pattern", 4)
	kept := resolved(t, d)
	write(t, filepath.Join(more, "README"), "Port 5\n")
	if resolved(t, d) != kept {
		t.Error("asked again for a file that is not included")
	}
	if err := os.Remove(filepath.Join(more, "a.conf")); err != nil {
		t.Fatal(err)
	}
	want("a file taken from a pattern", 33333)
}

// TestResolveAfterChange: a file that changed a moment ago may change again
// without looking different, so the answer isn't kept for good.
func TestResolveAfterChange(t *testing.T) {
	main := filepath.Join(t.TempDir(), "config")
	synctest.Test(t, func(t *testing.T) {
		writeOld(t, main, "Port 1\n")
		now := time.Now()
		if err := os.Chtimes(main, now, now); err != nil {
			t.Fatal(err)
		}
		d := NewDialer(Options{ConfigFile: main})
		first := resolved(t, d)
		time.Sleep(configTTL + time.Second)
		second := resolved(t, d)
		time.Sleep(configTTL + time.Second)
		if first == second || resolved(t, d) != second {
			t.Error("want it to be asked for a second time, and not for a third")
		}
	})
}
