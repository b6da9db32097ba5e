package logging

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// handler is the slog.Handler of one logger: a name, its attributes, and
// where in the configuration it belongs.
type handler struct {
	log     *Log
	name    string
	prefix  string // the names of the open groups, each with a point behind
	context []attr
	text    []byte // context as " key=value"

	place atomic.Pointer[place]
}

// place remembers which logger of which configuration is in charge of a
// name, so that a disabled line costs two loads and no search.
type place struct {
	conf   *config
	logger *logger
}

func (h *handler) logger() *logger {
	conf := h.log.current.Load()
	if p := h.place.Load(); p != nil && p.conf == conf {
		return p.logger
	}
	p := &place{conf: conf, logger: conf.find(h.name)}
	h.place.Store(p)
	return p.logger
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	l := h.logger()
	return level >= l.level && len(l.appenders) > 0
}

// scratch is the memory that writing a record takes, kept for the next one.
type scratch struct {
	event event
	line  []byte
}

// maxScratch bounds what is kept: a huge line isn't worth remembering.
const maxScratch = 16 << 10

// Handle implements [slog.Handler]. It never fails: an appender's error goes
// to stderr.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	l := h.logger()
	if r.Level < l.level || len(l.appenders) == 0 {
		return nil
	}
	s := h.log.scratch.Get().(*scratch)
	s.event = event{
		time: r.Time, level: r.Level, name: h.name, message: r.Message,
		source:  h.log.sources.at(r.PC),
		context: h.context, text: h.text, record: r, prefix: h.prefix,
	}
	if r.Time.IsZero() {
		s.event.time = h.log.opt.Now()
	}
	for _, a := range l.appenders {
		if r.Level < a.floor {
			continue
		}
		s.line = a.encoder.append(s.line[:0], &s.event, a.color)
		if err := a.sink.write(s.line); err != nil {
			if err := a.complaint(err, h.log.opt.Now()); err != nil {
				h.log.report(err)
			}
		}
	}
	s.event = event{} // it holds the caller's values
	if cap(s.line) <= maxScratch {
		h.log.scratch.Put(s)
	}
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &handler{
		log: h.log, name: h.name, prefix: h.prefix,
		context: h.context[:len(h.context):len(h.context)],
		text:    h.text[:len(h.text):len(h.text)],
	}
	for _, a := range attrs {
		flatten(h.prefix, a, func(key string, v slog.Value) bool {
			next.context = append(next.context, attr{key: key, value: v})
			next.text = appendAttr(next.text, key, v)
			return true
		})
	}
	return next
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &handler{
		log: h.log, name: h.name, prefix: h.prefix + name + ".",
		context: h.context, text: h.text,
	}
}
