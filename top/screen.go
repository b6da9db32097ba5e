package top

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"jobserver/api"
	"jobserver/live"
	"jobserver/view"
)

// effect is something to do outside: it may take a while, and what comes of it is news.
type effect func(ctx context.Context) news

// news change the screen, and may ask for more.
type news func(s *screen) []effect

// screen holds what is shown.
type screen struct {
	Options
	width, height int
	live          live.State
	left          bool // the user has left

	pane  int // of panes
	panes [paneCount]pane
	beside
	prompt   *prompt   // a line that is being typed
	question *question // that waits for an answer
	help     bool
	said     string // the last outcome of an action, or what went wrong
}

// The panes.
const (
	paneJobs = iota
	paneMachines
	paneMatrices
	paneTimeline
	paneEvents
	paneCount
)

// pane is a list with a current row.
type pane interface {
	title() string
	fetch(s *screen) effect                        // what it shows, anew
	concerns(d *live.Digest) bool                  // whether it has to be
	lines(s *screen, width, height int) []string   // as painted; the first may be a head
	move(s *screen, by int) []effect               // the current row
	open(s *screen) []effect                       // what Enter does
	change(s *screen, key string) (*change, error) // what a key would change; nil: nothing
	selected() (job uint64)                        // the current job, 0: none
}

func newScreen(o Options) *screen {
	s := &screen{Options: o, width: 80, height: 24}
	s.panes = [paneCount]pane{&jobs{}, &machines{}, &matrices{}, &times{hours: 6}, &events{}}
	return s
}

func (s *screen) current() pane { return s.panes[s.pane] }

func (s *screen) resize(width, height int) []effect {
	s.width, s.height = width, height
	if s.pane == paneTimeline {
		return one(s.current().fetch(s))
	}
	return nil
}

// changed takes a newer state.
func (s *screen) changed(state live.State, d live.Digest) []effect {
	cameBack := state.Online && !s.live.Online
	s.live = state
	var effects []effect
	if state.Online && (cameBack || d.Gap || s.current().concerns(&d)) {
		effects = append(effects, s.current().fetch(s))
	}
	if state.Online && s.job != 0 && (cameBack || d.Gap || concernsJob(&d, s.job)) {
		effects = append(effects, s.refresh())
	}
	return effects
}

// tick comes each second.
func (s *screen) tick() []effect {
	s.ticks++
	if !s.live.Online {
		return nil
	}
	if s.pane == paneMachines && s.ticks%5 == 0 || s.pane == paneTimeline && s.ticks%10 == 0 {
		return one(s.current().fetch(s))
	}
	return nil
}

func one(e effect) []effect {
	if e == nil {
		return nil
	}
	return []effect{e}
}

// failed says what went wrong.
func (s *screen) failed(err error) {
	s.said = err.Error()
	if hint := api.HintOf(err); hint != "" {
		s.said += ": " + hint
	}
}

// key does what a key is for.
func (s *screen) key(key string) []effect {
	s.said = ""
	switch {
	case s.question != nil:
		return s.answer(key)
	case s.prompt != nil:
		return s.type_(key)
	case s.help:
		s.help = false
		return nil
	}
	page := max(s.height-8, 1)
	switch key {
	case "q":
		s.left = true
	case "?":
		s.help = true
	case "1", "2", "3", "4", "5":
		return s.show(int(key[0] - '1'))
	case "tab":
		return s.show((s.pane + 1) % paneCount)
	case "j", "down":
		return s.moved(1)
	case "k", "up":
		return s.moved(-1)
	case "pgdown", "ctrl+f":
		return s.moved(page)
	case "pgup", "ctrl+b":
		return s.moved(-page)
	case "g", "home":
		return s.moved(-1 << 30)
	case "G", "end":
		return s.moved(1 << 30)
	case "enter":
		return s.current().open(s)
	case "esc":
		if list, ok := s.current().(*jobs); ok && s.job == 0 {
			list.marks = marks{}
		}
		s.close()
	case "space":
		return s.mark()
	case "*":
		return s.markAll()
	case "t":
		return s.showTime()
	case "m":
		if m, ok := s.current().(*matrices); ok {
			return m.turn(s)
		}
	case "l", "e", "w":
		return s.showBeside(key)
	case "/":
		s.prompt = &prompt{
			label: "selector: ",
			text:  strings.Join(s.panes[paneJobs].(*jobs).words, " "),
		}
	case ":":
		s.prompt = &prompt{label: "go to job or pane: "}
	case "c", "h", "u", "r", "p", "P", "d", "D":
		return s.ask(key)
	case "+", "-":
		if t, ok := s.current().(*times); ok {
			return t.zoom(s, key)
		}
	}
	return nil
}

// moved moves in what is shown: in the log when it is open, with the arrows of the log.
func (s *screen) moved(by int) []effect {
	if s.scrolls() {
		s.scroll(by)
		return nil
	}
	effects := s.current().move(s, by)
	if s.job != 0 && s.current().selected() != 0 && s.current().selected() != s.job {
		effects = append(effects, s.openBeside(s.current().selected(), s.what)...)
	}
	return effects
}

// prompt is a line that is typed.
type prompt struct{ label, text string }

// type_ takes a key of a line.
func (s *screen) type_(key string) []effect {
	p := s.prompt
	switch key {
	case "esc":
		s.prompt = nil
	case "enter":
		s.prompt = nil
		if strings.HasPrefix(p.label, "go") {
			return s.goTo(strings.TrimSpace(p.text))
		}
		return s.showJobs(strings.Fields(p.text), 0)
	case "backspace", "ctrl+h":
		if r := []rune(p.text); len(r) > 0 {
			p.text = string(r[:len(r)-1])
		}
	case "ctrl+u":
		p.text = ""
	case "space":
		p.text += " "
	default:
		if r := []rune(key); len(r) == 1 {
			p.text += key
		}
	}
	return nil
}

// goTo shows a job, which is named by its id, or a pane by the beginning of its title.
func (s *screen) goTo(text string) []effect {
	if id, err := strconv.ParseUint(text, 10, 63); err == nil && id > 0 {
		return append(s.showJobs(nil, id+1), s.openBeside(id, "l")...)
	}
	for i, p := range s.panes {
		if text != "" && strings.HasPrefix(strings.ToLower(p.title()), strings.ToLower(text)) {
			return s.show(i)
		}
	}
	s.said = fmt.Sprintf("%q is neither a job's id nor a pane", text)
	return nil
}

// show shows a pane.
func (s *screen) show(pane int) []effect {
	s.pane = pane
	s.close()
	return one(s.current().fetch(s))
}

// showTime shows when the machine of the current row was busy.
func (s *screen) showTime() []effect {
	machine := ""
	switch p := s.current().(type) {
	case *jobs:
		if len(p.list) > 0 {
			machine = p.list[p.at].Machine
		}
	case *machines:
		if len(p.list) > 0 {
			machine = p.list[p.at].Addr
		}
	default:
		return nil
	}
	if machine == "" {
		s.said = "it is on no machine"
		return nil
	}
	s.panes[paneTimeline].(*times).wanted = machine
	return s.show(paneTimeline)
}

func (s *screen) paste(text string) []effect {
	if s.prompt != nil {
		s.prompt.text += view.Clean(strings.TrimSpace(text))
	}
	return nil
}

// concernsJob says whether a change may be one of a job.
func concernsJob(d *live.Digest, id uint64) bool {
	if d.Jobs == nil {
		return d.First <= id && id <= d.Last
	}
	for _, job := range d.Jobs {
		if job == id {
			return true
		}
	}
	return false
}
