package logging

import (
	"fmt"
	"path/filepath"
)

func (b *builder) addAppender(ac appenderConfig) error {
	a := &appender{name: ac.name, floor: levelAll}
	for _, fc := range ac.filters {
		if err := a.addFilter(fc); err != nil {
			b.leaveOut(err) // the filter, not its appender
		}
	}
	var err error
	if a.encoder, err = b.encoder(ac.body); err != nil {
		return err
	}
	switch ac.kind {
	case "console":
		err = b.console(a, ac.body)
	case "file":
		err = b.file(a, ac.body)
	case "rolling_file":
		err = b.rollingFile(a, ac.body)
	default:
		err = fmt.Errorf("line %d: %s: unknown kind %q (console, file or rolling_file)",
			ac.body.line, ac.body.what, ac.kind)
	}
	if err == nil {
		b.appenders[ac.name] = a
	}
	return err
}

// addFilter adds a threshold, log4rs's only filter. Alone of all parts it
// takes no offence at unknown keys; configurations in use rely on that.
func (a *appender) addFilter(fc filterConfig) error {
	if fc.kind != "threshold" {
		return fmt.Errorf("line %d: %s: unknown kind %q (threshold)", fc.body.line, fc.body.what,
			fc.kind)
	}
	return fc.body.required("level", func(s string) error {
		level, err := parseLevel(s)
		if err == nil {
			a.floor = max(a.floor, level)
		}
		return err
	})
}

func (b *builder) encoder(body *section) (encoder, error) {
	text, kind := defaultPattern, "pattern"
	s, err := body.section("encoder", "encoder of "+body.what)
	if err != nil {
		return nil, err
	}
	if s != nil {
		if _, err := s.parsed("kind", func(k string) error { kind = k; return nil }); err != nil {
			return nil, err
		}
	}
	switch kind {
	case "json":
		if s != nil {
			err = s.done()
		}
		return jsonEncoder{local: b.log.opt.Location}, err
	case "pattern":
	default:
		return nil, fmt.Errorf("line %d: %s: unknown kind %q (pattern or json)", s.line, s.what,
			kind)
	}
	if s != nil {
		if _, err := s.parsed("pattern",
			func(p string) error { text = p; return nil }); err != nil {
			return nil, err
		}
		if err := s.done(); err != nil {
			return nil, err
		}
	}
	p, problems := newPattern(text, b.log.opt.Location)
	for _, problem := range problems {
		b.log.report(fmt.Errorf("line %d: %s: pattern: %w (shown in its place)", s.line, s.what,
			problem))
	}
	return p, nil
}

func (b *builder) console(a *appender, body *section) error {
	out, ttyOnly := b.log.stdout, false
	if _, err := body.parsed("target", func(s string) error {
		switch s {
		case "stdout":
		case "stderr":
			out = b.log.stderr
		default:
			return fmt.Errorf("unknown target %q (stdout or stderr)", s)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := body.decoded("tty_only", "!!bool", &ttyOnly); err != nil {
		return err
	}
	a.sink, a.color = out, out.colors(b.log.opt.LookupEnv)
	if ttyOnly && !out.tty && !a.color {
		a.sink = nowhere{}
	}
	return body.done()
}

// path takes the path of a log file, with its variables put in.
func (b *builder) path(body *section) (string, error) {
	path, err := body.text("path")
	if err == nil && path == "" {
		err = body.missing("path")
	}
	return expandEnv(path, b.log.lookupEnv), err
}

func (b *builder) file(a *appender, body *section) error {
	path, err := b.path(body)
	if err != nil {
		return err
	}
	if path, err = expandTime(path, b.log.now()); err != nil {
		return fmt.Errorf("line %d: %s: path: %w", body.line, body.what, err)
	}
	appending := true
	if err := body.decoded("append", "!!bool", &appending); err != nil {
		return err
	}
	if err := body.done(); err != nil {
		return err
	}
	file, _, err := b.open(path, appending)
	if err != nil {
		return fmt.Errorf("line %d: %s: %w", body.line, body.what, err)
	}
	a.sink = &fileSink{file: file}
	return nil
}

func (b *builder) rollingFile(a *appender, body *section) error {
	path, err := b.path(body)
	if err != nil {
		return err
	}
	appending := true
	if err := body.decoded("append", "!!bool", &appending); err != nil {
		return err
	}
	p, err := b.policy(body)
	if err != nil {
		return err
	}
	if err := body.done(); err != nil {
		return err
	}
	file, first, err := b.open(path, appending)
	if err != nil {
		return fmt.Errorf("line %d: %s: %w", body.line, body.what, err)
	}
	if t, ok := p.trigger.(*startupTrigger); ok {
		t.done = !first
	}
	a.sink = &fileSink{file: file, policy: p}
	return nil
}

// open gives the file at path, the one in use if there is one. first says
// that this process never had it open before: only then it is emptied, or
// rolled on startup, since a new configuration isn't a new start.
func (b *builder) open(path string, appending bool) (file *logFile, first bool, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, false, err
	}
	first = !b.log.known[path]
	if file = b.conf.files[path]; file == nil {
		file = b.log.current.Load().files[path]
	}
	if file == nil {
		if file, err = openLogFile(path, first && !appending); err != nil {
			return nil, false, err
		}
	}
	b.log.known[path] = true
	b.conf.files[path] = file
	return file, first, nil
}
