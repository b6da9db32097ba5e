// Command program is the slim agent: what the whole program is to a machine, the agent and the
// supervisor, and nothing else. Releases have it inside for every kind of machine (package slim),
// and it is what goes over the wire; it starts once for every connection and for every run.
//
// What it imports is held by a test: a package more is paid for by each of these starts.
package main

import (
	"fmt"
	"os"

	"jobserver/agent"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "agent":
			os.Exit(agent.Main(os.Args[2:]))
		case "supervise":
			os.Exit(agent.SuperviseMain(os.Args[2:]))
		case "keep":
			os.Exit(agent.KeepMain(os.Args[2:]))
		}
	}
	fmt.Fprintln(
		os.Stderr,
		"this is the agent of a jobserver, which a daemon starts on its machines",
	)
	os.Exit(2)
}
