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

func KnownMaybe[T any](value api.Maybe[T]) any {
	if !value.Set {
		return nil
	}
	return value.Value
}

func KnownList(values []string) any {
	if len(values) == 0 {
		return nil
	}
	return values
}

func KnownMap(values map[string]string) any {
	if len(values) == 0 {
		return nil
	}
	return values
}

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

func IDText(id uint64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprint(id)
}

func NumberText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
