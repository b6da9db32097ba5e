package notify

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSecretsAtTheEdge: a secret where a text is cut, in lines, or longer than one that it begins
// with, isn't shown in part: not in messages, nor in what the log has of receivers' own words.
func TestSecretsAtTheEdge(t *testing.T) {
	const long, lines = "0123456789abcdefghij", "first line of it\nsecond line of it"
	synctest.Test(t, func(t *testing.T) {
		w := &network{answer: func(n int, r *http.Request) (int, http.Header, error) {
			return 200,
				nil, nil
		}}
		n, stop := setup(t, w, Options{
			Modes: map[Kind]Mode{Fail: Immediate},
			Commands: []Command{{Fail, fmt.Sprintf("cat > /dev/null; printf %%s %s; head -c 290 "+
				"/dev/zero | tr '\\0' x; exit 1", long)}},
		}, Targets{Webhook: webhookURL, Secrets: []string{long[:8], long, lines}})
		for at := range 30 {
			n.Add(Event{Kind: Fail,
				Text: strings.Repeat("x", maxText-at) + long + strings.Repeat("x", 100)})
		}
		n.Add(Event{Kind: Fail, Text: "a key: " + lines, Cause: long})
		time.Sleep(time.Minute)
		all := stop() + strings.Join(w.took(), "\n")
		for _, part := range []string{long[:4], long[8:12], long[16:], "first line",
			"second line"} {
			if i := strings.Index(all, part); i >= 0 {
				t.Errorf("%q is in …%s", part, all[max(i-60, 0):min(i+60, len(all))])
			}
		}
		if !strings.Contains(all, "a key: (secret)") {
			t.Errorf("the message is missing:\n%s", all)
		}
	})
}
