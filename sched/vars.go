package sched

import (
	"regexp"
	"sort"
	"strings"
	"sync"
)

// Builtins are the names that the daemon itself gives values to. They can't be set.
var builtins = map[string]bool{
	"MACHINE": true, "HOST": true, "USER": true, "PORT": true, "SLOT": true, "SLOTS": true,
	"CLASS": true,
	"JID":   true, "ATTEMPT": true, "MATRIX": true, "TAG": true, "REPEAT": true, seedName: true,
	afterName: true, afterResultsName: true,
}

var nameRE = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
})

// checkName refuses what can't be a variable's name.
func checkName(name string) error {
	if !nameRE().MatchString(name) {
		return errorf(Invalid, "%q can't be a variable's name", name).
			hint("use letters, digits and underscores, and begin with a letter")
	}
	if builtins[name] {
		return errorf(Invalid, "{%s} is set by the daemon itself", name).hint("choose another name")
	}
	return nil
}

// part is a piece of a template: text as it stands, or a placeholder.
type part struct {
	text string
	name string // "" : text only
}

// parse splits a template at its placeholders. A placeholder is {NAME} not preceded by `$`;
// {{NAME}} is the text {NAME}; any other brace is text.
func parse(s string) []part {
	var parts []part
	start := 0
	for i := 0; i < len(s); i++ {
		if s[i] != '{' || i > 0 && s[i-1] == '$' {
			continue
		}
		if strings.HasPrefix(s[i:], "{{") {
			if name, n := bracedName(s[i+1:]); n > 0 && strings.HasPrefix(s[i+1+n:], "}") &&
				(isUpper(name) || builtins[name]) {
				parts = append(parts, part{text: s[start:i] + s[i+1:i+1+n]})
				i += n + 1
				start = i + 1
				continue
			}
		}
		if name, n := bracedName(s[i:]); n > 0 {
			parts = append(parts, part{text: s[start:i]}, part{text: s[i : i+n], name: name})
			i += n - 1
			start = i + 1
		}
	}
	return append(parts, part{text: s[start:]})
}

// bracedName reads {NAME} at the start of s and says how long it is. It looks no further
// than the name goes, as there may be as many braces as bytes.
func bracedName(s string) (name string, n int) {
	end := 1
	for end < len(s) && isNameByte(s[end]) {
		end++
	}
	if end < 2 || end == len(s) || s[end] != '}' || s[1] >= '0' && s[1] <= '9' {
		return "", 0
	}
	return s[1:end], end + 1
}

func isNameByte(c byte) bool {
	return c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

func isUpper(s string) bool { return s == strings.ToUpper(s) }

// Names lists the placeholders of a template, each once, in order.
func Names(template string) []string {
	var names []string
	seen := map[string]bool{}
	for _, p := range parse(template) {
		if p.name != "" && !seen[p.name] {
			seen[p.name] = true
			names = append(names, p.name)
		}
	}
	return names
}

// singleQuoted tells whether a placeholder stands between single quotes, as a shell reads the
// template.
func singleQuoted(template, name string) bool {
	quote := byte(0)
	for _, p := range parse(template) {
		if p.name == name && quote == '\'' {
			return true
		}
		for i := 0; i < len(p.text); i++ {
			switch c := p.text[i]; {
			case c == quote:
				quote = 0
			case quote == '\'':
			case c == '\\':
				i++
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
			}
		}
	}
	return false
}

// Expand replaces each placeholder that value knows, in one pass: a value is never expanded again.
// When that would have more than limit bytes, it stops and gives their beginning: a short template
// can name a long value very often.
func Expand(
	template string, limit int, value func(name string) (string, bool),
) (text string, whole bool) {
	var b strings.Builder
	for _, p := range parse(template) {
		text := p.text
		if p.name != "" {
			if v, ok := value(p.name); ok {
				text = v
			}
		}
		if room := limit - b.Len(); len(text) > room {
			b.WriteString(text[:room])
			return b.String(), false
		}
		b.WriteString(text)
	}
	return b.String(), true
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// SplitWords splits a driver's command line as a shell splits words: blanks separate, '…' and "…"
// group, a backslash takes the next byte as it is. Nothing is expanded.
func SplitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, errorf(Invalid, "the command has a ' that is never closed").
					hint("close it, or write \\' for the character itself")
			}
			word.WriteString(s[i+1 : i+1+end])
			i += end + 1
			inWord = true
		case '"':
			inWord = true
			for i++; ; i++ {
				if i >= len(s) {
					return nil, errorf(Invalid, `the command has a " that is never closed`).
						hint(`close it, or write \" for the character itself`)
				}
				if s[i] == '"' {
					break
				}
				// Between double quotes a backslash is itself, except before these.
				if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`\n", s[i+1]) >= 0 {
					i++
				}
				word.WriteByte(s[i])
			}
		case '\\':
			if i+1 >= len(s) {
				return nil, errorf(Invalid, `the command ends with a lone \`).
					hint(`write \\ for the character itself`)
			}
			i++
			if s[i] != '\n' {
				word.WriteByte(s[i])
				inWord = true
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
