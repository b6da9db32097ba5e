package completion

import (
	"context"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// walk follows the words of a line through the grammar.
type walk struct {
	node       *kong.Node
	positional int        // index of the node's next positional argument
	begun      bool       // it has a word already, and takes more
	pending    *kong.Flag // whose value comes next
	filled     bool       // pending has one already, and may take more
	given      map[*kong.Flag]bool
	onlyWords  bool // after "--", or where everything is passed through
}

func newWalk(root *kong.Node) *walk {
	return &walk{node: root, given: map[*kong.Flag]bool{}}
}

// step takes one whole word. Words that make no sense are passed over: the rest of the line may
// still be completed.
func (w *walk) step(word string) {
	isFlag := strings.HasPrefix(word, "-") && word != "-" && !w.onlyWords
	switch {
	case w.pending != nil && !(isFlag && w.filled):
		w.filled = true
		if !several(w.pending) {
			w.pending = nil
		}
	case !isFlag:
		w.word(word)
	case word == "--":
		w.onlyWords, w.pending = true, nil
	case strings.HasPrefix(word, "--"):
		w.pending = nil
		name, _, hasValue := strings.Cut(word, "=")
		if flag, _ := w.long(name); flag != nil {
			w.give(flag, hasValue)
		}
	default:
		w.pending = nil
		w.shorts(word[1:])
	}
}

// shorts takes a group of one-letter flags: the first that has a value takes the rest of the word,
// or the next one.
func (w *walk) shorts(letters string) {
	for i, letter := range letters {
		flag := w.short(letter)
		if flag == nil {
			return
		}
		rest := letters[i+len(string(letter)):]
		w.give(flag, rest != "")
		if takesValue(flag) {
			return
		}
	}
}

// give notes a flag, and that its value is still to come.
func (w *walk) give(flag *kong.Flag, hasValue bool) {
	w.given[flag] = true
	if takesValue(flag) && (!hasValue || several(flag)) {
		w.pending, w.filled = flag, hasValue
	}
}

// word takes a command or a positional argument.
func (w *walk) word(word string) {
	if !w.onlyWords {
		if child := w.child(word); child != nil {
			w.enter(child)
			return
		}
		if w.node.DefaultCmd != nil && len(w.node.Positional) == 0 {
			w.enter(w.node.DefaultCmd)
		}
	}
	if w.positional < len(w.node.Positional) {
		now := w.node.Positional[w.positional]
		w.begun = now.IsCumulative()
		switch {
		case !w.begun:
			w.positional++
		case passesThrough(now):
			w.onlyWords = true
		}
	}
}

func (w *walk) enter(node *kong.Node) {
	w.node, w.positional, w.begun = node, 0, false
	w.onlyWords = w.onlyWords || node.Passthrough
}

// child is the command of that name or alias, or the branching argument that takes any word.
func (w *walk) child(word string) *kong.Node {
	for _, child := range w.node.Children {
		if child.Type != kong.ArgumentNode &&
			(child.Name == word || slices.Contains(child.Aliases, word)) {
			return child
		}
	}
	for _, child := range w.node.Children {
		if child.Type == kong.ArgumentNode {
			return child
		}
	}
	return nil
}

// flags lists those that hold here: the command's own first, then those of what it is part of.
func (w *walk) flags() []*kong.Flag {
	var all []*kong.Flag
	for node := w.node; node != nil; node = node.Parent {
		all = append(all, node.Flags...)
	}
	return all
}

// long finds a flag by "--name", by an alias or by its negation; underscores and dashes are the
// same. With it comes the name as it stands in the grammar.
func (w *walk) long(name string) (*kong.Flag, string) {
	for _, flag := range w.flags() {
		for _, known := range append(longNames(flag), flag.Aliases...) {
			known = "--" + strings.TrimPrefix(known, "--")
			if dashes(known) == dashes(name) {
				return flag, known
			}
		}
	}
	return nil, ""
}

func dashes(name string) string { return strings.ReplaceAll(name, "_", "-") }

func (w *walk) short(letter rune) *kong.Flag {
	for _, flag := range w.flags() {
		if flag.Short == letter {
			return flag
		}
	}
	return nil
}

// longNames are a flag's name and, where it has one, the name that says the contrary.
func longNames(flag *kong.Flag) []string {
	names := []string{"--" + flag.Name}
	switch negation := flag.Tag.Negatable; negation {
	case "":
	case "_": // kong's mark for the name it makes itself
		names = append(names, "--no-"+flag.Name)
	default:
		names = append(names, "--"+negation)
	}
	return names
}

func takesValue(flag *kong.Flag) bool { return !flag.IsBool() && !flag.IsCounter() }

// several says whether a flag takes all words up to the next flag.
func several(flag *kong.Flag) bool { return flag.Tag.Has("several") }

func passesThrough(v *kong.Value) bool { return v.PassthroughMode != kong.PassThroughModeNone }

// candidates gives what may stand in place of the word that is being typed.
func (w *walk) candidates(ctx context.Context, current string, dynamic Dynamic) []Candidate {
	flagLike := strings.HasPrefix(current, "-") && !w.onlyWords
	switch {
	case w.pending != nil && !(flagLike && w.filled):
		return valuesOf(ctx, w.pending.Value, w.filled, current, dynamic)
	case flagLike && strings.HasPrefix(current, "--") && strings.Contains(current, "="):
		name, value, _ := strings.Cut(current, "=")
		flag, _ := w.long(name)
		if flag == nil {
			return nil
		}
		return prefixed(name+"=", valuesOf(ctx, flag.Value, false, value, dynamic))
	case flagLike:
		return w.flagNames(current)
	}
	candidates := w.commands(current)
	arguments := w.node
	if arguments.DefaultCmd != nil && len(arguments.Positional) == 0 && !w.onlyWords {
		arguments = arguments.DefaultCmd
	}
	if w.positional < len(arguments.Positional) {
		candidates = append(candidates,
			valuesOf(ctx, arguments.Positional[w.positional], w.begun, current, dynamic)...)
	} else if len(candidates) == 0 && current == "" && !w.onlyWords {
		candidates = w.flagNames("--") // nothing else can follow
	}
	return candidates
}

// commands are the names that fit, and an alias where the name that it stands for doesn't.
func (w *walk) commands(current string) []Candidate {
	if w.onlyWords {
		return nil
	}
	var candidates []Candidate
	for _, child := range w.node.Children {
		if child.Hidden || child.Type == kong.ArgumentNode {
			continue
		}
		for _, name := range append([]string{child.Name}, child.Aliases...) {
			if strings.HasPrefix(name, current) {
				candidates = append(candidates, Candidate{Value: name, Description: child.Help})
				break
			}
		}
	}
	return candidates
}

// flagNames are the flags that may still be given. A single dash shows the long names; one with its
// letter only itself.
func (w *walk) flagNames(current string) []Candidate {
	var candidates []Candidate
	for _, flag := range w.flags() {
		if flag.Hidden || w.given[flag] && !flag.IsCumulative() && !flag.IsCounter() {
			continue
		}
		if flag.Short != 0 && current == "-"+string(flag.Short) {
			candidates = append(candidates, Candidate{Value: current, Description: flag.Help})
		}
		for _, name := range longNames(flag) {
			// Someone who types underscores goes on with them.
			if strings.Contains(current, "_") && strings.HasPrefix(dashes(name), dashes(current)) {
				name = current + name[len(current):]
			}
			candidates = append(candidates, Candidate{Value: name, Description: flag.Help})
		}
	}
	return candidates
}

func prefixed(prefix string, candidates []Candidate) []Candidate {
	for i := range candidates {
		candidates[i].Value = prefix + candidates[i].Value
	}
	return candidates
}
