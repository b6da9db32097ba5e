package ssh

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
)

// sortStderr turns what OpenSSH's client wrote before it failed into our
// errors. The messages are those of OpenSSH 7 to 10, whose wording has been
// stable; an unknown one makes a DialError that cites it.
func (c *opensshConn) sortStderr(stderr string, err error) error {
	addr, text := c.info.Addr, stderrText(stderr)
	has := func(s string) bool { return strings.Contains(text, s) }
	last := text[strings.LastIndexByte(text, '\n')+1:]
	switch {
	case has("Host key verification failed"), has("REMOTE HOST IDENTIFICATION HAS CHANGED"),
		has("host key is known for"), has("is marked as revoked"):
		return c.hostKeyMessage(text)
	case has("Could not resolve hostname"):
		return &ResolveError{Addr: addr,
			Host: submatch(text, `Could not resolve hostname ([^:]*):`), Err: errors.New(last),
			NotFound: !has("Temporary failure")}
	case has("Bad server host key: Invalid key length"):
		return &HostKeyError{Addr: addr, Detail: "is too short (RequiredRSASize)",
			Advice: longerKey}
	case has("Unable to negotiate with"):
		return &AlgorithmError{Addr: addr,
			What:   submatch(text, `no matching (.*?)(?: type| method)? found`),
			Theirs: strings.Split(submatch(text, `Their offer: (\S+)`), ","),
			Ours:   []string{"none of these"}}
	case has("Permission denied ("), has("Too many authentication failures"):
		return &AuthError{Addr: addr, User: c.info.User, OpenSSH: true,
			Tried: []string{"what the system's ssh offers"}, Err: errors.New(last)}
	case has("Session open refused by peer"), has("open failed: connect failed: open failed"):
		return fmt.Errorf("%s: %w", addr, ErrTooManySessions)
	case has("Bad configuration option"), has("Can't open user config file"), has("jumphost loop"),
		has("Bad owner or permissions"):
		return &ConfigError{Addr: addr, Err: errors.New(strings.ReplaceAll(text, "\n", "; "))}
	case text == "":
		return &DialError{Addr: addr, Op: "run ssh", Err: err}
	}
	return &DialError{Addr: addr, Op: "connect to " + c.info.RemoteAddr,
		Err: errors.New(strings.TrimPrefix(last, "ssh: "))}
}

// stderrText is what ssh has written to stderr: it ends its lines as for a terminal in raw mode.
func stderrText(stderr string) string {
	return strings.TrimSpace(strings.ReplaceAll(stderr, "\r", ""))
}

// hostKeyMessage sorts what is said of a host key: of the machine's, or of a jump host's.
func (c *opensshConn) hostKeyMessage(text string) error {
	e := &HostKeyError{Addr: c.info.Addr, Fingerprint: submatch(text, `(SHA256:[A-Za-z0-9+/]+)`)}
	e.KeyType = submatch(text, `fingerprint for the (\S+) key|No (\S+) host key is known for`)
	// with LogLevel INFO: "Error checking host key … in revoked keys file NAME: No such file"
	unread := submatch(text, `(?m)in revoked keys file (.*)$`)
	switch {
	case unread != "":
		e.Detail = "can't be looked up in RevokedHostKeys " + unread
		e.Advice = revocationsAdvice
		return e
	case strings.Contains(text, "revoked"):
		e.Revoked = true
		e.File = submatch(text, `(?m)marked as revoked in (.*):\d+$|revoked by file (.*)$`)
		return e
	case !strings.Contains(text, "HAS CHANGED") && !strings.Contains(text, "has changed"):
		e.Unknown, e.Lax = true, c.config.strict
		e.Addr = c.hopOf(submatch(text, `host key is known for (\S+) and`))
	}
	e.File = submatch(text, `(?m)(?:Offending .*key in|Offending .*key for .* in) (.*):\d+$`)
	if n, err := strconv.Atoi(submatch(text, `(?m)Offending .* in .*:(\d+)$`)); err == nil {
		e.Line = n
	}
	return e
}

// hopOf is the address of the one on the way to the machine that known_hosts files have as name:
// the machine's own, or a jump host's.
func (c *opensshConn) hopOf(name string) string {
	if name == "" || c.info.Via == "" || name == c.config.hostKeyName() {
		return c.info.Addr
	}
	if host, port, ok := strings.Cut(strings.TrimPrefix(name, "["), "]:"); ok {
		return net.JoinHostPort(host, port)
	}
	return name
}

// submatch gives the group of the first match, or nothing.
func submatch(text, pattern string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return strings.TrimSpace(strings.Join(m[1:], ""))
	}
	return ""
}
