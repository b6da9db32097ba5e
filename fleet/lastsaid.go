package fleet

import (
	"io"
	"os"
	"strings"

	"jobserver/redact"
)

// lastSaid is the end of the first of the log files that isn't
// blank, as one line: up to three lines, and 300 bytes, without secrets.
func lastSaid(secrets redact.Redactor, paths ...string) string {
	for _, path := range paths {
		var lines []string
		for line := range strings.Lines(secrets.Redact(string(endOf(path, 4<<10)))) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, plain(line))
			}
		}
		text := strings.Join(lines[max(len(lines)-3, 0):], " / ")
		if cut := len(text) - 300; cut > 0 {
			text = "…" + strings.ToValidUTF8(text[cut:], "")
		}
		if text != "" {
			return text
		}
	}
	return ""
}

// endOf is the last bytes of a file, nil when it can't be read. Where there are more, it begins
// with "…".
func endOf(path string, size int64) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil
	}
	b, err := io.ReadAll(io.NewSectionReader(file, max(info.Size()-size, 0), size))
	if err != nil {
		return nil
	}
	if info.Size() > size {
		b = append([]byte("…"), b...)
	}
	return b
}
