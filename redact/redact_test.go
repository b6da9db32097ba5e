package redact

import "testing"

func TestRedact(t *testing.T) {
	t.Parallel()
	const key = "-----BEGIN KEY-----\nb3BlbnNzaC1rZXktdjEA\n0123456789abcdef\n-----END KEY-----"
	r := New("abc", "hunter2", "hunter2hunter3", "tea time", key)
	for text, want := range map[string]string{
		"nothing to hide":                         "nothing to hide",
		"abc is too short":                        "abc is too short",
		"hunter2hunter3":                          "(secret)",
		"hunter2 hunter3":                         "(secret) hunter3",
		"with hunter2hunter2hunter3.":             "with (secret).",
		"it's tea time, tea times two":            "it's (secret), (secret)s two",
		"before " + key + " after":                "before (secret) after",
		"on one line: " + OneLine(key) + ".":      "on one line: (secret).",
		"the last words 0123456789abcdef / -----": "the last words (secret) / -----",
		"cut: hunter2hunt…":                       "cut: (secret)…",
		"cut: …ter2hunter3 was wrong":             "cut: …(secret) was wrong",
		"cut: …ime":                               "cut: …ime",
		"cut: -----BEGIN KEY----- b3Blb…":         "cut: (secret)…",
	} {
		if got := r.Redact(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := Redactor(nil).Redact("text"); got != "text" {
		t.Error(got)
	}
}
