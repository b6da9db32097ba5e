// Command floor submits one job through the daemon's socket and prints its id. Nothing else of the
// program is linked in: it is what a process in Go that speaks net/rpc and gob can't go below, and
// so what `j add` is to be compared with.
package main

import (
	"context"
	"fmt"
	"os"

	"jobserver/api"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: floor SOCKET CLASS CMD")
	}
	c, err := api.Dial(ctx, args[0], api.ClientOptions{Client: "floor"})
	if err != nil {
		return err
	}
	defer c.Close()
	reply, err := api.Call[api.AddJobsReply](ctx, c, "AddJobs",
		&api.AddJobsArgs{Jobs: []api.JobSpec{{Class: args[1], Cmd: args[2]}}})
	if err != nil {
		return err
	}
	fmt.Println(reply.JIDs[0])
	return nil
}
