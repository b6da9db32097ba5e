// Command release makes what people download: archives of the program for Linux, of the client for
// macOS, packages for Debian and Red Hat, checksums and a bill of materials.
//
//	go run ./release agents DIR          the slim agents that package slim has inside
//	go run ./release [-only T,…] DIR     everything, for the targets T, into DIR
//
// The same commit makes the same bytes, wherever it is checked out: nothing of this host, its paths
// or the time of day is in them. The time of all files is the commit's, or SOURCE_DATE_EPOCH.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "agents" {
		return makeAgents(ctx, args[1])
	}
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	only := flags.String("only", "", "the targets, as linux/amd64,darwin/arm64; all by default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New(
			"usage: go run ./release agents DIR, or go run ./release [-only TARGETS] DIR",
		)
	}
	wanted := append(append([]string{}, machines...), clients...)
	if *only != "" {
		wanted = strings.Split(*only, ",")
	}
	return makeRelease(ctx, flags.Arg(0), wanted)
}
