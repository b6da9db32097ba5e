package logging

import (
	"encoding"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"time"
)

// event is a record with all that an encoder may print of it.
type event struct {
	time    time.Time
	level   slog.Level
	name    string // of the logger
	message string
	source  source

	context []attr // the logger's attributes, in the order they were added
	text    []byte // the same as " key=value", made once for each logger

	record slog.Record // for its attributes
	prefix string      // of their keys: the groups that are open
}

// attr is an attribute outside of groups: their names are in the key,
// joined with points.
type attr struct {
	key   string
	value slog.Value
}

// each calls f for the record's own attributes, until it says false.
func (ev *event) each(f func(key string, v slog.Value) bool) {
	ev.record.Attrs(func(a slog.Attr) bool { return flatten(ev.prefix, a, f) })
}

// flatten calls f for a, or for the attributes in it if it is a group, as
// [slog.Handler] wants it: values resolved, empty attributes ignored, groups
// without a name taken as their content. It says false when f did.
func flatten(prefix string, a slog.Attr, f func(key string, v slog.Value) bool) bool {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		if a.Key == "" && v.Equal(slog.Value{}) {
			return true
		}
		if prefix != "" {
			return f(prefix+a.Key, v)
		}
		return f(a.Key, v)
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, inner := range v.Group() {
		if !flatten(prefix, inner, f) {
			return false
		}
	}
	return true
}

// appendText appends all attributes as " key=value".
func (ev *event) appendText(buf []byte) []byte {
	buf = append(buf, ev.text...)
	if ev.record.NumAttrs() == 0 {
		return buf
	}
	ev.each(func(key string, v slog.Value) bool {
		buf = appendAttr(buf, key, v)
		return true
	})
	return buf
}

func appendAttr(buf []byte, key string, v slog.Value) []byte {
	buf = appendQuotedIfNeeded(append(buf, ' '), key)
	return appendValue(append(buf, '='), v, appendQuotedIfNeeded)
}

// lookUp finds an attribute by its key: of the logger first if mdc is set,
// of the record first otherwise. The newest wins.
func (ev *event) lookUp(key string, mdc bool) (value slog.Value, ok bool) {
	inContext := func() {
		for i := len(ev.context) - 1; i >= 0 && !ok; i-- {
			if ev.context[i].key == key {
				value, ok = ev.context[i].value, true
			}
		}
	}
	inRecord := func() {
		ev.each(func(k string, v slog.Value) bool {
			if k == key {
				value, ok = v, true
			}
			return true
		})
	}
	if mdc {
		inContext()
	}
	if !ok {
		inRecord()
	}
	if !mdc && !ok {
		inContext()
	}
	return value, ok
}

// appendValue appends v; what is text in it goes through the given function,
// everything else needs no escaping.
func appendValue(buf []byte, v slog.Value, text func([]byte, string) []byte) []byte {
	switch v.Kind() {
	case slog.KindString:
		return text(buf, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(buf, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(buf, v.Uint64(), 10)
	case slog.KindFloat64:
		return strconv.AppendFloat(buf, v.Float64(), 'g', -1, 64)
	case slog.KindBool:
		return strconv.AppendBool(buf, v.Bool())
	case slog.KindDuration:
		return append(buf, v.Duration().String()...)
	case slog.KindTime:
		return v.Time().AppendFormat(buf, time.RFC3339Nano)
	}
	return text(buf, anyText(v.Any()))
}

// anyText is the text of a value of no kind that slog knows. A method that
// panics must not take the daemon with it: it is run to write a log line.
func anyText(value any) (s string) {
	defer func() {
		if r := recover(); r != nil {
			if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && v.IsNil() {
				s = "<nil>"
			} else {
				s = fmt.Sprintf("!PANIC: %v", r)
			}
		}
	}()
	switch v := value.(type) {
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		if err != nil {
			return "!ERROR: " + err.Error()
		}
		return string(text)
	case []byte:
		return string(v)
	}
	return fmt.Sprintf("%+v", value) // errors and Stringers too
}
