package userfile

import "testing"

// TestText reads the same lines as editors of several systems write them.
func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"a\nb\n":                         "a\nb\n",
		"a\r\nb\r\n":                     "a\nb\n",
		"\ufeffa\r\nb":                   "a\nb",
		"\xff\xfea\x00\n\x00\xe4\x00":    "a\nä",
		"\xfe\xff\x00a\x00\r\x00\n\x00b": "a\nb",
		"\xff\xfe\x3d\xd8\x00\xde":       "\U0001F600",
		"a\rb":                           "a\rb", // no line end that anybody writes today
		"\xef\xbb":                       "\xef\xbb",
		"caf\xe9":                        "caf\xe9", // bytes stay bytes
		"\xff\xfea":                      "",
	} {
		if got := string(Text([]byte(text))); got != want {
			t.Errorf("Text(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestPath(t *testing.T) {
	for path, want := range map[string]string{
		"":            "",
		"/abs/x":      "/abs/x",
		"results":     "/here/results",
		"~":           "/home/ann",
		"~/results":   "/home/ann/results",
		"./~/results": "/here/~/results",
		"~bob/x":      "/here/~bob/x",
		"a/~":         "/here/a/~",
	} {
		if got := Path("/here", "/home/ann", path); got != want {
			t.Errorf("Path(%q) = %q, want %q", path, got, want)
		}
	}
}
