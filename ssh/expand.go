package ssh

import (
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// An expander fills in what `ssh -G` leaves as it stands in the configuration:
// ~, ${NAME} and %-tokens (ssh_config(5), "TOKENS" and "ENVIRONMENT VARIABLES").
type expander struct {
	home   string
	tokens map[byte]string
}

func newExpander(c *config) expander {
	home, _ := os.UserHomeDir()
	local, _ := os.Hostname()
	short, _, _ := strings.Cut(local, ".")
	x := expander{home: home, tokens: map[byte]string{
		'%': "%",
		'd': home,
		'h': c.hostName,
		'i': strconv.Itoa(os.Getuid()),
		'j': "",
		'k': c.addr.Host,
		'L': short,
		'l': local,
		'n': c.addr.Host,
		'p': strconv.Itoa(c.port),
		'r': c.user,
	}}
	if c.hostKeyAlias != "" {
		x.tokens['k'] = c.hostKeyAlias
	}
	if u, err := user.Current(); err == nil {
		x.tokens['u'] = u.Username
	}
	sum := sha1.Sum([]byte(local + c.hostName + strconv.Itoa(c.port) + c.user))
	x.tokens['C'] = hex.EncodeToString(sum[:])
	return x
}

// only is the expander of an option that takes only some of the tokens.
func (x expander) only(tokens string) expander {
	x.tokens = maps.Clone(x.tokens)
	maps.DeleteFunc(x.tokens, func(token byte, _ string) bool {
		return strings.IndexByte(tokens, token) < 0
	})
	return x
}

// expand replaces ${NAME} and %-tokens, each once. What it doesn't know stays.
func (x expander) expand(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%' && i+1 < len(s):
			if v, ok := x.tokens[s[i+1]]; ok {
				b.WriteString(v)
				i++
				continue
			}
		case strings.HasPrefix(s[i:], "${"):
			if end := strings.IndexByte(s[i:], '}'); end > 0 {
				b.WriteString(os.Getenv(s[i+2 : i+end]))
				i += end
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// path expands a file name. A relative one is relative to the working
// directory, as it is for ssh.
func (x expander) path(s string) string {
	s = x.expand(s)
	if s == "~" || strings.HasPrefix(s, "~/") {
		return filepath.Join(x.home, s[1:])
	}
	if rest, ok := strings.CutPrefix(s, "~"); ok {
		name, rest, _ := strings.Cut(rest, "/")
		if u, err := user.Lookup(name); err == nil {
			return filepath.Join(u.HomeDir, rest)
		}
	}
	return s
}

// paths expands file names and leaves out "none".
func (x expander) paths(list []string) []string {
	var out []string
	for _, s := range list {
		if s = unlessNone(s); s != "" {
			out = append(out, x.path(s))
		}
	}
	return out
}

// agent gives the socket of the agent that IdentityAgent names: nothing or
// SSH_AUTH_SOCK mean the variable, $NAME another one.
func (x expander) agent(s string) string {
	switch {
	case s == "" || s == "SSH_AUTH_SOCK":
		return os.Getenv("SSH_AUTH_SOCK")
	case strings.EqualFold(s, "none"):
		return ""
	case s[0] == '$' && !strings.HasPrefix(s, "${"):
		return os.Getenv(s[1:])
	}
	return x.path(s)
}
