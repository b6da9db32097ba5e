// Command rc installs completion by editing start-up files, or takes it away: rc install|uninstall NAME. It is a program of its own, since
// the files are those of the user that it runs as.
package main

import (
	"fmt"
	"os"

	"jobserver/completion"
)

func main() {
	in := completion.Installation{Name: os.Args[2], RC: true, Getenv: os.Getenv}
	do := in.Install
	if os.Args[1] == "uninstall" {
		do = in.Uninstall
	}
	notes, err := do()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, note := range notes {
		fmt.Println(note)
	}
}
