package cli

import (
	"reflect"
	"strconv"
	"strings"

	"jobserver/api"
	"jobserver/suggest"
)

// This file turns a command line as people type it into one that kong's parser takes: the command's
// words first, then every flag as --name=value, then "--" and the positional arguments. kong by
// itself refuses positionals after a flag, flags that take several values, and underscores for
// dashes.

// commandWords finds the command that args name: the fields of the grammar that lead to it, and the
// arguments that are left when its words are taken out. Global flags may stand before and between
// the words.
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
	return name, strings.FieldsFunc(field.Tag.Get("aliases"), func(r rune) bool {
		return r == ','
	}), true
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
	err := api.Errorf(api.Usage, "there is no command %q",
		strings.Join(append(path[:len(path):len(path)], word), " "))
	for i := range group.NumField() {
		// The word of a command one level down, as in `j restart`.
		if field := group.Field(i); isGroup(field.Type) {
			if _, ok := commandField(field.Type, word); ok {
				name, _, _ := commandNames(field)
				return err.WithHint("did you mean %q?",
					strings.Join(append(path[:len(path):len(path)], name, word), " "))
			}
		}
	}
	if other := otherWord(strings.Join(path, " "), word); other != "" {
		return err.WithHint("%s", other)
	}
	if like := suggest.Closest(word, names); like != "" {
		return err.WithHint("did you mean %q?",
			strings.Join(append(path[:len(path):len(path)], like), " "))
	}
	return err.WithHint("the commands are: %s", strings.Join(names, ", "))
}

// IDOrName tells an id from a name.
func IDOrName(word string) (uint64, string) {
	if id, err := strconv.ParseUint(word, 10, 64); err == nil {
		return id, ""
	}
	return 0, word
}
