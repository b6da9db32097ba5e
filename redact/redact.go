// Package redact takes secrets out of what people are shown: messages, listings, logs of the
// daemon.
package redact

import (
	"slices"
	"strings"

	"jobserver/foreign"
)

// shortest is how long a secret has to be to be taken out of texts, in bytes: hiding a shorter one
// would make texts unreadable, and show it by what is missing. A line of a secret of several lines
// has to be twice as long.
const shortest = 4

// Redactor takes secrets out of texts. There is no other: texts go through it raw, before they are
// made one line or cut, which would leave nothing to find of a secret and much of it to read.
type Redactor []string // what a secret may look like

// New makes one that knows the secrets' values. It is empty without any, and leaves texts as they
// are.
func New(secrets ...string) Redactor {
	var forms Redactor
	for _, secret := range secrets {
		if len(secret) < shortest {
			continue
		}
		// As it is, as OneLine makes it, as commands are shown; and its lines, of which the
		// scheduler may have taken the last ones.
		forms = append(forms, secret, OneLine(secret), strings.Join(strings.Fields(secret), " "))
		for line := range strings.Lines(secret) {
			if line = strings.TrimSpace(line); len(line) >= 2*shortest {
				forms = append(forms, line, OneLine(line))
			}
		}
	}
	slices.Sort(forms)
	return slices.DeleteFunc(slices.Compact(forms), func(form string) bool {
		return len(form) < shortest
	})
}

// Redact puts "(secret)" in the place of all that belongs to a secret. Secrets may overlap, or be
// part of others: what is hidden is all that any of them covers. Where a text was cut before, which
// "…" shows, a part of a secret counts.
func (r Redactor) Redact(text string) string {
	const cut = "…"
	type span struct{ from, to int }
	var spans []span
	for _, form := range r {
		for at := 0; ; {
			i := strings.Index(text[at:], form)
			if i < 0 {
				break
			}
			spans = append(spans, span{at + i, at + i + len(form)})
			at += i + 1
		}
		for at := 0; ; {
			i := strings.Index(text[at:], cut)
			if i < 0 {
				break
			}
			before, after := text[:at+i], text[at+i+len(cut):]
			at += i + len(cut)
			for n := min(len(form)-1, len(before)); n >= shortest; n-- {
				if strings.HasSuffix(before, form[:n]) {
					spans = append(spans, span{len(before) - n, len(before)})
					break
				}
			}
			for n := min(len(form)-1, len(after)); n >= shortest; n-- {
				if strings.HasPrefix(after, form[len(form)-n:]) {
					spans = append(spans, span{at, at + n})
					break
				}
			}
		}
	}
	if spans == nil {
		return text
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var b strings.Builder
	shown := 0 // up to here the text is in b, or hidden
	for i, s := range spans {
		if i == 0 || s.from > shown { // else it goes on with the one before
			b.WriteString(text[shown:s.from])
			b.WriteString("(secret)")
		}
		shown = max(shown, s.to)
	}
	b.WriteString(text[shown:])
	return b.String()
}

// OneLine makes one line of a text that is to be read: see foreign.OneLine.
func OneLine(text string) string { return foreign.OneLine(text) }
