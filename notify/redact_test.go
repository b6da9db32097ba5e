package notify

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	const key = "-----BEGIN KEY-----\nb3BlbnNzaC1rZXktdjEA\n0123456789abcdef\n-----END KEY-----"
	r := newRedactor("abc", "hunter2", "hunter2hunter3", "tea time", key)
	for text, want := range map[string]string{
		"nothing to hide":                         "nothing to hide",
		"abc is too short":                        "abc is too short",
		"hunter2hunter3":                          "(secret)",
		"hunter2 hunter3":                         "(secret) hunter3",
		"with hunter2hunter2hunter3.":             "with (secret).",
		"it's tea time, tea times two":            "it's (secret), (secret)s two",
		"before " + key + " after":                "before (secret) after",
		"on one line: " + oneLine(key) + ".":      "on one line: (secret).",
		"the last words 0123456789abcdef / -----": "the last words (secret) / -----",
		"cut: hunter2hunt…":                       "cut: (secret)…",
		"cut: …ter2hunter3 was wrong":             "cut: …(secret) was wrong",
		"cut: …ime":                               "cut: …ime",
		"cut: -----BEGIN KEY----- b3Blb…":         "cut: (secret)…",
	} {
		if got := r.redact(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := redactor(nil).redact("text"); got != "text" {
		t.Error(got)
	}
}

// TestSecretsAtTheEdge: a secret where a text is cut, in lines, or longer than one that it begins with, isn't shown in part: not in
// messages, nor in what the log has of receivers' own words.
func TestSecretsAtTheEdge(t *testing.T) {
	const long, lines = "0123456789abcdefghij", "first line of it\nsecond line of it"
	synctest.Test(t, func(t *testing.T) {
		w := &network{answer: func(n int, r *http.Request) (int, http.Header, error) { return 200, nil, nil }}
		n, stop := setup(t, w, Options{
			Modes:    map[Kind]Mode{Fail: Immediate},
			Commands: []Command{{Fail, fmt.Sprintf("cat > /dev/null; printf %%s %s; head -c 290 /dev/zero | tr '\\0' x; exit 1", long)}},
		}, Targets{Webhook: webhookURL, Secrets: []string{long[:8], long, lines}})
		for at := range 30 {
			n.Add(Event{Kind: Fail, Text: strings.Repeat("x", maxText-at) + long + strings.Repeat("x", 100)})
		}
		n.Add(Event{Kind: Fail, Text: "a key: " + lines, Cause: long})
		time.Sleep(time.Minute)
		all := stop() + strings.Join(w.took(), "\n")
		for _, part := range []string{long[:4], long[8:12], long[16:], "first line", "second line"} {
			if i := strings.Index(all, part); i >= 0 {
				t.Errorf("%q is in …%s", part, all[max(i-60, 0):min(i+60, len(all))])
			}
		}
		if !strings.Contains(all, "a key: (secret)") {
			t.Errorf("the message is missing:\n%s", all)
		}
	})
}
