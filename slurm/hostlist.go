package slurm

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxNodes is how many nodes of an allocation are told apart.
const MaxNodes = 1000

// expand writes out a list of nodes as Slurm does it, n[01-03,7],login: nil for what is no list, or
// has more than MaxNodes.
func expand(list string) []string {
	var all []string
	for word := range splitOutside(list) {
		names := []string{""}
		for word != "" && names != nil {
			before, rest, ranged := strings.Cut(word, "[")
			inside, after, closed := strings.Cut(rest, "]")
			if ranged != closed || !isHost(before) {
				return nil
			}
			names = combine(names, before, inside, ranged)
			word = after
		}
		if len(names) == 0 || names[0] == "" || len(all)+len(names) > MaxNodes {
			return nil
		}
		all = append(all, names...)
	}
	return all
}

// splitOutside gives the words between those commas that are in no brackets.
func splitOutside(list string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		depth, from := 0, 0
		for i, c := range list {
			switch {
			case c == '[':
				depth++
			case c == ']':
				depth--
			case c == ',' && depth == 0:
				if !yield(list[from:i]) {
					return
				}
				from = i + 1
			}
		}
		yield(list[from:])
	}
}

// isHost says that a text is part of a host's name.
func isHost(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	return strings.Trim(s, letters) == ""
}

// combine puts a text, and each of the numbers of some ranges, behind each name; nil for what is no
// range, or too many.
func combine(names []string, text, ranges string, ranged bool) (all []string) {
	ends := []string{""}
	if ranged {
		ends = numbers(ranges)
	}
	if len(names)*len(ends) > MaxNodes {
		return nil
	}
	for _, name := range names {
		for _, end := range ends {
			all = append(all, name+text+end)
		}
	}
	return all
}

// numbers writes out 01-03,7; nil for what is no such list.
func numbers(ranges string) (all []string) {
	for one := range strings.SplitSeq(ranges, ",") {
		first, last, ranged := strings.Cut(one, "-")
		if !ranged {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 32)
		to, err2 := strconv.ParseUint(last, 10, 32)
		if err1 != nil || err2 != nil || to < from || to-from >= MaxNodes ||
			len(all) > MaxNodes {
			return nil
		}
		for n := from; n <= to; n++ {
			all = append(all, fmt.Sprintf("%0*d", len(first), n))
		}
	}
	return all
}
