package api

import (
	"errors"
	"reflect"
)

// encoding/gob bounds neither how deep a message is nested nor what it becomes: a recursive type
// recurses unchecked until the stack, and with it the process, ends, and a slice's or map's length
// is believed. So a message is scanned before it is decoded: its types are read, its values walked,
// and what they will take in memory, as the type that they are decoded into, is added up.

// Limits of a message's gob. Those of depth and types are well above what this package's types
// need, which a test holds.
const (
	maxScanDepth  = 16  // of types in types
	maxScanTypes  = 64  // definitions in one message
	maxScanFields = 256 // of one struct

	// What a message may become: this many times its length, and a start. Honest ones become 45
	// times as long at most.
	scanFactor = 64
	scanStart  = 1 << 20
)

var (
	errGobFormat = errors.New("it is malformed")
	errGobKind   = errors.New("it has a kind of value that no message has")
	errGobDepth  = errors.New("its types are nested too deep, or recursive")
	errGobTypes  = errors.New("it defines too many types")
	errGobCost   = errors.New("it would become far longer in memory than it is")
)

// gobKind tells what a definition makes of a type.
type gobKind int

const (
	gobSlice gobKind = iota
	gobStruct
	gobMap
	gobOpaque // bytes that a type reads itself, as time.Time does
)

// gobType is a type that a message defines.
type gobType struct {
	kind      gobKind
	key, elem int // ids
	fields    []gobField
	depth     int // 0: not known yet; -1: being looked at

	into reflect.Type   // the struct of ours for which own was made
	own  []reflect.Type // of the fields; nil: it hasn't that one
}

type gobField struct {
	name string
	id   int
}

// The ids of types that need no definition, as encoding/gob numbers them.
const (
	gobBool   = 1
	gobFloat  = 4
	gobBytes  = 5
	gobString = 6
	gobFirst  = 64 // that messages define
)

// gobScanner walks one message.
type gobScanner struct {
	b     []byte
	types map[int]*gobType
	cost  int // bytes of memory, so far
	limit int
}

// scanGob looks at a gob that is to be decoded into a value of the type, and says about how many
// bytes of memory that takes, the gob's own among them. Its error says why it must not be decoded.
func scanGob(b []byte, into reflect.Type) (cost int, err error) {
	s := &gobScanner{b: b, types: map[int]*gobType{}, limit: scanFactor*len(b) + scanStart}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case gobError:
			cost, err = 0, p.error
		default:
			panic(p)
		}
	}()
	s.pay(2*len(b), 1) // the decoder has a copy
	for {
		message := s.take(s.length())
		rest := s.b
		s.b = message
		id := s.int()
		if id >= 0 {
			if t := s.types[id]; (t == nil || t.kind != gobStruct) && s.uint() != 0 {
				s.fail(errGobFormat) // what is no struct stands behind a zero
			}
			s.value(id, into)
			if len(s.b) > 0 || len(rest) > 0 {
				s.fail(errGobFormat)
			}
			return s.cost, nil
		}
		s.define(-id)
		if len(s.b) > 0 {
			s.fail(errGobFormat)
		}
		s.b = rest
	}
}

// gobError carries an error up to scanGob.
type gobError struct{ error }

func (s *gobScanner) fail(err error) { panic(gobError{err}) }

// pay adds n times size bytes to what the message takes.
func (s *gobScanner) pay(n, size int) {
	if left := s.limit - s.cost; n < 0 || size < 0 || size > 0 && n > left/size {
		s.fail(errGobCost)
	}
	s.cost += n * size
}

// uint reads an unsigned number: a byte below 128, else how many bytes follow, negated, and these,
// big end first.
func (s *gobScanner) uint() uint64 {
	first := s.take(1)[0]
	if first < 128 {
		return uint64(first)
	}
	n := -int(int8(first))
	if n > 8 {
		s.fail(errGobFormat)
	}
	var u uint64
	for _, c := range s.take(n) {
		u = u<<8 | uint64(c)
	}
	return u
}

// int reads a signed number, whose lowest bit says that the others are complemented.
func (s *gobScanner) int() int {
	u := s.uint()
	if u&1 != 0 {
		return int(^(u >> 1))
	}
	return int(u >> 1)
}

// length reads how many bytes or elements follow: each element takes a byte at least.
func (s *gobScanner) length() int {
	n := s.uint()
	if n > uint64(len(s.b)) {
		s.fail(errGobFormat)
	}
	return int(n)
}

// take cuts n bytes off.
func (s *gobScanner) take(n int) []byte {
	if n > len(s.b) {
		s.fail(errGobFormat)
	}
	cut := s.b[:n]
	s.b = s.b[n:]
	return cut
}

// each calls f with the number of each field of a struct that is there.
func (s *gobScanner) each(f func(field int)) {
	field := -1
	for {
		delta := s.uint()
		if delta == 0 {
			return
		}
		if delta > maxScanFields || field+int(delta) >= maxScanFields {
			s.fail(errGobFormat)
		}
		field += int(delta)
		f(field)
	}
}

// value walks a value of a type of the message, which goes into one of ours; nil: nobody wants it.
func (s *gobScanner) value(id int, into reflect.Type) {
	into = s.behind(into)
	if id < gobFirst {
		s.basic(id)
		return
	}
	t := s.types[id]
	if t == nil {
		s.fail(errGobKind) // an interface's, or none that was defined
	}
	if s.depth(t) > maxScanDepth {
		s.fail(errGobDepth)
	}
	switch t.kind {
	case gobOpaque:
		s.pay(len(s.take(s.length())), 1)
	case gobStruct:
		s.structValue(t, into)
	case gobSlice:
		s.slice(t, into)
	case gobMap:
		s.mapValue(t, into)
	}
}

// behind gives the type that a pointer points to, which is paid for.
func (s *gobScanner) behind(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
		s.pay(1, int(t.Size()))
	}
	return t
}

func (s *gobScanner) basic(id int) {
	switch {
	case id >= gobBool && id <= gobFloat:
		s.uint()
	case id == gobBytes, id == gobString:
		s.pay(len(s.take(s.length())), 1)
	default:
		s.fail(errGobKind)
	}
}

func (s *gobScanner) structValue(t *gobType, into reflect.Type) {
	own := t.fieldsOf(into)
	s.each(func(field int) {
		if field >= len(t.fields) {
			s.fail(errGobFormat)
		}
		s.value(t.fields[field].id, own[field])
	})
}

// fieldsOf gives for each field of t the type of ours that it goes into.
func (t *gobType) fieldsOf(into reflect.Type) []reflect.Type {
	if t.own != nil && t.into == into {
		return t.own
	}
	own := make([]reflect.Type, len(t.fields))
	if into != nil && into.Kind() == reflect.Struct {
		for i, f := range t.fields {
			if field, ok := into.FieldByName(f.name); ok {
				own[i] = field.Type
			}
		}
	}
	t.into, t.own = into, own
	return own
}

// decoderChunk is what encoding/gob takes at once for a slice, in bytes. A longer one grows by a
// quarter at a time.
const decoderChunk = 10 << 20

func (s *gobScanner) slice(t *gobType, into reflect.Type) {
	n := s.length()
	var of reflect.Type
	if into != nil && into.Kind() == reflect.Slice {
		of = into.Elem()
		s.pay(n, int(of.Size()))
		if n*int(of.Size()) > decoderChunk {
			s.pay(n/4, int(of.Size()))
		}
	}
	for range n {
		s.value(t.elem, of)
	}
}

// mapEntry is what an entry of a map takes beside key and element, in bytes, with the room that is
// kept free.
const mapEntry = 16

func (s *gobScanner) mapValue(t *gobType, into reflect.Type) {
	n := s.length()
	var key, elem reflect.Type
	if into != nil && into.Kind() == reflect.Map {
		key, elem = into.Key(), into.Elem()
		s.pay(2*n, mapEntry+int(key.Size()+elem.Size()))
	}
	for range n {
		s.value(t.key, key)
		s.value(t.elem, elem)
	}
}
