// Command jobserver is what the tests put on machines: the agent and the supervisor, and nothing else.
package main

import (
	"os"

	"jobserver/agent"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(agent.Main(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		os.Exit(agent.SuperviseMain(os.Args[2:]))
	}
	os.Exit(2)
}
