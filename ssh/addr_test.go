package ssh

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

func TestParseAddr(t *testing.T) {
	for in, want := range map[string]Addr{
		"gpu3":                 {Host: "gpu3"},
		"me@gpu3":              {User: "me", Host: "gpu3"},
		"me@gpu3:2222":         {User: "me", Host: "gpu3", Port: 2222},
		"10.0.0.1:22":          {Host: "10.0.0.1", Port: 22},
		"a@corp.example@gpu3":  {User: "a@corp.example", Host: "gpu3"},
		"[::1]:22":             {Host: "::1", Port: 22},
		"[fe80::1%eth0]":       {Host: "fe80::1%eth0"},
		"fe80::1":              {Host: "fe80::1"},
		"me@[2001:db8::7]:222": {User: "me", Host: "2001:db8::7", Port: 222},
	} {
		got, err := ParseAddr(in)
		if err != nil || got != want {
			t.Errorf("ParseAddr(%q) = %s, %v", in, cmp.Diff(want, got), err)
		}
	}
	for _, in := range []string{"", "@gpu3", "me@", "gpu3:", "gpu3:0", "gpu3:65536", "gpu3:ssh",
		"gpu3:+22", "a:b:c", "[gpu3]:22", "[::1", "[::1]22",
		"[::1]:", "-oProxyCommand=id", "-l@gpu3", "a b", "a\nb", "a;b", "$(id)", "`id`", "a/b",
		"a*", "ünïx\x00"} {
		if got, err := ParseAddr(in); err == nil {
			t.Errorf("ParseAddr(%q) = %+v, want an error", in, got)
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"gpu3", "me@gpu3:2222", "[::1]:22", "fe80::1%eth0", "a@b@c", "-x",
		"[", "]:1", "%", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer budget.Hold(t, 1<<20+64*len(s))()
		a, err := ParseAddr(s)
		if err != nil {
			return
		}
		if a.Host[0] == '-' || a.User != "" && a.User[0] == '-' {
			t.Errorf("%q passes for an option", s)
		}
		again, err := ParseAddr(a.String())
		if err != nil || again != a {
			t.Errorf("%q is %+v, whose form %q is %+v (%v)", s, a, a.String(), again, err)
		}
	})
}

// TestHints: what a hint tells to run can be run.
func TestHints(t *testing.T) {
	for addr, want := range map[string]string{
		"gpu1": "ssh -v gpu1", "ann@gpu1": "ssh -v ann@gpu1",
		"ann@10.0.0.1:2222": "ssh -v -p 2222 ann@10.0.0.1", "[::1]:22": "ssh -v -p 22 ::1",
	} {
		if hint := (&DialError{Addr: addr}).Hint(); !strings.HasSuffix(hint, " "+want) {
			t.Errorf("%s: %s", addr, hint)
		}
	}
}
