package logging

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
)

func (b *builder) policy(body *section) (*policy, error) {
	s, err := body.section("policy", "policy of "+body.what)
	if err == nil && s == nil {
		err = body.missing("policy")
	}
	if err != nil {
		return nil, err
	}
	kind, err := s.text("kind")
	if err == nil && kind != "" && kind != "compound" {
		err = fmt.Errorf("line %d: %s: unknown kind %q (compound)", s.line, s.what, kind)
	}
	if err != nil {
		return nil, err
	}
	p := &policy{report: b.log.report}
	if p.trigger, err = b.trigger(s); err != nil {
		return nil, err
	}
	if p.roller, err = b.roller(s); err != nil {
		return nil, err
	}
	return p, s.done()
}

// component takes a mapping that has to be there, and its kind.
func component(of *section, key string) (*section, string, error) {
	s, err := of.section(key, key+" of "+of.what)
	if err == nil && s == nil {
		err = of.missing(key)
	}
	if err != nil {
		return nil, "", err
	}
	kind, err := takeKind(s)
	return s, kind, err
}

func (b *builder) trigger(policy *section) (trigger, error) {
	s, kind, err := component(policy, "trigger")
	if err != nil {
		return nil, err
	}
	var t trigger
	switch kind {
	case "size":
		size := sizeTrigger{}
		err = s.required("limit", func(text string) (err error) {
			size.limit, err = parseSize(text)
			return err
		})
		t = size
	case "time":
		t, err = b.timeTrigger(s)
	case "onstartup":
		size := uint64(1)
		err = s.decoded("min_size", "!!int", &size)
		t = &startupTrigger{minSize: int64(min(size, math.MaxInt64))}
	default:
		err = fmt.Errorf("line %d: %s: unknown kind %q (size, time or onstartup)", s.line, s.what,
			kind)
	}
	if err != nil {
		return nil, err
	}
	return t, s.done()
}

func (b *builder) timeTrigger(s *section) (trigger, error) {
	t := &timeTrigger{now: b.log.now}
	if err := s.required("interval", func(text string) (err error) {
		t.every, err = parseInterval(text)
		return err
	}); err != nil {
		return nil, err
	}
	if err := s.decoded("modulate", "!!bool", &t.modulate); err != nil {
		return nil, err
	}
	var delay uint32
	err := s.decoded("max_random_delay", "!!int", &delay)
	t.maxDelay = int64(delay)
	return t, err
}

func (b *builder) roller(policy *section) (roller, error) {
	s, kind, err := component(policy, "roller")
	if err != nil {
		return nil, err
	}
	switch kind {
	case "delete":
		return deleteRoller{}, s.done()
	case "fixed_window":
		return b.windowRoller(s)
	}
	return nil, fmt.Errorf("line %d: %s: unknown kind %q (delete or fixed_window)", s.line, s.what,
		kind)
}

func (b *builder) windowRoller(s *section) (roller, error) {
	r := &windowRoller{lookup: b.log.lookupEnv}
	if err := s.required("pattern", func(text string) error {
		r.pattern = text
		if !strings.Contains(text, "{}") {
			return fmt.Errorf("%q has no {} for the number", text)
		}
		if filepath.Ext(text) == ".zst" {
			return fmt.Errorf("%q: archives can be compressed with gzip (.gz) only", text)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := s.decoded("base", "!!int", &r.base); err != nil {
		return nil, err
	}
	there := false
	for _, f := range s.left {
		there = there || f.key == "count"
	}
	if !there {
		return nil, s.missing("count")
	}
	if err := s.decoded("count", "!!int", &r.count); err != nil {
		return nil, err
	}
	if r.base+r.count < r.base {
		return nil, fmt.Errorf("line %d: %s: base and count are too large", s.line, s.what)
	}
	return r, s.done()
}
