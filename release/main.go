// Command release makes what people download: `go run ./release agents` the slim agents that
// package slim has inside.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
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
	return fmt.Errorf("usage: go run ./release agents DIR")
}
