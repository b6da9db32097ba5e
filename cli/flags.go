package cli

import (
	"strings"

	"github.com/alecthomas/kong"
)

// Permute puts a command's arguments into the order that kong takes: flags in their long form with
// their values, then "--", then positionals. Unknown flags stay as they are, for kong to report.
func Permute(node *kong.Node, args []string) []string {
	known := knownFlags(node)
	var flags, positionals []string
	for i := 0; i < len(args); i++ {
		word := args[i]
		switch {
		case word == "--":
			if to := dashFlag(node); to != "" {
				for _, p := range positionals {
					flags = append(flags, "--"+to+"="+p)
				}
				positionals = nil
			}
			positionals = append(positionals, args[i+1:]...)
			i = len(args)
		case strings.HasPrefix(word, "--"):
			i += known.long(&flags, word, args[i+1:])
		case strings.HasPrefix(word, "-") && word != "-" && !isNumber(word):
			i += known.short(&flags, word, args[i+1:])
		default:
			positionals = append(positionals, word)
		}
	}
	if len(positionals) > 0 {
		flags = append(append(flags, "--"), positionals...)
	}
	return flags
}

// withoutValue is the first flag whose value is missing among words that permute has put in order, or nil.
func withoutValue(node *kong.Node, words []string) *kong.Flag {
	known := knownFlags(node)
	for _, word := range words {
		if word == "--" {
			break
		}
		if flag := known[canonicalFlag(word)]; flag != nil && !flag.IsBool() && !strings.Contains(word, "=") {
			return flag
		}
	}
	return nil
}

// isNumber tells whether a word with a dash is a negative number, which no flag looks like.
func isNumber(word string) bool {
	return strings.Trim(word[1:], "0123456789.") == ""
}

// dashFlag names the flag that takes the positionals before an explicit "--": in `machine setup -m a b -- CMD…`
// everything before it can only be a machine.
func dashFlag(node *kong.Node) string {
	if len(node.Positional) == 0 {
		return ""
	}
	return node.Positional[0].Tag.Get("beforedash")
}

// flagTable finds flags by every spelling.
type flagTable map[string]*kong.Flag

func knownFlags(node *kong.Node) flagTable {
	table := flagTable{}
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			table[canonicalFlag("--"+flag.Name)] = flag
			for _, alias := range flag.Aliases {
				table[canonicalFlag("--"+alias)] = flag
			}
			if flag.Short != 0 {
				table["-"+string(flag.Short)] = flag
			}
		}
	}
	return table
}

// long takes a --flag and as many of the words after it as it needs; it returns how many.
func (t flagTable) long(flags *[]string, word string, next []string) int {
	flag, ok := t[canonicalFlag(word)]
	if !ok {
		*flags = append(*flags, word)
		return 0
	}
	if _, value, ok := strings.Cut(word, "="); ok {
		*flags = append(*flags, "--"+flag.Name+"="+value)
		return 0
	}
	return t.take(flags, flag, next)
}

// short takes a cluster of one-letter flags: -rf, -x3, -x 3.
func (t flagTable) short(flags *[]string, word string, next []string) int {
	for i, letter := range word[1:] {
		flag, ok := t["-"+string(letter)]
		if !ok {
			*flags = append(*flags, "-"+word[1+i:])
			return 0
		}
		tail := word[1+i+len(string(letter)):]
		if flag.IsBool() {
			*flags = append(*flags, "--"+flag.Name)
			continue
		}
		if tail != "" {
			*flags = append(*flags, "--"+flag.Name+"="+strings.TrimPrefix(tail, "="))
			return 0
		}
		return t.take(flags, flag, next)
	}
	return 0
}

// isLong says that a word is one of the flags, written in full, and so hardly the value of another.
func (t flagTable) isLong(word string) bool {
	return strings.HasPrefix(word, "--") && t[canonicalFlag(word)] != nil
}

// take gives a flag its value from the words after it; one that takes several takes all up to the next flag.
func (t flagTable) take(flags *[]string, flag *kong.Flag, next []string) int {
	if flag.IsBool() || len(next) == 0 || t.isLong(next[0]) {
		*flags = append(*flags, "--"+flag.Name) // without its value, as withoutValue finds out
		return 0
	}
	*flags = append(*flags, "--"+flag.Name+"="+next[0])
	taken := 1
	if !flag.Tag.Has("several") {
		return taken
	}
	for _, word := range next[1:] {
		if strings.HasPrefix(word, "-") && word != "-" {
			break
		}
		*flags = append(*flags, "--"+flag.Name+"="+word)
		taken++
	}
	return taken
}
