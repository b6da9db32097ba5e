package show

import (
	"fmt"
	"strings"

	"jobserver/api"
	"jobserver/view"
)

// ResourcesText says what a machine was said to have, and what it has lost of it.
func ResourcesText(resources []api.Resource) string {
	var parts []string
	for _, r := range resources {
		if r.Found {
			continue
		}
		text := r.Name + "=" + r.Text
		if len(r.Gone) > 0 {
			text += fmt.Sprintf(" (gone: %s)", api.NumbersText(r.Gone))
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

// ResourceColumns are the columns of `resource ls`.
func ResourceColumns() []view.Column[api.Resource] {
	type r = api.Resource
	name := Plain("Name", "name", func(r r) string { return r.Name })
	name.IsID = true
	count := func(title, key string, f func(r r) int64) view.Column[r] {
		return view.Column[r]{
			Title: title,
			Key:   key,
			Right: true,
			Cell: view.Text(func(r r) string {
				return fmt.Sprint(f(r))
			}),
		}
	}
	return []view.Column[r]{
		name,
		Plain("There are", "text", func(r r) string { return r.Text }),
		count("Given out", "held", func(r r) int64 { return r.Held }),
		count("Waiting", "waiting", func(r r) int64 { return int64(r.Waiting) }),
	}
}
