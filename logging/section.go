package logging

import (
	"fmt"

	"gopkg.in/yaml.v3"
)

// section is a mapping in the configuration. Its keys are taken one by one,
// so that those which nobody takes can be named.
type section struct {
	what string // what it configures, for messages: `appender "stdout"`
	line int
	left []field
}

type field struct {
	key   string
	line  int
	value *yaml.Node
}

func newSection(what string, n *yaml.Node) (*section, error) {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: %s: expected a mapping", n.Line, what)
	}
	s := &section{what: what, line: n.Line}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: %s: a key has to be a word", k.Line, what)
		}
		if seen[k.Value] {
			return nil, fmt.Errorf("line %d: %s: key %q is there twice", k.Line, what, k.Value)
		}
		seen[k.Value] = true
		s.left = append(s.left, field{key: k.Value, line: k.Line, value: follow(n.Content[i+1])})
	}
	return s, nil
}

// follow goes from an alias (*name) to what it stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// take removes a key and returns its value, nil if it isn't there or is null.
func (s *section) take(key string) *yaml.Node {
	for i, f := range s.left {
		if f.key == key {
			s.left = append(s.left[:i:i], s.left[i+1:]...)
			if f.value.ShortTag() == "!!null" {
				return nil
			}
			return f.value
		}
	}
	return nil
}

// missing is the error for a key that has to be there.
func (s *section) missing(key string) error {
	return fmt.Errorf("line %d: %s: %s is missing", s.line, s.what, key)
}

// done is an error if a key is left.
func (s *section) done() error {
	if len(s.left) == 0 {
		return nil
	}
	return fmt.Errorf("line %d: %s: unknown key %q", s.left[0].line, s.what, s.left[0].key)
}

// text takes a key that is a string, "" if it isn't there.
func (s *section) text(key string) (string, error) {
	n := s.take(key)
	if n == nil {
		return "", nil
	}
	if n.Kind != yaml.ScalarNode {
		return "", fmt.Errorf("line %d: %s: %s has to be a string", n.Line, s.what, key)
	}
	return n.Value, nil
}

// parsed takes a key that is a string with a meaning of its own, and says
// whether it was there.
func (s *section) parsed(key string, parse func(string) error) (bool, error) {
	n := s.take(key)
	if n == nil {
		return false, nil
	}
	if n.Kind != yaml.ScalarNode {
		return true, fmt.Errorf("line %d: %s: %s has to be a single value", n.Line, s.what, key)
	}
	if err := parse(n.Value); err != nil {
		return true, fmt.Errorf("line %d: %s: %s: %w", n.Line, s.what, key, err)
	}
	return true, nil
}

// required is parsed for a key that has to be there.
func (s *section) required(key string, parse func(string) error) error {
	there, err := s.parsed(key, parse)
	if err == nil && !there {
		err = s.missing(key)
	}
	return err
}

// decoded takes a key whose YAML type matters, such as a boolean, into the
// variable that into points to, and leaves that alone if the key isn't there.
func (s *section) decoded(key, tag string, into any) error {
	n := s.take(key)
	if n == nil {
		return nil
	}
	if n.ShortTag() != tag {
		return fmt.Errorf("line %d: %s: %s: expected %s, not %q", n.Line, s.what, key,
			typeName(tag), n.Value)
	}
	if err := n.Decode(into); err != nil {
		return fmt.Errorf("line %d: %s: %s: %q is out of range", n.Line, s.what, key, n.Value)
	}
	return nil
}

func typeName(tag string) string {
	if tag == "!!bool" {
		return "true or false"
	}
	return "a whole number"
}

// names takes a key that is a list of strings.
func (s *section) names(key string) ([]string, error) {
	n := s.take(key)
	if n == nil {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: %s: %s has to be a list", n.Line, s.what, key)
	}
	var names []string
	for _, item := range n.Content {
		if item = follow(item); item.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: %s: %s has to be a list of names", item.Line, s.what,
				key)
		}
		names = append(names, item.Value)
	}
	return names, nil
}

// section takes a key that is a mapping, nil if it isn't there.
func (s *section) section(key, what string) (*section, error) {
	n := s.take(key)
	if n == nil {
		return nil, nil
	}
	return newSection(what, n)
}
