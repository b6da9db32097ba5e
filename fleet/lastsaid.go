package fleet

import (
	"bytes"
	"io"
	"os"
	"strings"
)

// lastSaid is the end of the first of the log files that isn't
// blank, as one line: up to three lines, and 300 bytes.
func lastSaid(paths ...string) string {
	for _, path := range paths {
		var lines []string
		for line := range bytes.Lines(endOf(path, 4<<10)) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				lines = append(lines, plain(string(line)))
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

// endOf is the last bytes of a file, nil when it can't be read.
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
	return b
}
