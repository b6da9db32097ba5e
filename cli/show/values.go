package show

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"jobserver/api"
)

// Known is the value, or nil for one that says nothing.
func Known[T comparable](value T) any {
	var zero T
	if value == zero {
		return nil
	}
	return value
}

// KnownMaybe is the value, or nil where there is none.
func KnownMaybe[T any](value api.Maybe[T]) any {
	if !value.Set {
		return nil
	}
	return value.Value
}

// KnownList is the list, or nil for an empty one.
func KnownList(values []string) any {
	if len(values) == 0 {
		return nil
	}
	return values
}

// KnownMap is the map, or nil for an empty one.
func KnownMap(values map[string]string) any {
	if len(values) == 0 {
		return nil
	}
	return values
}

// KnownTime is the time, or nil where there is none.
func KnownTime(t *time.Time) any {
	if t == nil || t.IsZero() {
		return nil
	}
	return t.Format(time.RFC3339)
}

// StatText is a value as text: what has no text of its own is JSON.
func StatText(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case []string:
		return strings.Join(v, " ")
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "" // numbers and maps of strings can always be written
	}
	return string(text)
}

// IDText is an id; "" for 0, which is none.
func IDText(id uint64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprint(id)
}

// NumberText is a number; "" for 0.
func NumberText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
