package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"jobserver/view"
)

// Minutes is a duration whose bare number means minutes, as in the original.
type Minutes struct{ time.Duration }

// UnmarshalText reads it.
func (m *Minutes) UnmarshalText(text []byte) (err error) {
	m.Duration, err = view.ParseDuration(string(text), time.Minute)
	return err
}

// Age is a duration that needs its unit: of days, where minutes would do much harm.
type Age struct{ time.Duration }

// UnmarshalText reads it.
func (a *Age) UnmarshalText(text []byte) (err error) {
	if number := string(text); number != "0" && strings.Trim(number, "0123456789.") == "" {
		return fmt.Errorf("%q: say the unit, as in 90d or 12h", number)
	}
	a.Duration, err = view.ParseDuration(string(text), 0)
	if err == nil && a.Duration <= 0 {
		err = fmt.Errorf("%q would keep nothing: say how old, as in 90d or 12h", text)
	}
	return err
}

// Seconds is a duration whose bare number means seconds.
type Seconds struct{ time.Duration }

// UnmarshalText reads it.
func (s *Seconds) UnmarshalText(text []byte) (err error) {
	s.Duration, err = view.ParseDuration(string(text), time.Second)
	return err
}

// Size is a number of bytes: 10G, 500MiB, 4096.
type Size int64

// UnmarshalText reads it.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := view.ParseSize(string(text))
	*s = Size(n)
	return err
}

// Count is how many there are to be of something, one at least; 0: that isn't said.
type Count int

// UnmarshalText reads it.
func (c *Count) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 {
		return fmt.Errorf("%q is no whole number from 1 on", text)
	}
	*c = Count(n)
	return nil
}

// Variables are NAME=VALUE flags.
type Variables map[string]string

// Decode implements kong.MapperValue: byte for byte, see asItIs.
func (v *Variables) Decode(ctx *kong.DecodeContext) error {
	token, err := ctx.Scan.PopValue("NAME=VALUE")
	if err != nil {
		return err
	}
	name, value, ok := strings.Cut(fmt.Sprint(token.Value), "=")
	if !ok {
		return fmt.Errorf("%q is not of the form NAME=VALUE", name)
	}
	if *v == nil {
		*v = Variables{}
	}
	(*v)[name] = value
	return nil
}
