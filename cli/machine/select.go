package machine

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/userfile"
)

// chosen says which machines are meant: by address, class or file, or several of these.
type chosen struct {
	Machine []string `name:"machine" short:"m" sep:"none" placeholder:"ADDR" predictor:"machine" help:"A machine: [USER@]HOST[:PORT], an alias of the ssh config, or local[:NAME]. May be repeated."`
	Class   []string `name:"class" short:"c" sep:"none" placeholder:"CLASS" predictor:"class" help:"All machines of a class (repeatable)."`
	File    []string `name:"file" short:"f" sep:"none" placeholder:"FILE" predictor:"file" help:"The machines in a file, one a line; blank lines and #comments are skipped, - is stdin."`
}

// addrs are the addresses that are named, from the flags, the file and the words given without a
// flag.
func (s chosen) addrs(e *cli.Env, words []string) ([]string, error) {
	addrs := append(append([]string(nil), s.Machine...), words...)
	for _, path := range s.File {
		read, err := readAddrs(e, path)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, read...)
	}
	return addrs, nil
}

// selector is the selection that the daemon is asked for. Naming no machine at all is wrong usage.
func (s chosen) selector(e *cli.Env, words []string) (api.MachineSelector, error) {
	addrs, err := s.addrs(e, words)
	if err != nil {
		return api.MachineSelector{}, err
	}
	if len(addrs) == 0 && len(s.Class) == 0 {
		if len(s.File) > 0 {
			return api.MachineSelector{}, api.Errorf(api.NoMatch, "%s names no machine",
				strings.Join(s.File, ", "))
		}
		return api.MachineSelector{}, api.Errorf(api.Usage, "which machines?").
			WithHint("name them with -m ADDR, -c CLASS or -f FILE")
	}
	return api.MachineSelector{Addrs: addrs, Classes: s.Class}, nil
}

// readAddrs reads an address file.
func readAddrs(e *cli.Env, path string) ([]string, error) {
	file := e.Stdin
	if path != "-" {
		opened, err := os.Open(e.Path(".", path))
		if err != nil {
			return nil, api.Errorf(api.Usage, "read the machines: %w", err)
		}
		defer opened.Close()
		file = opened
	}
	return parseAddrs(file, path)
}

// parseAddrs reads one machine a line. What follows a # is a comment; blank lines are skipped. A
// line with several words is an error: its second word is as likely a forgotten comment as another
// machine.
func parseAddrs(r io.Reader, path string) ([]string, error) {
	var addrs []string
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read the machines: %w", err)
	}
	scanner := bufio.NewScanner(bytes.NewReader(userfile.Text(text)))
	for number := 1; scanner.Scan(); number++ {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		words := strings.Fields(line)
		switch len(words) {
		case 0:
		case 1:
			addrs = append(addrs, words[0])
		default:
			return nil, api.Errorf(api.Usage,
				"read the machines: %s:%d: %q is more than one address", path, number,
				strings.TrimSpace(line)).
				WithHint("write one machine a line; a comment begins with #")
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read the machines: %w", err)
	}
	return addrs, nil
}
