package ssh

import (
	"context"
	"fmt"
	"strings"
)

// jumpCommand is the ProxyCommand that reaches target over jump hosts, each by program with its
// arguments from args; "" without any. It does what ssh makes of ProxyJump, where those that ssh
// starts would have none of our options: they would take any host key that the configuration lets
// them take, record it, or ask for it on the daemon's terminal.
func (d *Dialer) jumpCommand(
	ctx context.Context, program string, target Addr, jumps []string, args func(Addr) []string,
	depth int,
) (string, error) {
	if depth+len(jumps) > maxHops {
		return "", &ConfigError{Addr: target.String(), Err: errTooManyHops}
	}
	command := ""
	for i, jump := range jumps {
		addr, err := parseJump(jump)
		if err != nil {
			return "", &ConfigError{Addr: target.String(), Err: err}
		}
		if i == 0 { // the others don't look at their own ProxyJump
			cfg, err := d.resolve(ctx, addr)
			if err != nil {
				return "", err
			}
			command, err = d.jumpCommand(ctx, program, addr, cfg.proxyJump, args,
				depth+len(jumps))
			if err != nil {
				return "", err
			}
		}
		words := append([]string{program}, args(addr)...)
		if command != "" {
			words = append(words, "-o", "ProxyCommand="+command)
		}
		for k := range words {
			words[k] = literal(quoteShell(words[k]))
		}
		// The tokens are for the ssh that runs this: they are where it is to lead.
		command = fmt.Sprintf("%s -W '[%%h]:%%p' -- %s", strings.Join(words, " "),
			literal(quoteShell(addr.Host)))
	}
	return command, nil
}

// errTooManyHops also ends a chain that leads in a circle.
var errTooManyHops = fmt.Errorf("ProxyJump leads over more than %d hosts", maxHops)

// parseJump reads one of the hosts that ProxyJump names.
func parseJump(jump string) (Addr, error) {
	addr, err := ParseAddr(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(jump), "ssh://"),
		"/"))
	if err != nil {
		return Addr{}, fmt.Errorf("ProxyJump: %w", err)
	}
	return addr, nil
}
