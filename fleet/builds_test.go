package fleet

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

func TestGoTarget(t *testing.T) {
	for uname, want := range map[string]string{
		"Linux x86_64":                 "linux/amd64",
		"Linux aarch64":                "linux/arm64",
		"FreeBSD amd64":                "freebsd/amd64",
		"Linux riscv64":                "linux/riscv64",
		"Linux a_b":                    "linux/a_b",
		"":                             runtime.GOOS + "/" + runtime.GOARCH,
		"Linux":                        runtime.GOOS + "/" + runtime.GOARCH,
		"Linux ../x":                   "",
		"Linux x;reboot":               "",
		"Linux x.y":                    "",
		"Linux x-y":                    "",
		"Linux ARM":                    "",
		"Linux \x1b[1m":                "",
		"L/nux x86_64":                 "",
		"Linux x\u00e4x":               "",
		strings.Repeat("x", 40) + " y": "",
	} {
		goos, goarch, err := goTarget(uname)
		var missing *buildError
		if want == "" {
			if !errors.As(err, &missing) || missing.Hint() != "" ||
				strings.ContainsAny(err.Error(), "\x1b") {
				t.Errorf("of %q: %s, %s, %v", uname, goos, goarch, err)
			}
		} else if got := goos + "/" + goarch; got != want || err != nil {
			t.Errorf("of %q: %s, %v, want %s", uname, got, err, want)
		}
	}
}
