package main

import (
	"context"
	"fmt"
	"slices"

	"jobserver/api"
)

// jobWhy is `job why JID…`.
type jobWhy struct {
	selectors
}

// Run explains each job in plain words, and of many what made them fail.
func (c *jobWhy) Run(ctx context.Context, e *Env) error {
	words, d, err := c.connect(ctx, e)
	if err != nil {
		return err
	}
	defer d.Close()
	if slices.ContainsFunc(words, namesMany) {
		return whyMany(ctx, e, d, words)
	}
	jobs, err := jobsFull(ctx, d, words)
	if err != nil {
		return err
	}
	if len(jobs) > fewJobs {
		return whyMany(ctx, e, d, words)
	}
	var reasons []api.WhyReply
	for _, job := range jobs {
		why, err := Ask[api.WhyReply](ctx, d, "Why", &api.JIDArgs{Selector: fmt.Sprint(job.JID)})
		if err != nil {
			return err
		}
		reasons = append(reasons, *why)
	}
	if e.ForScripts() {
		return List(e, reasons, WhyColumns())
	}
	for i, why := range reasons {
		if i > 0 {
			fmt.Fprintln(e.Stdout)
		}
		WriteWhy(e.Stdout, e, why)
	}
	return nil
}

// jobShow is `job show JID`.
type jobShow struct {
	selectors
}

// Run prints everything about the jobs.
func (c *jobShow) Run(ctx context.Context, e *Env) error {
	words, d, err := c.connect(ctx, e)
	if err != nil {
		return err
	}
	defer d.Close()
	jobs, err := jobsFull(ctx, d, words)
	if err != nil {
		return err
	}
	if e.ForScripts() {
		return List(e, jobs, JobColumns())
	}
	for i, job := range jobs {
		if i > 0 {
			fmt.Fprintln(e.Stdout)
		}
		WriteJob(e.Stdout, e, job)
	}
	return nil
}
