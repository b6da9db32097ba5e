package grid

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// Files is how value lists reach files: os.ReadFile and filepath.Glob, seen from where the user
// stands.
type Files struct {
	Read func(name string) ([]byte, error)
	Glob func(pattern string) ([]string, error)
}

// maxValues is how many values one variable may have.
const maxValues = MaxCells

// ParseAxis reads NAME=V1,V2,…. A value is
//
//	text       as it stands; a backslash before a comma, a quote, @ or a backslash makes that
//	           part of the text
//	"text"     or 'text': the text between, commas and all
//	1..8       a range of numbers; 1..8+2 with a step, 1..64*2 with a factor, 0.1..0.5/5 in five
//	           even steps
//	@FILE      the lines of a file, blank ones and those that begin with # left out
//	@GLOB      the names of the files that match, in order
func ParseAxis(word string, files Files) (Axis, error) {
	name, list, ok := strings.Cut(word, "=")
	if !ok || name == "" {
		return Axis{}, errorf("%q is not of the form KEY=V1,V2,…", word).
			hint("a command or path with blanks must be quoted")
	}
	if !IsName(name) {
		return Axis{}, errorf("%q can't be a variable's name", name).
			hint("use letters, digits and underscores, and begin with a letter")
	}
	items, err := splitItems(list)
	if err != nil {
		return Axis{}, errorf("%s: %v", name, err).
			hint("a quote that is part of a value is written \\\"")
	}
	axis := Axis{Name: name}
	for _, it := range items {
		values, err := it.values(files)
		if err != nil {
			var own *Error
			if errors.As(err, &own) {
				own.Msg = name + ": " + own.Msg
			}
			return Axis{}, err
		}
		if axis.Values = append(axis.Values, values...); len(axis.Values) > maxValues {
			return Axis{}, errorf("the variable %s has more than %d values", name, maxValues)
		}
	}
	for _, v := range axis.Values {
		if strings.IndexByte(v, 0) >= 0 {
			return Axis{}, errorf("a value of %s has a zero byte in it", name)
		}
	}
	return axis, nil
}

// item is a piece of a list between commas. What was quoted or escaped at its beginning is text,
// and nothing else.
type item struct {
	text    string
	literal bool
}

func (it item) values(files Files) ([]string, error) {
	if it.literal {
		return []string{it.text}, nil
	}
	if name, ok := strings.CutPrefix(it.text, "@"); ok {
		if name == "" {
			return nil, errorf("@ is without the name of a file").
				hint("write @names.txt, or quote it to take it as text: '\"@\"'")
		}
		return files.values(name)
	}
	if r, ok, err := parseRange(it.text); err != nil {
		return nil, err
	} else if ok {
		return r.values()
	}
	return []string{it.text}, nil
}

// splitItems cuts a list at its commas, and takes quotes and backslashes away.
func splitItems(list string) ([]item, error) {
	var items []item
	for {
		it, rest, more, err := nextItem(list)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
		if !more {
			return items, nil
		}
		list = rest
	}
}

// nextItem reads up to the next comma. A quote counts only where an item begins, and what it opens
// has to end with the item; the only item of a list may begin with a quote that is text. An object
// or a list in JSON is one item, whatever commas it has.
func nextItem(list string) (it item, rest string, more bool, err error) {
	switch {
	case list == "":
	case list[0] == '"' || list[0] == '\'':
		value, after, closed := unquote(list)
		if closed && (after == len(list) || list[after] == ',') {
			it = item{value, true}
			if after == len(list) {
				return it, "", false, nil
			}
			return it, list[after+1:], true, nil
		}
		if strings.Contains(list, ",") {
			why := "the quote is never closed"
			if closed {
				why = "the quote closes in its middle"
			}
			return it, "", false, errorf("a value begins with %c, and %s", list[0], why)
		}
	case list[0] == '{' || list[0] == '[':
		if after := jsonEnd(list); after == len(list) {
			return item{list, true}, "", false, nil
		} else if after > 0 && list[after] == ',' {
			return item{list[:after], true}, list[after+1:], true, nil
		}
	}
	var text strings.Builder
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && i+1 < len(list) && strings.IndexByte(`,\"'@`, list[i+1]) >= 0:
			it.literal = it.literal || i == 0
			i++
			text.WriteByte(list[i])
		case c == ',':
			it.text = text.String()
			return it, list[i+1:], true, nil
		default:
			text.WriteByte(c)
		}
	}
	it.text = text.String()
	return it, "", false, nil
}

// unquote reads a text between quotes, and says where it goes on after them. Between double ones, a
// backslash before a quote or another backslash makes that part of the text.
func unquote(list string) (text string, after int, closed bool) {
	var b strings.Builder
	quote := list[0]
	for i := 1; i < len(list); i++ {
		switch c := list[i]; {
		case c == quote:
			return b.String(), i + 1, true
		case c == '\\' && quote == '"' && i+1 < len(list) &&
			(list[i+1] == '"' || list[i+1] == '\\'):
			i++
			b.WriteByte(list[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", len(list), false
}

// jsonEnd is where the JSON that a list begins with ends, 0 when it begins with none.
func jsonEnd(list string) int {
	decoder := json.NewDecoder(strings.NewReader(list))
	var value json.RawMessage
	if decoder.Decode(&value) != nil {
		return 0
	}
	return int(decoder.InputOffset())
}

// values are the lines of a file, or the names that a pattern matches.
func (f Files) values(name string) ([]string, error) {
	if strings.ContainsAny(name, "*?[") {
		names, err := f.Glob(name)
		if errors.Is(err, filepath.ErrBadPattern) {
			return nil, errorf("@%s is no pattern for file names", name)
		} else if err != nil {
			return nil, errorf("look for files like %s: %v", name, err)
		}
		if len(names) == 0 {
			return nil, errorf("no file matches %s", name).
				hint("quote the value to take it as it stands: '\"@%s\"'", name)
		}
		return names, nil
	}
	data, err := f.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errorf("there is no file %s to take values from", name).
			hint("\\@%s is the text itself", name)
	} else if err != nil {
		return nil, errorf("take values from %s: %v", name, err)
	}
	var values []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			values = append(values, line)
		}
	}
	if len(values) == 0 {
		return nil, errorf("%s has no values in it", name).hint("write one a line")
	}
	return values, nil
}

// Term is a variable and the values that are meant of it.
type Term struct {
	Name   string
	Values []string
}

// Pick means cells: those that have one of the values of each term.
type Pick []Term

// ParsePick reads NAME=V,NAME=V1,V2,…: a piece without a name is one more value of the name before
// it.
func ParsePick(text string, files Files) (Pick, error) {
	items, err := splitItems(text)
	if err != nil {
		return nil, err
	}
	var p Pick
	for _, it := range items {
		name, value, ok := strings.Cut(it.text, "=")
		if ok && IsName(name) && !it.literal {
			if p.find(name) != nil {
				return nil, errorf("%q names %s twice", text, name).
					hint("write its values one after the other: %s=V1,V2", name)
			}
			p = append(p, Term{Name: name})
			it, _, _, err = nextItem(value)
			if err != nil {
				return nil, err
			}
		} else if len(p) == 0 {
			return nil, errorf("%q is not of the form NAME=VALUE,NAME=VALUE,…", text)
		}
		values, err := it.values(files)
		if err != nil {
			return nil, err
		}
		last := &p[len(p)-1]
		last.Values = append(last.Values, values...)
	}
	return p, nil
}

func (p Pick) find(name string) *Term {
	for i := range p {
		if p[i].Name == name {
			return &p[i]
		}
	}
	return nil
}

func (p Pick) String() string {
	words := make([]string, len(p))
	for i, t := range p {
		words[i] = t.Name + "=" + strings.Join(t.Values, ",")
	}
	return strings.Join(words, ",")
}
