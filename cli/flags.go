package cli

import (
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Line is a command's own words as they were understood: its flags in the order in which they were
// given, by their full names, and its arguments.
type Line struct {
	flags []lineFlag
	args  []string
}

// lineFlag is a flag as it was given.
type lineFlag struct {
	name  string     // in full; "" for a word that is no flag of the command, which kong reports
	word  string     // as kong takes it: --name=value, or --name
	value string     // "" when it has none
	bare  bool       // no value was given
	of    *kong.Flag // nil when it is no flag of the command
}

// Words are the words in the order that kong takes: flags in their long form with their values,
// then "--", then arguments.
func (l *Line) Words() []string {
	var words []string
	for _, f := range l.flags {
		words = append(words, f.word)
	}
	if len(l.args) > 0 {
		words = append(append(words, "--"), l.args...)
	}
	return words
}

// Flags are the names of the flags, each as often as it was given.
func (l *Line) Flags() []string {
	names := make([]string, len(l.flags))
	for i, f := range l.flags {
		names[i] = f.name
	}
	return names
}

// Has tells whether a flag was given.
func (l *Line) Has(name string) bool { return slices.Contains(l.Flags(), name) }

// value gives what a flag was given last; ok is false when it wasn't.
func (l *Line) value(name string) (value string, ok bool) {
	for _, f := range l.flags {
		if f.name == name {
			value, ok = f.value, true
		}
	}
	return value, ok
}

// incomplete is the first flag whose value is missing, or nil.
func (l *Line) incomplete() *kong.Flag {
	for _, f := range l.flags {
		if f.of != nil && f.bare && !f.of.IsBool() {
			return f.of
		}
	}
	return nil
}

// give adds a flag of the command, with its value if it has one.
func (l *Line) give(flag *kong.Flag, value ...string) {
	f := lineFlag{name: flag.Name, word: "--" + flag.Name, bare: len(value) == 0, of: flag}
	if len(value) > 0 {
		f.value, f.word = value[0], f.word+"="+value[0]
	}
	l.flags = append(l.flags, f)
}

// ReadLine reads a command's words. Unknown flags stay as they are, for kong to report.
func ReadLine(node *kong.Node, words []string) *Line {
	known, line := knownFlags(node), new(Line)
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "--":
			if to := known["--"+dashFlag(node)]; to != nil {
				for _, arg := range line.args {
					line.give(to, arg)
				}
				line.args = nil
			}
			line.args = append(line.args, words[i+1:]...)
			return line
		case strings.HasPrefix(word, "--"):
			i += known.long(line, word, words[i+1:])
		case strings.HasPrefix(word, "-") && word != "-" && !isNumber(word):
			i += known.short(line, word, words[i+1:])
		default:
			line.args = append(line.args, word)
		}
	}
	return line
}

// readGlobals reads the global flags alone, of words that may be of no command or not all there:
// for what has to be known before the command is, or though it never will be.
func readGlobals(words []string) *Line {
	line := new(Line)
	names := map[string]string{}
	for field := range reflect.TypeFor[Globals]().Fields() {
		names["--"+flagName(field)] = flagName(field)
		if short := field.Tag.Get("short"); short != "" {
			names["-"+short] = flagName(field)
		}
	}
	valued := valuedFlags(reflect.TypeFor[Globals]())
	for i, word := range words {
		if word == "--" {
			break
		}
		spelt, value, inWord := strings.Cut(word, "=")
		if len(spelt) > 2 && spelt[1] != '-' && valued[spelt[:2]] { // -ojson
			spelt, value, inWord = spelt[:2], word[2:], true
		}
		spelt = canonicalFlag(spelt)
		name := names[spelt]
		if name == "" {
			continue
		}
		if !inWord && valued[spelt] && i+1 < len(words) {
			value = words[i+1]
		}
		line.flags = append(line.flags, lineFlag{name: name, word: word, value: value})
	}
	return line
}

// isNumber tells whether a word with a dash is a negative number, which no flag looks like.
func isNumber(word string) bool {
	return strings.Trim(word[1:], "0123456789.") == ""
}

// dashFlag names the flag that takes the positionals before an explicit "--": in `machine setup -m
// a b -- CMD…` everything before it can only be a machine.
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
func (t flagTable) long(line *Line, word string, next []string) int {
	flag, ok := t[canonicalFlag(word)]
	if !ok {
		line.flags = append(line.flags, lineFlag{word: word})
		return 0
	}
	if _, value, ok := strings.Cut(word, "="); ok {
		line.give(flag, value)
		return 0
	}
	return t.take(line, flag, next)
}

// short takes a cluster of one-letter flags: -rf, -x3, -x 3.
func (t flagTable) short(line *Line, word string, next []string) int {
	for i, letter := range word[1:] {
		flag, ok := t["-"+string(letter)]
		if !ok {
			line.flags = append(line.flags, lineFlag{word: "-" + word[1+i:]})
			return 0
		}
		tail := word[1+i+len(string(letter)):]
		if flag.IsBool() {
			line.give(flag)
			continue
		}
		if tail != "" {
			line.give(flag, strings.TrimPrefix(tail, "="))
			return 0
		}
		return t.take(line, flag, next)
	}
	return 0
}

// isLong says that a word is one of the flags, written in full, and so hardly the value of another.
func (t flagTable) isLong(word string) bool {
	return strings.HasPrefix(word, "--") && t[canonicalFlag(word)] != nil
}

// take gives a flag its value from the words after it; one that takes several takes all up to the
// next flag.
func (t flagTable) take(line *Line, flag *kong.Flag, next []string) int {
	if flag.IsBool() || len(next) == 0 || t.isLong(next[0]) {
		line.give(flag)
		return 0
	}
	line.give(flag, next[0])
	taken := 1
	if !flag.Tag.Has("several") {
		return taken
	}
	for _, word := range next[1:] {
		if strings.HasPrefix(word, "-") && word != "-" {
			break
		}
		line.give(flag, word)
		taken++
	}
	return taken
}
