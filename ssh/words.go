package ssh

import (
	"errors"
	"slices"
	"strings"
)

// splitWords splits a line as OpenSSH splits the arguments of its configuration: at blanks, but not
// within quotes of either kind; a backslash takes a quote, a backslash, or outside of quotes a
// blank, as it is.
func splitWords(s string) ([]string, error) {
	var words []string
	var b strings.Builder
	var quote byte
	inWord := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) &&
			(strings.IndexByte(`"'\`, s[i+1]) >= 0 || quote == 0 && s[i+1] == ' '):
			i++
			b.WriteByte(s[i])
			inWord = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if inWord {
				words = append(words, b.String())
				b.Reset()
			}
			inWord = false
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote isn't closed")
	}
	if inWord {
		words = append(words, b.String())
	}
	return words, nil
}

// quoteShell makes one word of s for a shell of any kind.
func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// quoteWord makes one argument of s for ssh's -o NAME=VALUE, in which nothing is expanded.
func quoteWord(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
	return `"` + s + `"`
}

// splitPrinted splits a list of file names as `ssh -G` prints it: without quotes, so that a blank
// within a name looks like one between two. Which of both it is, the lists tell that the
// configuration's files have.
func splitPrinted(printed string, written [][]string, x expander) []string {
	same := func(list []string) bool {
		return strings.Join(list, " ") == printed || strings.Join(x.paths(list), " ") == printed
	}
	if i := slices.IndexFunc(written, same); i >= 0 {
		return written[i]
	}
	// Should a later ssh print quotes.
	if strings.HasPrefix(printed, `"`) || strings.Contains(printed, ` "`) {
		if words, err := splitWords(printed); err == nil {
			return words
		}
	}
	// A file that wasn't found: what doesn't begin like a path goes on with the one before.
	var list []string
	for i, word := range strings.Split(printed, " ") {
		if i == 0 || word != "" && strings.IndexByte("/~%$", word[0]) >= 0 {
			list = append(list, word)
			continue
		}
		list[len(list)-1] += " " + word
	}
	return list
}
