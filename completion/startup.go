package completion

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"jobserver/userfile"
)

// installLine has the shell's start-up file load completion by a line of ours, the last one. One
// that an earlier call put there, perhaps for a program that has moved since, is replaced where it
// stands.
func (in Installation) installLine() (notes []string, err error) {
	f, err := in.startUp()
	if err != nil {
		return nil, err
	}
	var kept strings.Builder
	there := false
	for line := range strings.Lines(f.content) {
		switch {
		case !in.isOurs(line):
			kept.WriteString(line)
		case !there:
			kept.WriteString(f.line + "\n")
			there = true
		}
	}
	if !there {
		if kept.Len() > 0 && !strings.HasSuffix(f.content, "\n") {
			kept.WriteString("\n")
		}
		kept.WriteString(f.line + "\n")
	}
	if kept.String() == f.content {
		return []string{fmt.Sprintf("%s completes %s already", f.path, in.Name)}, nil
	}
	if err := f.replace(kept.String()); err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("wrote a line into %s: new shells complete %s", f.path, in.Name)},
		nil
}

// uninstallLine takes that line away, and nothing else.
func (in Installation) uninstallLine() (notes []string, err error) {
	f, err := in.startUp()
	if err != nil {
		return nil, err
	}
	var kept strings.Builder
	for line := range strings.Lines(f.content) {
		if !in.isOurs(line) {
			kept.WriteString(line)
		}
	}
	if kept.String() == f.content {
		return []string{fmt.Sprintf("there was none: no line of %s completes %s", f.path, in.Name)},
			nil
	}
	if err := f.replace(kept.String()); err != nil {
		return nil, err
	}
	return []string{"took a line out of " + f.path}, nil
}

// mark ends our line in a start-up file: by it the line is found again.
func (in Installation) mark() string { return " # jobserver: completes " + in.Name }

func (in Installation) isOurs(line string) bool {
	return strings.HasSuffix(strings.TrimRight(line, "\r\n"), in.mark())
}

// startUpFile is a file that a shell reads when it starts.
type startUpFile struct {
	path    string
	content string // "" also when there is no such file
	line    string // what is to be in it
}

// startUp is the file of the shell that is meant. The line asks the program for the script, so
// that both are always of the same version; a program that is gone is no error in each new shell.
func (in Installation) startUp() (*startUpFile, error) {
	shell, err := in.shell()
	if err != nil {
		return nil, err
	}
	if _, err := Script(shell, in.Name, in.Binary); err != nil {
		return nil, err
	}
	f := new(startUpFile)
	var dir string
	binary := shellQuote(in.Binary)
	switch shell {
	case "bash":
		dir, err = in.base("HOME")
		f.path = filepath.Join(dir, ".bashrc")
		f.line = `if [ -x BINARY ]; then eval "$(BINARY completions bash --name NAME)"; fi`
	case "zsh": // compdef is there once compinit has run
		dir, err = in.base("ZDOTDIR")
		f.path = filepath.Join(dir, ".zshrc")
		f.line = `if [ -x BINARY ]; then (( $+functions[compdef] )) || { autoload -Uz compinit; compinit -i; }; ` +
			`eval "$(BINARY completions zsh --name NAME)"; fi`
	case "fish":
		dir, err = in.base("XDG_CONFIG_HOME", ".config")
		f.path = filepath.Join(dir, "fish", "config.fish")
		f.line = `if test -x BINARY; BINARY completions fish --name NAME | source; end`
		binary = fishQuote(in.Binary)
	}
	if err != nil {
		return nil, err
	}
	f.line = strings.NewReplacer("BINARY", binary, "NAME", in.Name).Replace(f.line) + in.mark()
	content, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look at the start-up file: %w", err)
	}
	f.content = string(content)
	return f, nil
}

// replace gives the file another content.
func (f *startUpFile) replace(content string) error {
	if err := userfile.Replace(f.path, []byte(content), 0o644, 0o755); err != nil {
		return fmt.Errorf("edit the start-up file: %w", err)
	}
	return nil
}
