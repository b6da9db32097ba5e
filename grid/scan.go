package grid

import (
	"strconv"
	"strings"
)

// token is a word of a condition.
type token struct {
	kind tokenKind
	text string
}

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenText // was quoted
	tokenCompare
	tokenArithmetic
	tokenSign // parentheses and connectives
)

// is says that the token is this sign.
func (t token) is(sign string) bool { return t.kind == tokenSign && t.text == sign }

// spelled are the connectives that may be written as words.
var spelled = map[string]string{"and": "&&", "or": "||", "not": "!"}

// scan cuts a condition into its tokens; the last one is tokenEnd.
func scan(text string) ([]token, error) {
	var tokens []token
	for i := 0; i < len(text); {
		rest := text[i:]
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n':
			i++
			continue
		case c == '"' || c == '\'':
			end := strings.IndexByte(rest[1:], c)
			if end < 0 {
				return nil, errorf("the condition %s can't be read: a quote is never closed",
					strconv.Quote(text))
			}
			tokens = append(tokens, token{tokenText, rest[1 : 1+end]})
			i += end + 2
			continue
		}
		t := sign(rest)
		if t.text != "" {
			i += len(t.text)
			if t.text == "=" {
				t.text = "=="
			}
			tokens = append(tokens, t)
			continue
		}
		word := wordAt(rest)
		if word == "" {
			return nil, errorf("the condition %s can't be read: what is %q?", strconv.Quote(text),
				string([]rune(rest)[:1])).
				hint("put text between quotes: NAME == \"a&b\"")
		}
		i += len(word)
		if sign, ok := spelled[word]; ok {
			tokens = append(tokens, token{tokenSign, sign})
			continue
		}
		tokens = append(tokens, token{tokenWord, word})
	}
	return append(tokens, token{}), nil
}

// sign reads an operator at the beginning of s.
func sign(s string) token {
	for _, two := range []string{"<=", ">=", "==", "!="} {
		if strings.HasPrefix(s, two) {
			return token{tokenCompare, two}
		}
	}
	for _, two := range []string{"&&", "||"} {
		if strings.HasPrefix(s, two) {
			return token{tokenSign, two}
		}
	}
	switch s[0] {
	case '<', '>', '=':
		return token{tokenCompare, s[:1]}
	case '+', '-', '*', '/', '%':
		return token{tokenArithmetic, s[:1]}
	case '(', ')', '!':
		return token{tokenSign, s[:1]}
	}
	return token{}
}

// wordAt reads a name, a number or a bare text at the beginning of s. An exponent's sign belongs to
// its number.
func wordAt(s string) string {
	i := 0
	for ; i < len(s); i++ {
		c := s[i]
		if c == '_' || c == '.' || c >= 0x80 || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
			'0' <= c && c <= '9' {
			continue
		}
		if (c == '+' || c == '-') && i > 0 && (s[i-1] == 'e' || s[i-1] == 'E') && i+1 < len(s) &&
			'0' <= s[i+1] && s[i+1] <= '9' &&
			strings.Trim(s[:i-1], "0123456789.") == "" && i > 1 {
			continue
		}
		break
	}
	return s[:i]
}
