// Command columns reads names of Go files from its standard input, and names their lines that are
// longer than 100 columns, where a tab is four. What can't be broken may be longer: a raw string,
// and with it a struct's tags, or a word that is longer than the rest of the line.
package main

import (
	"bufio"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"strings"
	"unicode/utf8"
)

const most = 100

func main() {
	failed := false
	for names := bufio.NewScanner(os.Stdin); names.Scan(); {
		file := names.Text()
		text, err := os.ReadFile(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		raw := rawLines(text)
		for i, line := range strings.Split(string(text), "\n") {
			if n := columns(line); n > most && !raw[i+1] && !unbreakable(line) {
				fmt.Fprintf(os.Stderr, "%s:%d: %d columns\n", file, i+1, n)
				failed = true
			}
		}
	}
	if failed {
		fmt.Fprintln(os.Stderr, "break these lines: at most 100 columns, a tab being four")
		os.Exit(1)
	}
}

func columns(line string) int {
	return utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
}

// unbreakable tells whether a line is one word, perhaps behind the mark of a comment.
func unbreakable(line string) bool {
	words := strings.Fields(line)
	if len(words) > 0 && (words[0] == "//" || words[0] == "*") {
		words = words[1:]
	}
	return len(words) == 1 || strings.Contains(line, "//go:")
}

// rawLines are the lines, counted from 1, that a raw string has a part of.
func rawLines(text []byte) map[int]bool {
	lines := map[int]bool{}
	file := token.NewFileSet().AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, 0)
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return lines
		}
		if tok != token.STRING || literal[0] != '`' {
			continue
		}
		first := file.Line(pos)
		for line := range 1 + strings.Count(literal, "\n") {
			lines[first+line] = true
		}
	}
}
