package api

import (
	"bytes"
	"encoding/json"
)

// Maybe is a value that may be missing, where its zero means something else than none. A pointer
// can't say that across the socket: gob leaves out zero values behind pointers too, so that an exit
// code of 0 would arrive as none. In JSON it is the bare value or null; with the tag omitzero a
// missing one is absent.
type Maybe[T any] struct {
	Value T
	Set   bool // else there is none, and Value is zero
}

// Some is a value that is there.
func Some[T any](value T) Maybe[T] { return Maybe[T]{Value: value, Set: true} }

// Of is the value that a pointer points to, none when it is nil.
func Of[T any](p *T) Maybe[T] {
	if p == nil {
		return Maybe[T]{}
	}
	return Some(*p)
}

// Pointer is nil when there is no value.
func (m Maybe[T]) Pointer() *T {
	if !m.Set {
		return nil
	}
	return &m.Value
}

// Get is the value, and whether there is one.
func (m Maybe[T]) Get() (T, bool) { return m.Value, m.Set }

// IsZero says that there is none; encoding/json asks.
func (m Maybe[T]) IsZero() bool { return !m.Set }

// MarshalJSON gives the bare value or null.
func (m Maybe[T]) MarshalJSON() ([]byte, error) {
	if !m.Set {
		return []byte("null"), nil
	}
	return json.Marshal(m.Value)
}

// UnmarshalJSON takes the bare value or null.
func (m *Maybe[T]) UnmarshalJSON(data []byte) error {
	*m = Maybe[T]{}
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	if err := json.Unmarshal(data, &m.Value); err != nil {
		return err
	}
	m.Set = true
	return nil
}
