package completion

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// Installation says for which command, and how, completion is installed or taken away.
type Installation struct {
	Name   string // of the command: the program's own, or an alias's
	Binary string // the program, by its whole path
	Shell  string // bash, zsh or fish; "" means that of $SHELL
	Getenv func(string) string

	// RC puts a line into the shell's start-up file, instead of writing a file that the shell looks
	// for by itself.
	RC bool

	// Dir is where the file goes, instead of where the shell looks for it.
	Dir string
}

// Install installs completion and says what it did and what is left to do. Doing it again brings
// the file up to date. A file of that name that isn't ours is left alone, which is an error.
func (in Installation) Install() (notes []string, err error) {
	if in.RC {
		return in.installLine()
	}
	shell, path, err := in.file()
	if err != nil {
		return nil, err
	}
	script, err := Script(shell, in.Name, in.Binary)
	if err != nil {
		return nil, err
	}
	if _, err := ours(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("install completion: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(script), 0o644,
		renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return nil, fmt.Errorf("install completion: %w", err)
	}
	notes = []string{"wrote " + path}
	if in.Dir != "" {
		return append(notes, "load it with: source "+shellQuote(path)), nil
	}
	return append(notes, in.next(shell, path)), nil
}

// Uninstall takes away what Install made, and says what it did.
func (in Installation) Uninstall() (notes []string, err error) {
	if in.RC {
		return in.uninstallLine()
	}
	_, path, err := in.file()
	if err != nil {
		return nil, err
	}
	there, err := ours(path)
	if err != nil {
		return nil, err
	}
	if !there {
		return []string{fmt.Sprintf("there was none: no file %s", path)}, nil
	}
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("uninstall completion: %w", err)
	}
	return []string{"removed " + path}, nil
}

// shell is the one that is meant. A name that no command has is an error, since it becomes part of
// shell scripts.
func (in Installation) shell() (string, error) {
	if err := CheckName(in.Name); err != nil {
		return "", err
	}
	if in.Shell != "" {
		return shellOf(in.Shell)
	}
	return shellOf(in.Getenv("SHELL"))
}

// base is the directory that a variable names, or by default one in the home directory. XDG Base
// Directory Specification 0.8: relative values are not valid.
func (in Installation) base(variable string, fallback ...string) (string, error) {
	if dir := in.Getenv(variable); filepath.IsAbs(dir) {
		return dir, nil
	}
	home := in.Getenv("HOME")
	if home == "" {
		return "", fmt.Errorf("completion for %s: HOME is not set", in.Name)
	}
	return filepath.Join(append([]string{home}, fallback...)...), nil
}

// file is the shell, and the file that it looks for on its own, or that file's name in Dir.
func (in Installation) file() (shell, path string, err error) {
	if shell, err = in.shell(); err != nil {
		return "", "", err
	}
	var dir, name string
	switch shell {
	case "bash": // bash-completion 2.x looks there when the command is first completed
		dir, err = in.base("XDG_DATA_HOME", ".local", "share")
		dir, name = filepath.Join(dir, "bash-completion", "completions"), in.Name
	case "zsh": // no directory of the user's is on zsh's default fpath
		dir, err = in.base("XDG_DATA_HOME", ".local", "share")
		dir, name = filepath.Join(dir, "zsh", "site-functions"), "_"+in.Name
	case "fish":
		dir, err = in.base("XDG_CONFIG_HOME", ".config")
		dir, name = filepath.Join(dir, "fish", "completions"), in.Name+".fish"
	}
	if err != nil {
		return "", "", err
	}
	if in.Dir != "" {
		dir = in.Dir
	}
	return shell, filepath.Join(dir, name), nil
}

// next says what the user may still have to do.
func (in Installation) next(shell, path string) string {
	switch shell {
	case "bash":
		return fmt.Sprintf("new shells complete %s where the package bash-completion is "+
			"installed; elsewhere add to ~/.bashrc: source %s",
			in.Name, shellQuote(path))
	case "zsh":
		dir := filepath.Dir(path)
		if slices.Contains(filepath.SplitList(in.Getenv("FPATH")), dir) {
			return fmt.Sprintf("new shells complete %s", in.Name)
		}
		return fmt.Sprintf("add to ~/.zshrc, before compinit, unless it is there: fpath=(%s "+
			"$fpath)", shellQuote(dir))
	default:
		return fmt.Sprintf("new shells complete %s", in.Name)
	}
}

// ours says whether the file is there; one that someone else wrote is an error.
func ours(path string) (bool, error) {
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at %s: %w", path, err)
	case !strings.Contains(string(content), marker):
		return false, fmt.Errorf("%s was written by someone else, and stays as it is", path)
	}
	return true, nil
}
