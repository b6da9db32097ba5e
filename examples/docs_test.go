// Package examples_test runs what the documentation of the shapes of work says, as its readers do.
package examples_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/daemontest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// TestShapesPage runs all commands of docs/shapes.md in order, each section with a new daemon. A
// command has to succeed, unless a comment behind it says with which code it ends.
func TestShapesPage(t *testing.T) {
	text, err := os.ReadFile("../docs/shapes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		if commands := consoleCommands(body); len(commands) > 0 {
			t.Run(title, func(t *testing.T) { runCommands(t, commands) })
		}
	}
}

// consoleCommands are the lines that begin with a dollar in blocks of ```console; a line that ends
// with a backslash goes on.
func consoleCommands(text string) []string {
	var commands []string
	inside, open := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && strings.HasPrefix(line, "$ "):
			commands = append(commands, line[2:])
			open = strings.HasSuffix(line, "\\")
		case inside && open:
			commands[len(commands)-1] += "\n" + line
			open = strings.HasSuffix(line, "\\")
		}
	}
	return commands
}

// runCommands runs commands in one shell, in which `j` is the client of a daemon of its own, and
// /tmp a directory of the test's.
func runCommands(t *testing.T, commands []string) {
	d := daemontest.New(t)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	var script strings.Builder
	fmt.Fprintf(&script, "j() { '%s' --socket '%s' \"$@\"; }\n", d.Binary, d.Socket)
	for _, command := range commands {
		command = strings.ReplaceAll(command, "/tmp/", tmp+"/")
		command, wanted, ok := strings.Cut(command, "  # exit code ")
		if !ok {
			wanted = "0"
		}
		fmt.Fprintf(&script,
			"%s\ncode=$?; test $code = %s || { echo %q ended with $code; exit 99; }\n",
			command, wanted, command)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", script.String())
	shell.Dir = root
	if out, err := shell.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, script.String())
	}
}
