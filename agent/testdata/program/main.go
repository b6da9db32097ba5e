// Program is the agent and the supervisor, and nothing else: what the whole program is to a machine, with the cheapest
// possible start.
package main

import (
	"os"

	"jobserver/agent"
)

func main() {
	switch os.Args[1] {
	case "agent":
		os.Exit(agent.Main(os.Args[2:]))
	case "supervise":
		os.Exit(agent.SuperviseMain(os.Args[2:]))
	}
}
