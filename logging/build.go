package logging

import (
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"time"
)

// config is a configuration ready for use. It never changes.
type config struct {
	refresh time.Duration
	root    *logger
	loggers map[string]*logger
	files   map[string]*logFile
	partial bool // something was left out
}

// logger is a node of the tree of names: the lowest level that it lets pass,
// and where to; what it inherits is in it.
type logger struct {
	level     slog.Level
	appenders []*appender
}

// emptyConfig lets nothing pass.
func emptyConfig() *config { return &config{root: &logger{level: levelOff}} }

// find gives the logger that is in charge of name: the configured one that
// has the most of its parts.
func (c *config) find(name string) *logger {
	for name = canonical(name); name != ""; name = parent(name) {
		if l, ok := c.loggers[name]; ok {
			return l
		}
	}
	return c.root
}

// parent cuts the last part off a name, "" for one that has a single part.
func parent(name string) string {
	return name[:max(strings.LastIndex(name, "::"), 0)]
}

// canonical gives the name of the original's binary to ours.
func canonical(name string) string {
	if rest, ok := strings.CutPrefix(name, "expjobserver"); ok &&
		(rest == "" || strings.HasPrefix(rest, "::")) {
		return "server" + rest
	}
	return name
}

// checkName refuses what log4rs refuses: empty parts, and single colons.
func checkName(name string) error {
	for _, part := range strings.Split(name, "::") {
		if part == "" || strings.Contains(part, ":") {
			return fmt.Errorf("invalid logger name %q", name)
		}
	}
	return nil
}

// builder makes a config. What can't be made is reported and left out.
type builder struct {
	log       *Log
	conf      *config
	appenders map[string]*appender
}

// build compiles a configuration. It opens the files that weren't open yet;
// it changes nothing else.
func (l *Log) build(from *fileConfig) *config {
	b := builder{
		log: l,
		conf: &config{refresh: from.refresh, loggers: map[string]*logger{},
			files: map[string]*logFile{}},
		appenders: map[string]*appender{},
	}
	for _, a := range from.appenders {
		if err := b.addAppender(a); err != nil {
			b.leaveOut(err)
		}
	}
	b.conf.root = &logger{level: from.root.level, appenders: b.resolve(from.root)}

	// Parents first, because children inherit from them.
	loggers := append([]loggerConfig(nil), from.loggers...)
	sort.SliceStable(loggers, func(i, j int) bool {
		return strings.Count(loggers[i].name, "::") < strings.Count(loggers[j].name, "::")
	})
	for _, lc := range loggers {
		if err := b.addLogger(lc); err != nil {
			b.leaveOut(err)
		}
	}
	return b.conf
}

func (b *builder) leaveOut(err error) {
	b.conf.partial = true
	b.log.report(fmt.Errorf("left out: %w", err))
}

// resolve gives the appenders that a logger names.
func (b *builder) resolve(lc loggerConfig) []*appender {
	var found []*appender
	for _, name := range lc.appenders {
		if a, ok := b.appenders[name]; ok {
			found = append(found, a)
		} else {
			b.leaveOut(fmt.Errorf("line %d: logger %q: there is no appender %q", lc.line, lc.name,
				name))
		}
	}
	return found
}

func (b *builder) addLogger(lc loggerConfig) error {
	name := canonical(lc.name)
	if err := checkName(name); err != nil {
		return fmt.Errorf("line %d: %w", lc.line, err)
	}
	if _, ok := b.conf.loggers[name]; ok {
		return fmt.Errorf("line %d: logger %q is there twice (%q is another name for it)", lc.line,
			name, "expjobserver")
	}
	l := &logger{level: lc.level, appenders: b.resolve(lc)}
	if lc.additive {
		l.appenders = append(l.appenders, b.conf.find(parent(name)).appenders...)
	}
	b.conf.loggers[name] = l
	return nil
}
