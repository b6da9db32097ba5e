package show

import (
	"fmt"
	"strconv"
	"strings"

	"jobserver/api"
	"jobserver/view"
)

// NeedsText is what a job needs beside one slot, "" for nothing.
func NeedsText(n *api.Needs) string {
	if n == nil {
		return ""
	}
	var parts []string
	switch {
	case n.Exclusive:
		parts = append(parts, "its machine to itself")
	case n.Slots > 1:
		parts = append(parts, fmt.Sprintf("%d slots", n.Slots))
	}
	for _, a := range n.Resources {
		parts = append(parts, a.Name+"="+a.Text)
	}
	return strings.Join(parts, ", ")
}

// GivenText is what an attempt was given of resources: of items their indexes.
func GivenText(given []api.Grant) string {
	var parts []string
	for _, g := range given {
		text := g.Text
		if len(g.Items) > 0 {
			text = numbersText(g.Items)
		}
		if g.Pool {
			text += " of the pool"
		}
		parts = append(parts, g.Name+"="+text)
	}
	return strings.Join(parts, ", ")
}

func numbersText(numbers []int) string {
	var words []string
	for _, n := range numbers {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}

// ResourcesText is what a machine was said to have, and what it has lost of it.
func ResourcesText(resources []api.Resource) string {
	var parts []string
	for _, r := range resources {
		if r.Found {
			continue
		}
		text := r.Name + "=" + r.Text
		if len(r.Gone) > 0 {
			text += fmt.Sprintf(" (gone: %s)", numbersText(r.Gone))
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

// ResourceColumns are those of `resource ls`.
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
