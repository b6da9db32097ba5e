package server

import (
	"context"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
)

// ResourceLs is `resource ls`.
type ResourceLs struct{}

// Run lists what the pool has.
func (c *ResourceLs) Run(ctx context.Context, e *cli.Env) error {
	reply, err := cli.Call[api.ListResourcesReply](ctx, e, "ListResources", &api.Empty{})
	if err != nil {
		return err
	}
	return cli.List(e, reply.Resources, show.ResourceColumns())
}

// ResourceSet is `resource set NAME=VALUE…`.
type ResourceSet struct {
	Values []string `arg:"" name:"NAME=VALUE" sep:"none" predictor:"resource" help:"How much the pool has of it: license=3."`
}

// Run sets what the pool has.
func (c *ResourceSet) Run(ctx context.Context, e *cli.Env) error {
	for _, word := range c.Values {
		if !strings.Contains(word, "=") {
			return api.Errorf(api.Usage, "%q is not of the form NAME=VALUE", word).
				WithHint("%s resource set %s=3", e.Name, word)
		}
	}
	d, err := e.Connect(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, word := range c.Values {
		name, value, _ := strings.Cut(word, "=")
		args := api.SetResourceArgs{Name: name, Value: value}
		if _, err := cli.Ask[api.Empty](ctx, d, "SetResource", &args); err != nil {
			return err
		}
	}
	return nil
}

// ResourceUnset is `resource unset NAME`.
type ResourceUnset struct {
	Name string `arg:"" name:"NAME" predictor:"resource" help:"Its name."`
}

// Run takes it from the pool.
func (c *ResourceUnset) Run(ctx context.Context, e *cli.Env) error {
	args := api.SetResourceArgs{Name: c.Name, Unset: true}
	_, err := cli.Call[api.Empty](ctx, e, "SetResource", &args)
	return err
}
