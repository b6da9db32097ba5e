package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"jobserver/userfile"
)

// Examination is what there is to connect to an address with. Nothing is connected to but the
// agent.
type Examination struct {
	Err    error    // why the configuration can't be used for it, with a Hint
	Keys   []string // keys that would be offered: where each is, and its fingerprint
	Unfit  []string // keys that can't be offered, and why
	Locked []string // files of keys with a passphrase that no agent holds
	Agent  string   // the agent's socket; "" without one
	// AgentErr is why the agent isn't of use.
	AgentErr   error
	KnownHosts []string // files of known hosts that exist
	// BadLines are lines of those files that are left out, and files that can't be read, with the
	// reason.
	BadLines []string
}

// examineTime is how long an agent may take to answer.
const examineTime = 3 * time.Second

// Examine looks at what a connection to an address would be made with.
func (d *Dialer) Examine(ctx context.Context, addr string) (e Examination) {
	a, err := ParseAddr(addr)
	if err != nil {
		return Examination{Err: &ConfigError{Addr: addr, Err: err}}
	}
	hops, err := d.route(ctx, a)
	if err != nil {
		return Examination{Err: err}
	}
	c := hops[len(hops)-1]
	e.Agent = c.agentSocket
	if e.Agent != "" {
		var probe keyring
		_, e.AgentErr = probe.askAgent(ctx, e.Agent, time.Now().Add(examineTime))
		probe.close()
	}
	if e.AgentErr != nil {
		without := *c
		without.agentSocket = ""
		c = &without
	}
	keys := newKeyring(ctx, c, time.Now().Add(examineTime))
	defer keys.close()
	e.Locked = keys.locked
	for _, note := range keys.notes {
		// The last words of a key that is offered are its fingerprint.
		if slices.ContainsFunc(keys.prints(), func(p string) bool {
			return len(note) >= len(p) && note[len(note)-len(p):] == p
		}) {
			e.Keys = append(e.Keys, note)
		} else {
			e.Unfit = append(e.Unfit, note)
		}
	}
	for _, file := range slices.Concat(c.userHosts, c.globalHosts) {
		bad, err := badLines(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		e.KnownHosts = append(e.KnownHosts, file)
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", file, unwrapPath(err)))
		}
		e.BadLines = append(e.BadLines, bad...)
	}
	return e
}

// badLines are the lines of a known_hosts file that don't parse.
func badLines(file string) (bad []string, err error) {
	text, err := userfile.ReadRegular(file)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if _, err := parseKnownLine(line); err != nil {
			bad = append(bad, fmt.Sprintf("%s, line %d: %v", file, number, err))
		}
	}
	return bad, nil
}
