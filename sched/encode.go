package sched

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// encode gives a change's record. What machines report may have any bytes where a record has
// text (the path of a result, an error message): text that is no UTF-8 would make the record
// unreadable, so it is mended first, in the change too.
func encode(c *Change) ([]byte, error) {
	b, err := proto.Marshal(c)
	if err == nil {
		return b, nil
	}
	mend(c.ProtoReflect())
	return proto.Marshal(c)
}

// mend replaces each byte that isn't part of a character in all text of a message by U+FFFD.
func mend(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			for i, list := 0, v.List(); i < list.Len(); i++ {
				list.Set(i, protoreflect.ValueOfString(mended(list.Get(i).String())))
			}
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			for i, list := 0, v.List(); i < list.Len(); i++ {
				mend(list.Get(i).Message())
			}
		case f.Kind() == protoreflect.StringKind:
			if s := v.String(); !utf8.ValidString(s) {
				m.Set(f, protoreflect.ValueOfString(mended(s)))
			}
		case f.Kind() == protoreflect.MessageKind:
			mend(v.Message())
		}
		return true
	})
}

func mended(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
