package cli

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"jobserver/api"
	"jobserver/suggest"
)

// This file turns a command line as people type it into one that kong's parser takes: the command's
// words first, then every flag as --name=value, then "--" and the positional arguments. kong by
// itself refuses positionals after a flag, flags that take several values, and underscores for dashes.

// commandWords finds the command that args name: the fields of the grammar that lead to it, and the
// arguments that are left when its words are taken out. Global flags may stand before and between the words.
type commandWords struct {
	Path  []string // names of the commands, from the root
	Leaf  bool     // path ends at a command that can run
	Rest  []string // everything else, in order
	asked bool     // for help
}

// FindCommand walks the grammar along the words of args. It stops at the first command that has no
// commands below it; what follows is that command's own.
func FindCommand(root reflect.Type, args []string) (commandWords, error) {
	var found commandWords
	valued := valuedFlags(reflect.TypeFor[Globals]())
	at := root
	for i := 0; i < len(args); i++ {
		word := args[i]
		switch {
		case word == "--":
			found.Rest = append(found.Rest, args[i:]...)
			return found, nil
		case strings.HasPrefix(word, "-") && word != "-":
			found.Rest = append(found.Rest, word)
			if valued[canonicalFlag(word)] && !strings.Contains(word, "=") && i+1 < len(args) {
				i++
				found.Rest = append(found.Rest, args[i])
			}
			if word == "-h" || word == "--help" {
				found.asked = true
			}
			continue
		}
		field, ok := commandField(at, word)
		if !ok {
			return found, unknownCommand(at, found.Path, word)
		}
		name, _, _ := commandNames(field)
		found.Path = append(found.Path, name)
		at = field.Type
		if !isGroup(at) {
			found.Leaf = true
			found.Rest = append(found.Rest, args[i+1:]...)
			return found, nil
		}
	}
	return found, nil
}

// canonicalFlag is a flag's word without its value, dashes for underscores.
func canonicalFlag(word string) string {
	if strings.HasPrefix(word, "--") {
		name, _, _ := strings.Cut(word, "=")
		return "--" + strings.ReplaceAll(name[2:], "_", "-")
	}
	return word
}

// valuedFlags are the flags of a struct that take their value from the next word.
func valuedFlags(t reflect.Type) map[string]bool {
	valued := map[string]bool{}
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Type.Kind() == reflect.Bool {
			continue
		}
		valued["--"+flagName(field)] = true
		if short := field.Tag.Get("short"); short != "" {
			valued["-"+short] = true
		}
	}
	return valued
}

// commandField is the field of the group that the word names, by name or alias.
func commandField(group reflect.Type, word string) (reflect.StructField, bool) {
	for i := range group.NumField() {
		field := group.Field(i)
		name, aliases, ok := commandNames(field)
		if !ok {
			continue
		}
		if name == word {
			return field, true
		}
		for _, alias := range aliases {
			if alias == word {
				return field, true
			}
		}
	}
	return reflect.StructField{}, false
}

// commandNames are the name and aliases of a field of the grammar that is a command.
func commandNames(field reflect.StructField) (name string, aliases []string, ok bool) {
	if _, ok := field.Tag.Lookup("cmd"); !ok {
		return "", nil, false
	}
	name = field.Tag.Get("name")
	if name == "" {
		name = strings.ToLower(field.Name)
	}
	return name, strings.FieldsFunc(field.Tag.Get("aliases"), func(r rune) bool { return r == ',' }), true
}

func flagName(field reflect.StructField) string {
	if name := field.Tag.Get("name"); name != "" {
		return name
	}
	return strings.ToLower(field.Name)
}

// isGroup tells whether a type of the grammar has commands below it.
func isGroup(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		if _, ok := t.Field(i).Tag.Lookup("cmd"); ok {
			return true
		}
	}
	return false
}

// unknownCommand is the error for a word that names no command of the group.
func unknownCommand(group reflect.Type, path []string, word string) error {
	var names []string
	for i := range group.NumField() {
		field := group.Field(i)
		if name, aliases, ok := commandNames(field); ok {
			if _, hidden := field.Tag.Lookup("hidden"); !hidden {
				names = append(names, name)
				names = append(names, aliases...)
			}
		}
	}
	err := api.Errorf(api.Usage, "there is no command %q", strings.Join(append(path[:len(path):len(path)], word), " "))
	for i := range group.NumField() {
		// The word of a command one level down, as in `j restart`.
		if field := group.Field(i); isGroup(field.Type) {
			if _, ok := commandField(field.Type, word); ok {
				name, _, _ := commandNames(field)
				return err.WithHint("did you mean %q?", strings.Join(append(path[:len(path):len(path)], name, word), " "))
			}
		}
	}
	if like := suggest.Closest(word, names); like != "" {
		return err.WithHint("did you mean %q?", strings.Join(append(path[:len(path):len(path)], like), " "))
	}
	return err.WithHint("the commands are: %s", strings.Join(names, ", "))
}

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

// IdOrName tells an id from a name.
func IdOrName(word string) (uint64, string) {
	if id, err := strconv.ParseUint(word, 10, 64); err == nil {
		return id, ""
	}
	return 0, word
}
