package view

import (
	"os"
	"strconv"

	"golang.org/x/term"
)

// Screen has what there is to know of where output goes.
type Screen struct {
	Terminal bool
	Width    int  // columns; 0: no limit, as in a file or a pipe
	Color    bool // styles are wanted
}

const defaultWidth = 80 // of a terminal that doesn't tell, as the VT100 had

// DetectScreen looks at f and at the environment: COLUMNS, TERM, NO_COLOR (https://no-color.org),
// and CLICOLOR and CLICOLOR_FORCE (https://bixense.com/clicolors). What isn't a terminal has no
// width, whatever COLUMNS says.
func DetectScreen(f *os.File, getenv func(string) string) Screen {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return screen(false, 0, getenv)
	}
	width, _, err := term.GetSize(fd)
	if err != nil {
		width = 0 // a terminal without a size, such as a serial line
	}
	return screen(true, width, getenv)
}

func screen(terminal bool, width int, getenv func(string) string) Screen {
	s := Screen{Terminal: terminal}
	if terminal {
		s.Width = width
		if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
			s.Width = n
		}
		if s.Width <= 0 {
			s.Width = defaultWidth
		}
	}
	force := getenv("CLICOLOR_FORCE")
	switch {
	case getenv("NO_COLOR") != "":
	case force != "" && force != "0":
		s.Color = true
	default:
		s.Color = terminal && getenv("TERM") != "dumb" && getenv("CLICOLOR") != "0"
	}
	return s
}
