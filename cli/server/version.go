package server

import (
	"context"
	"fmt"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/version"
	"jobserver/view"
)

// Version is `version`.
type Version struct{}

// Run prints what is known of this program.
func (c *Version) Run(_ context.Context, e *cli.Env) error {
	v := version.Of()
	commit, date := v.Commit, ""
	if v.Modified && commit != "" {
		commit += " with changes"
	}
	if !v.Date.IsZero() {
		date = v.Date.UTC().Format(time.DateOnly)
	}
	if e.ForScripts() {
		return cli.List(e, []build{{v, api.MinProtocol, api.MaxProtocol}},
			buildColumns(commit, date))
	}
	fmt.Fprintf(e.Stdout, "jobserver %s\n", v.Version)
	out := show.Fields{W: e.Stdout, Width: 9}
	out.Add("commit", commit)
	out.Add("date", date)
	out.Add("go", v.Go+" "+v.Platform)
	out.Add("protocol", protocols())
	return nil
}

// build has what a script is told.
type build struct {
	version.Info
	MinProtocol int `json:"min_protocol"`
	MaxProtocol int `json:"max_protocol"`
}

func buildColumns(commit, date string) []view.Column[build] {
	id := show.OnlyCSV("version", func(b build) string { return b.Version })
	id.IsID = true
	return []view.Column[build]{
		id,
		show.OnlyCSV("commit", func(build) string { return commit }),
		show.OnlyCSV("date", func(build) string { return date }),
		show.OnlyCSV("go", func(b build) string { return b.Go }),
		show.OnlyCSV("platform", func(b build) string { return b.Platform }),
		show.OnlyCSV("protocol", func(build) string { return protocols() }),
	}
}

// protocols are the versions that this client speaks with daemons.
func protocols() string {
	if api.MinProtocol == api.MaxProtocol {
		return fmt.Sprint(api.MaxProtocol)
	}
	return fmt.Sprintf("%d to %d", api.MinProtocol, api.MaxProtocol)
}
