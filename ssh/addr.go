package ssh

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// An Addr names a machine as a user writes it: [user@]host[:port], where host
// is a name, an IP address or a Host alias of the ssh configuration. An empty
// User or a zero Port is for the configuration to fill in.
type Addr struct {
	User string
	Host string
	Port int
}

// words are an address as ssh(1) takes it, which knows no HOST:PORT.
func words(addr string) string {
	a, err := ParseAddr(addr)
	if err != nil {
		return addr
	}
	host := a.Host
	if a.User != "" {
		host = a.User + "@" + host
	}
	if a.Port != 0 {
		host = fmt.Sprintf("-p %d %s", a.Port, host)
	}
	return host
}

// ParseAddr parses [user@]host[:port]. An IPv6 address with a port stands in
// brackets ([::1]:22); without a port the brackets may be left out, and other
// addresses may have them. Characters
// that a shell or OpenSSH's client would interpret are refused, so that an
// address is safe as one word of a command line.
func ParseAddr(s string) (Addr, error) {
	a, err := parseAddr(s)
	if err != nil {
		return Addr{}, fmt.Errorf("address %q: %w", s, err)
	}
	return a, nil
}

func parseAddr(s string) (Addr, error) {
	var a Addr
	host := s
	// A user name may contain an @ (user@domain@host): the last one counts.
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		a.User, host = s[:i], s[i+1:]
		if a.User == "" {
			return a, fmt.Errorf("the user before @ is empty")
		}
	}
	host, port, err := splitPort(host)
	if err != nil {
		return a, err
	}
	a.Host = host
	if port != "" {
		a.Port, err = strconv.Atoi(port)
		if err != nil || a.Port < 1 || a.Port > 65535 || port[0] == '+' {
			return a, fmt.Errorf("port %q is not a number from 1 to 65535", port)
		}
	}
	if err := checkWord("host", a.Host); err != nil {
		return a, err
	}
	if a.User != "" {
		return a, checkWord("user", a.User)
	}
	return a, nil
}

// splitPort takes host:port, [v6]:port, [v6] or a bare host or IPv6 address
// apart; port is empty where there is none.
func splitPort(s string) (host, port string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", fmt.Errorf("missing ] after the IPv6 address")
		}
		host, rest := s[1:end], s[end+1:]
		// ssh -G puts brackets round every host of digits and dots, too.
		if ip, _, _ := strings.Cut(host, "%"); net.ParseIP(ip) == nil &&
			strings.Trim(host, "0123456789.") != "" {
			return "", "", fmt.Errorf("%q between brackets is not an IP address", host)
		}
		switch {
		case rest == "":
			return host, "", nil
		case rest[0] == ':' && len(rest) > 1:
			return host, rest[1:], nil
		}
		return "", "", fmt.Errorf("want :port after ], found %q", rest)
	}
	switch strings.Count(s, ":") {
	case 0:
		return s, "", nil
	case 1:
		host, port, _ = strings.Cut(s, ":")
		if port == "" {
			return "", "", fmt.Errorf("the port after : is empty")
		}
		return host, port, nil
	}
	if ip, _, _ := strings.Cut(s, "%"); net.ParseIP(ip) == nil {
		return "", "", fmt.Errorf("more than one colon, and not an IPv6 address")
	}
	return s, "", nil
}

// checkWord refuses what can't be (part of) a host or user name, above all a
// leading dash, which ssh would take for an option.
func checkWord(what, s string) error {
	if s == "" {
		return fmt.Errorf("the %s is empty", what)
	}
	if s[0] == '-' {
		return fmt.Errorf("the %s begins with a dash", what)
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r == 0xfffd ||
			strings.ContainsRune("'`\"$\\;&<>|(){}[]*?!,#/", r) {
			return fmt.Errorf("the %s contains %q", what, r)
		}
	}
	return nil
}

// String gives the address in the form that ParseAddr takes.
func (a Addr) String() string {
	s := a.Host
	if a.Port != 0 {
		s = net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
	}
	if a.User != "" {
		s = a.User + "@" + s
	}
	return s
}
