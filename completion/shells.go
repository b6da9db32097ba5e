package completion

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Shells lists those that there are scripts for.
func Shells() []string { return []string{"bash", "zsh", "fish"} }

// printFor writes the candidates as the shell takes them.
//
//   - bash, with our script: the value as it is to be typed, with the blank after it, since the
//     script asks bash for none.
//   - zsh: "+" or, where no blank may follow, "-"; then the value with its colons escaped, a colon,
//     and the description.
//   - fish: value, tab, description.
//   - no shell named: the bare values, for a plain `complete -C`, as posener/complete writes it
//     into start-up files.
//
// bash and its imitators break words at colons and at some other characters too: args tell which
// part they want, and only that is printed.
func printFor(w io.Writer, shell, current string, args []string, candidates []Candidate) error {
	out := bufio.NewWriter(w)
	for _, c := range candidates {
		var line string
		switch shell {
		case "zsh":
			mark := "+"
			if c.Open {
				mark = "-"
			}
			line = mark + strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(c.Value)
			if c.Description != "" {
				line += ":" + c.Description
			}
		case "fish":
			line = c.Value
			if c.Description != "" {
				line += "\t" + c.Description
			}
		case "bash":
			line = quoted(wanted(c.Value, current, args))
			if !c.Open {
				line += " "
			}
		default:
			line = wanted(c.Value, current, args)
		}
		if _, err := out.WriteString(line + "\n"); err != nil {
			return fmt.Errorf("print the candidates: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("print the candidates: %w", err)
	}
	return nil
}

// wanted is the part of a value that replaces the part of the current word that bash asks for: its
// second argument.
func wanted(value, current string, args []string) string {
	if len(args) < 2 || !strings.HasSuffix(current, args[1]) {
		return value
	}
	return strings.TrimPrefix(value, current[:len(current)-len(args[1])])
}

// marker tells our files from others'.
const marker = "# jobserver: shell completion, written by the program itself"

var nameForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)
})

// CheckName refuses what can't be the name of a command that is to be completed.
func CheckName(name string) error {
	if !nameForm().MatchString(name) {
		return fmt.Errorf(
			"completion for %q: a command's name has only letters, digits and . _ + -", name,
		)
	}
	return nil
}

// Script is the text that makes shell complete the command name by asking binary, an absolute path.
func Script(shell, name, binary string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	if !filepath.IsAbs(binary) || strings.ContainsAny(binary, "\n\r") {
		return "", fmt.Errorf("completion for %s: the binary %q must be given by its whole path",
			name, binary)
	}
	// A function's name has room for fewer characters than a command's.
	function := "_" + regexp.MustCompile(`[^A-Za-z0-9_]`).ReplaceAllString(name, "_") + "_complete"
	quotedBinary := shellQuote(binary)
	var script string
	switch shell {
	case "bash":
		command := shellQuote("COMP_SHELL=bash " + quotedBinary)
		script = marker + `
# nosort (bash 4.4) keeps the newest first.
complete -o nosort -o nospace -C ` + command + ` NAME 2>/dev/null ||
    complete -o nospace -C ` + command + ` NAME
`
	case "zsh":
		// An alias is expanded before zsh looks for a completion, so that of the program's own name
		// is needed, too.
		names := name
		if own := filepath.Base(binary); own != name && CheckName(own) == nil {
			names += " " + own
		}
		script = "#compdef " + names + "\n" + marker + `
FUNCTION() {
    local line
    local -a closed open
    for line in "${(@f)$(COMP_SHELL=zsh COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" BINARY 2>/dev/null)}"; do
        case $line in
            +*) closed+=("${line#+}") ;;
            -*) open+=("${line#-}") ;;
        esac
    done
    (( $#closed )) && _describe -V NAME closed
    (( $#open )) && _describe -V NAME open -S ''
    (( $#closed + $#open ))
}
# Loaded from fpath this file is the function's body; when it is sourced, it names the function.
if [[ $funcstack[1] == _NAME ]]; then
    FUNCTION "$@"
else
    compdef FUNCTION ` + names + `
fi
`
	case "fish":
		script = marker + `
function FUNCTION
    set -lx COMP_SHELL fish
    set -lx COMP_LINE (commandline -cp | string collect)
    BINARY 2>/dev/null
end
complete -c NAME -f -k -a '(FUNCTION)'
`
		quotedBinary = fishQuote(binary)
	default:
		return "", fmt.Errorf("completion for the shell %q: there is one for %s", shell,
			strings.Join(Shells(), ", "))
	}
	return strings.NewReplacer("FUNCTION", function, "NAME", name, "BINARY", quotedBinary).
		Replace(script), nil
}

// shellQuote quotes for bash and zsh.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// fishQuote quotes for fish, where a backslash works between single quotes too.
func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}

// shellOf finds the shell in a path such as $SHELL holds.
func shellOf(path string) (string, error) {
	name := filepath.Base(path)
	if !slices.Contains(Shells(), name) {
		return "", fmt.Errorf("completion for the shell %q: there is one for %s", name,
			strings.Join(Shells(), ", "))
	}
	return name, nil
}
