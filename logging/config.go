package logging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// fileConfig is a configuration as it was read. An error up to here is one
// of the whole file, as in log4rs; what is in an appender or a filter is only
// looked at when it is built, and an error there costs that part alone.
type fileConfig struct {
	refresh   time.Duration // 0: the file isn't looked at again
	root      loggerConfig
	loggers   []loggerConfig
	appenders []appenderConfig
}

type loggerConfig struct {
	name      string
	line      int
	level     slog.Level
	appenders []string
	additive  bool
}

type appenderConfig struct {
	name    string
	kind    string
	filters []filterConfig
	body    *section
}

type filterConfig struct {
	kind string
	body *section
}

// minRefresh keeps a refresh_rate of next to nothing from becoming a busy
// loop.
const minRefresh = 100 * time.Millisecond

// parseConfig reads a configuration. Its errors name the line.
func parseConfig(text []byte) (*fileConfig, error) {
	top, err := parseDocument(text)
	if err != nil {
		return nil, err
	}
	c := &fileConfig{root: loggerConfig{name: "root", level: slog.LevelDebug}}
	if _, err := top.parsed("refresh_rate", func(s string) (err error) {
		c.refresh, err = parseDuration(s)
		c.refresh = max(c.refresh, minRefresh)
		return err
	}); err != nil {
		return nil, err
	}
	if err := c.parseAppenders(top); err != nil {
		return nil, err
	}
	if err := c.parseRoot(top); err != nil {
		return nil, err
	}
	if err := c.parseLoggers(top); err != nil {
		return nil, err
	}
	return c, top.done()
}

func parseDocument(text []byte) (*section, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty")
	case err != nil:
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	case len(doc.Content) != 1:
		return nil, errors.New("the file is empty")
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: only one document is allowed", max(second.Line, 1))
	}
	return newSection("top level", doc.Content[0])
}

func (c *fileConfig) parseAppenders(top *section) error {
	all, err := top.section("appenders", "appenders")
	if all == nil {
		return err
	}
	for _, f := range all.left {
		a := appenderConfig{name: f.key}
		if a.body, err = newSection(fmt.Sprintf("appender %q", f.key), f.value); err != nil {
			return err
		}
		if a.kind, err = takeKind(a.body); err != nil {
			return err
		}
		if filters := a.body.take("filters"); filters != nil {
			if a.filters, err = parseFilters(a.body.what, filters); err != nil {
				return err
			}
		}
		c.appenders = append(c.appenders, a)
	}
	return nil
}

func parseFilters(what string, n *yaml.Node) ([]filterConfig, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: %s: filters has to be a list", n.Line, what)
	}
	var filters []filterConfig
	for _, item := range n.Content {
		body, err := newSection("filter of "+what, item)
		if err != nil {
			return nil, err
		}
		kind, err := takeKind(body)
		if err != nil {
			return nil, err
		}
		filters = append(filters, filterConfig{kind: kind, body: body})
	}
	return filters, nil
}

func takeKind(s *section) (string, error) {
	kind, err := s.text("kind")
	if err == nil && kind == "" {
		err = s.missing("kind")
	}
	return kind, err
}

func (c *fileConfig) parseRoot(top *section) error {
	s, err := top.section("root", "root")
	if s == nil {
		return err
	}
	c.root.line = s.line
	if _, err = s.parsed("level", c.root.setLevel); err != nil {
		return err
	}
	if c.root.appenders, err = s.names("appenders"); err != nil {
		return err
	}
	return s.done()
}

func (c *fileConfig) parseLoggers(top *section) error {
	all, err := top.section("loggers", "loggers")
	if all == nil {
		return err
	}
	for _, f := range all.left {
		l := loggerConfig{name: f.key, line: f.line, additive: true}
		s, err := newSection(fmt.Sprintf("logger %q", f.key), f.value)
		if err != nil {
			return err
		}
		if err := s.required("level", l.setLevel); err != nil {
			return err
		}
		if l.appenders, err = s.names("appenders"); err != nil {
			return err
		}
		if err := s.decoded("additive", "!!bool", &l.additive); err != nil {
			return err
		}
		if err := s.done(); err != nil {
			return err
		}
		c.loggers = append(c.loggers, l)
	}
	return nil
}

func (l *loggerConfig) setLevel(s string) (err error) {
	l.level, err = parseLevel(s)
	return err
}
