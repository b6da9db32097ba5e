package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"jobserver/view"
)

// minutes is a duration whose bare number means minutes, as in the original.
type minutes struct{ time.Duration }

// UnmarshalText reads it.
func (m *minutes) UnmarshalText(text []byte) (err error) {
	m.Duration, err = view.ParseDuration(string(text), time.Minute)
	return err
}

// seconds is a duration whose bare number means seconds.
type seconds struct{ time.Duration }

// UnmarshalText reads it.
func (s *seconds) UnmarshalText(text []byte) (err error) {
	s.Duration, err = view.ParseDuration(string(text), time.Second)
	return err
}

// size is a number of bytes: 10G, 500MiB, 4096.
type size int64

// UnmarshalText reads it.
func (s *size) UnmarshalText(text []byte) error {
	n, err := view.ParseSize(string(text))
	*s = size(n)
	return err
}

// variables are NAME=VALUE flags.
type variables map[string]string

// Decode implements kong.MapperValue: byte for byte, see asItIs.
func (v *variables) Decode(ctx *kong.DecodeContext) error {
	token, err := ctx.Scan.PopValue("NAME=VALUE")
	if err != nil {
		return err
	}
	name, value, ok := strings.Cut(fmt.Sprint(token.Value), "=")
	if !ok {
		return fmt.Errorf("%q is not of the form NAME=VALUE", name)
	}
	if *v == nil {
		*v = variables{}
	}
	(*v)[name] = value
	return nil
}
