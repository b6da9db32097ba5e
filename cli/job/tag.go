package job

import (
	"context"
	"fmt"
	"strconv"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/view"
)

// TagNew is `tag new [NAME]`.
type TagNew struct {
	Name string `arg:"" optional:"" name:"NAME" help:"Its name, which can't be a number."`
}

// Run makes the tag.
func (c *TagNew) Run(ctx context.Context, e *cli.Env) error {
	tag, err := cli.Call[api.Tag](ctx, e, "NewTag", &api.NewTagArgs{Name: c.Name})
	if err != nil {
		return err
	}
	if e.Structured() {
		return cli.List(e, []api.Tag{*tag}, show.TagColumns(e))
	}
	_, err = fmt.Fprintln(e.Stdout, tag.ID)
	return err
}

// TagSet is `tag set JID… TAG`. Two lists can't follow each other, so it is one, and the last word
// is the tag.
type TagSet struct {
	Words []string `arg:"" name:"JID… TAG" sep:"none" predictor:"job" then:"tag,job" help:"The jobs, in any form, followed by the tag, by id or name."`
	narrow
	cli.ChangeFlags
}

// Run tags the jobs.
func (c *TagSet) Run(ctx context.Context, e *cli.Env) error {
	last := len(c.Words) - 1
	if last < 1 {
		return api.Errorf(api.Usage, "tag set %s: the tag is missing", c.Words[0]).
			WithHint("%s tag set JID… TAG", e.Name)
	}
	return changeSelected(ctx, e, selectors{JID: c.Words[:last], narrow: c.narrow}, c.ChangeFlags,
		api.ChangeJobsArgs{Op: api.OpTag, Tag: c.Words[last]})
}

// TagUnset is `tag unset JID…`.
type TagUnset struct{ toChange }

// Run takes the tags away.
func (c *TagUnset) Run(ctx context.Context, e *cli.Env) error {
	return c.change(ctx, e, api.ChangeJobsArgs{Op: api.OpUntag})
}

// TagLs is `tag ls [TAG]`.
type TagLs struct {
	Tag string `arg:"" optional:"" name:"TAG" predictor:"tag" help:"One tag, by id or name: its jobs. In -o csv and -o id it is the tag alone; 'job ls @TAG' has the jobs."`
}

// Run lists the tags, or a tag's jobs.
func (c *TagLs) Run(ctx context.Context, e *cli.Env) error {
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	reply, err := cli.Ask[api.ListTagsReply](ctx, d, "ListTags", &api.ListTagsArgs{Tag: c.Tag})
	if err != nil {
		return err
	}
	if c.Tag == "" || e.Format() == view.ID || e.Format() == view.CSV {
		return cli.List(e, reply.Tags, show.TagColumns(e))
	}
	if len(reply.Tags) == 0 {
		return api.Errorf(api.NotFound, "there is no tag %s", c.Tag)
	}
	tag := reply.Tags[0]
	found, err := fetchListing(ctx, d,
		api.ListJobsArgs{Selectors: []string{"@" + strconv.FormatUint(tag.ID, 10)}, Full: true})
	if err != nil && api.KindOf(err) != api.NoMatch {
		return err
	}
	if e.ForScripts() {
		tag.Jobs = found.Jobs
		return cli.List(e, []api.Tag{tag}, show.TagColumns(e))
	}
	found.Counts = tag.Counts
	return show.WriteListing(e.Stdout, e, found)
}
