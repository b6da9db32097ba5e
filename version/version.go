// Package version says which version of the program this is.
package version

import (
	"runtime"
	"runtime/debug"
	"time"
)

// A release sets these when it is built: `go run ./release`.
var (
	number = "" // 1.2.0
	commit = ""
	date   = "" // of the commit, RFC 3339
)

// Info has what is known of this build.
type Info struct {
	Version  string    `json:"version"`            // a release's number, or "devel" with the commit
	Commit   string    `json:"commit,omitempty"`   // in full; "" when it was built outside a checkout
	Modified bool      `json:"modified,omitempty"` // the checkout had changes
	Date     time.Time `json:"date,omitzero"`      // of the commit; zero when unknown
	Go       string    `json:"go"`
	Platform string    `json:"platform"` // linux/amd64
}

// String is the module's version, or the commit that the program was built from.
func String() string { return Of().Version }

// Of is this program's.
func Of() Info {
	i := Info{Version: number, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" +
		runtime.GOARCH}
	i.Date, _ = time.Parse(time.RFC3339, date) // without one it stays zero
	info, ok := debug.ReadBuildInfo()
	if !ok {
		if i.Version == "" {
			i.Version = "unknown"
		}
		return i
	}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && i.Commit == "":
			i.Commit = setting.Value
		case setting.Key == "vcs.modified":
			i.Modified = setting.Value == "true"
		case setting.Key == "vcs.time" && i.Date.IsZero():
			i.Date, _ = time.Parse(time.RFC3339, setting.Value)
		}
	}
	if i.Version == "" {
		i.Version = i.unnumbered(info.Main.Version)
	}
	return i
}

// unnumbered is the version of a build that is no release: the module's, or the commit's.
func (i Info) unnumbered(module string) string {
	switch {
	case module != "" && module != "(devel)":
		return module
	case i.Commit == "":
		return "devel"
	case i.Modified:
		return "devel-" + i.Commit[:min(12, len(i.Commit))] + "+dirty"
	}
	return "devel-" + i.Commit[:min(12, len(i.Commit))]
}
