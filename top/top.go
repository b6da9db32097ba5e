// Package top shows a daemon on a terminal, live: jobs, machines, matrices, time and events, with
// logs and reasons beside them.
//
// What is shown and what keys do is in screen, which is pure: it takes what has happened and gives
// what is to be asked for. This file alone knows the library that paints and reads keys.
package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"

	"jobserver/live"
)

// Options of a screen.
type Options struct {
	Follower *live.Follower
	Name     string // of the daemon's host
	Now      func() time.Time
	In       *os.File
	Out      io.Writer
	Color    bool // without it nothing is coloured, whatever the terminal can
	ReadOnly bool
}

// Run shows it until the user leaves or ctx ends.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &model{ctx: ctx, screen: newScreen(o), follower: o.Follower}
	options := []tea.ProgramOption{
		tea.WithContext(
			ctx,
		),
		tea.WithInput(o.In),
		tea.WithOutput(o.Out),
		tea.WithFPS(20),
		tea.WithoutSignalHandler(),
	}
	_, err := tea.NewProgram(m, options...).Run()
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("show the screen: %w", err)
	}
	return nil
}

// model is a screen for the library.
type model struct {
	ctx      context.Context
	screen   *screen
	follower *live.Follower
}

// version is a newer state.
type version struct {
	state   live.State
	changed live.Digest
}

// tick lets the times that are shown go on.
type tick struct{}

// Init begins to follow.
func (m *model) Init() tea.Cmd {
	return tea.Batch(m.next(0), m.tick())
}

func (m *model) next(after uint64) tea.Cmd {
	return func() tea.Msg {
		state, changed, err := m.follower.Next(m.ctx, after)
		if err != nil {
			return nil // it ends
		}
		return version{state, changed}
	}
}

func (m *model) tick() tea.Cmd {
	return tea.Tick(time.Second, func(time.Time) tea.Msg { return tick{} })
}

// Update hands on what has happened.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var then []tea.Cmd
	var effects []effect
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		effects = m.screen.resize(msg.Width, msg.Height)
	case tea.KeyPressMsg:
		switch key := msg.String(); key {
		case "ctrl+c":
			return m, tea.Quit
		case "ctrl+z":
			return m, tea.Suspend
		default:
			effects = m.screen.key(key)
		}
	case tea.PasteMsg:
		effects = m.screen.paste(msg.String())
	case version:
		effects = m.screen.changed(msg.state, msg.changed)
		then = append(then, m.next(msg.state.Version))
	case tick:
		effects = m.screen.tick()
		then = append(then, m.tick())
	case news:
		effects = msg(m.screen)
	}
	if m.screen.left {
		return m, tea.Quit
	}
	for _, e := range effects {
		then = append(then, func() tea.Msg {
			if n := e(m.ctx); n != nil {
				return n
			}
			return nil
		})
	}
	return m, tea.Batch(then...)
}

// View paints.
func (m *model) View() tea.View {
	v := tea.NewView(m.screen.paint())
	v.AltScreen = true
	v.WindowTitle = "jobserver " + m.screen.Name
	return v
}
