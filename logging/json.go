package logging

import (
	"log/slog"
	"math"
	"strconv"
	"time"
)

// jsonEncoder writes a record as one line of JSON, with the fields that
// log4rs writes and in its order. The MDC has the logger's attributes,
// as text; the record's own follow as "attributes" where there are any.
type jsonEncoder struct{ local *time.Location }

func (j jsonEncoder) append(buf []byte, ev *event, _ bool) []byte {
	iso := dateItem{spec: '+'}
	buf = append(buf, `{"time":"`...)
	buf = iso.append(buf, ev.time.In(j.local))
	buf = append(buf, `","level":"`...)
	buf = append(buf, levelName(ev.level)...)
	buf = appendJSONString(append(buf, `","message":`...), ev.message)
	if ev.source.line != 0 {
		buf = appendJSONString(append(buf, `,"module_path":`...), ev.source.pkg)
		buf = appendJSONString(append(buf, `,"file":`...), ev.source.file)
		buf = strconv.AppendInt(append(buf, `,"line":`...), int64(ev.source.line), 10)
	}
	buf = appendJSONString(append(buf, `,"target":`...), ev.name)
	buf = append(buf, `,"thread":null,"thread_id":`...)
	buf = strconv.AppendInt(buf, int64(threadID()), 10)

	buf = append(buf, `,"mdc":{`...)
	for i, a := range ev.context {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendJSONString(buf, a.key), ':')
		buf = appendJSONString(buf, string(appendValue(nil, a.value, appendRaw)))
	}
	buf = append(buf, '}')

	first := true
	ev.each(func(key string, v slog.Value) bool {
		if first {
			buf = append(buf, `,"attributes":{`...)
		} else {
			buf = append(buf, ',')
		}
		first = false
		buf = append(appendJSONString(buf, key), ':')
		buf = appendJSONValue(buf, v)
		return true
	})
	if !first {
		buf = append(buf, '}')
	}
	return append(buf, "}\n"...)
}

// appendJSONValue keeps numbers and booleans; all else is a string.
func appendJSONValue(buf []byte, v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindInt64, slog.KindUint64, slog.KindBool:
		return appendValue(buf, v, appendJSONString)
	case slog.KindFloat64:
		if f := v.Float64(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return appendValue(buf, v, appendJSONString)
		}
	}
	return appendJSONString(buf, string(appendValue(nil, v, appendRaw)))
}

func appendRaw(buf []byte, s string) []byte { return append(buf, s...) }
