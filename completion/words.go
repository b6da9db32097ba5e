package completion

import "strings"

// split takes a line apart as a shell would: blanks separate words, quotes and backslashes keep
// them together. The last word, which the cursor touches, comes alone; it is "" after a blank. A
// quote that is still open ends with the line.
func split(line string) (words []string, current string) {
	var word strings.Builder
	begun := false
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'':
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\\' && i+1 < len(line):
			i++
			// Between double quotes a backslash only quotes these (POSIX 2.2.3).
			if quote == '"' && !strings.ContainsRune("$`\"\\", rune(line[i])) {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
			begun = true
		case c == '\\':
			begun = true // what it quotes isn't typed yet
		case quote == '"':
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\'' || c == '"':
			quote = c
			begun = true
		case c == ' ' || c == '\t' || c == '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	return words, word.String()
}

// quoted is how a word is to be typed into bash, so that it arrives as it is.
func quoted(word string) string {
	const special = " \t\"'\\$`!&|;<>(){}[]*?#"
	var b strings.Builder
	for i := range len(word) {
		// Bytes of longer characters are never special, and ~ and # only at the beginning.
		if strings.IndexByte(special, word[i]) >= 0 && (word[i] != '#' || i == 0) {
			b.WriteByte('\\')
		}
		b.WriteByte(word[i])
	}
	return b.String()
}
