package doctor

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"jobserver/redact"
)

// File is a file of a report for others.
type File struct {
	Name string
	Text string
}

// hidden stands for what is secret.
const hidden = "(secret)"

// secretFlag tells whether a flag of serve has values that nobody else is to see: addresses of
// webhooks are passwords, and commands may have some.
func secretFlag(name string) bool {
	for _, secret := range []string{"--notify", "--on"} {
		if rest, ok := strings.CutPrefix(name, secret); ok && (rest == "" || rest[0] == '-') {
			return true
		}
	}
	return false
}

// CommandLine is a process's words without what is secret in them.
func CommandLine(words []string) string {
	shown := make([]string, 0, len(words))
	hide := false
	for _, word := range words {
		name, _, hasValue := strings.Cut(word, "=")
		switch {
		case hide:
			word = hidden
		case secretFlag(name) && hasValue:
			word = name + "=" + hidden
		}
		hide = !hide && secretFlag(name) && !hasValue
		shown = append(shown, word)
	}
	return strings.Join(shown, " ")
}

// secretWords is what looks like one wherever it stands: NAME=value with such a name, and
// addresses with a password or of a webhook.
func secretWords() []secretWord {
	return []secretWord{
		{regexp.MustCompile(`(?i)\b([a-z0-9_]*(?:key|token|secret|password|passwd|passphrase|` +
			`credentials?))(["']?\s*[=:]\s*["']?)[^\s"',;]+`), "$1$2" + hidden},
		{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9+/=._~-]{6,}`), "$1 " + hidden},
		{regexp.MustCompile(`(https?://)[^/\s:@]+:[^/\s@]+@`), "$1" + hidden + "@"},
		{regexp.MustCompile(`(https?://hooks\.[^/\s]+/)\S+`), "$1" + hidden},
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`),
			hidden},
	}
}

type secretWord struct {
	pattern *regexp.Regexp
	with    string
}

// Hide takes out of a text what is known to be secret, and what looks like it.
func Hide(text string, known redact.Redactor) string {
	text = known.Redact(text)
	for _, s := range secretWords() {
		text = s.pattern.ReplaceAllString(text, s.with)
	}
	return text
}

// WriteBundle writes the files as a compressed archive, which must not exist yet, for this user
// alone.
func WriteBundle(path string, files []File, at time.Time) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	packed := gzip.NewWriter(out)
	archive := tar.NewWriter(packed)
	for _, f := range files {
		err := archive.WriteHeader(&tar.Header{
			Name: "jobserver-report/" + f.Name, Mode: 0o600, Size: int64(len(f.Text)), ModTime: at,
			Format: tar.FormatPAX,
		})
		if err == nil {
			_, err = io.WriteString(archive, f.Text)
		}
		if err != nil {
			return fmt.Errorf("pack %s: %w", f.Name, err)
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}
