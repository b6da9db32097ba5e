package job

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"jobserver/api"
	"jobserver/cli"
)

// without are the names in the directory that are no part of the code: what the source sets apart,
// and where the results of all other jobs go.
func (c *CodeSource) without(ctx context.Context, e *cli.Env, d cli.Daemon) ([]string, error) {
	top, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range c.Apart {
		if p == "" {
			continue
		}
		if p, err = filepath.Abs(e.Path("", p)); err != nil {
			return nil, err
		}
		names = append(names, placeIn(top, p)...)
	}
	if e.Remote() {
		return names, nil // its results are on another host
	}
	tops := []string{top}
	if real, err := filepath.EvalSymlinks(top); err == nil && real != top {
		tops = append(tops, real)
	}
	for _, top := range tops {
		reply, err := cli.Ask[api.PlacesReply](ctx, d, "Places", &api.PlacesArgs{Dir: top})
		if api.KindOf(err) == api.Incompatible {
			return names, nil // an older daemon knows of none
		}
		if err != nil {
			return nil, err
		}
		for _, p := range reply.Paths {
			names = append(names, placeIn(top, p)...)
		}
	}
	return names, nil
}

// placeIn are the names in a directory under which the results of a CP_PATH are, which may have
// variables in it. Where they go to the directory itself, each job's have a directory with its
// record, by which they are known.
func placeIn(top, place string) (names []string) {
	fixed := place
	if at := strings.IndexByte(place, '{'); at >= 0 {
		// what follows is another name for each job
		fixed = place[:strings.LastIndexByte(place[:at], filepath.Separator)+1]
	}
	name, err := filepath.Rel(top, fixed)
	switch {
	case err != nil || !filepath.IsLocal(name):
		return nil
	case name != ".":
		return []string{filepath.ToSlash(name)}
	case fixed == place:
		return nil
	}
	// Such as res-{NAME}, or {NAME}/out: what there is of that form.
	form, err := filepath.Rel(top, place)
	if err != nil || strings.ContainsAny(form, `*?[\`) {
		return nil
	}
	form = regexp.MustCompile(`\{[^{}/]*\}`).ReplaceAllString(filepath.ToSlash(form), "*")
	if strings.Trim(form, "*") == "" {
		return nil // {JID}, or {NAME}: it could be anything that is there
	}
	files := os.DirFS(top)
	found, err := fs.Glob(files, form)
	if err != nil {
		return nil
	}
	for _, name := range found {
		if info, err := fs.Stat(files, name); err == nil && info.IsDir() {
			names = append(names, name)
		}
	}
	return names
}
