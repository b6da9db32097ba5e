package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	sshconfig "github.com/kevinburke/ssh_config"
)

// parseConfigFiles resolves addr without OpenSSH's client. It knows Host,
// Include and Match host, and refuses the rest of Match rather than leave
// something out silently.
func (d *Dialer) parseConfigFiles(addr Addr) (*config, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	files := []string{d.opts.ConfigFile}
	if d.opts.ConfigFile == "" {
		files = []string{filepath.Join(home, ".ssh", "config"), "/etc/ssh/ssh_config"}
	}
	var configs []*sshconfig.Config
	for _, name := range files {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && d.opts.ConfigFile == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		c, err := sshconfig.DecodeBytes(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		configs = append(configs, c)
	}
	s, err := lookUp(configs, addr.Host)
	if err != nil {
		return nil, err
	}
	if d.opts.Identity != "" {
		s["identityfile"] = append([]string{d.opts.Identity}, s["identityfile"]...)
	}
	if err := fillIn(s, addr, home); err != nil {
		return nil, err
	}
	return newConfig(addr, s, settings{}, func(_, value string, x expander) []string {
		// The library takes the quotes off a value that has them all around.
		if words, err := splitWords(value); err == nil && strings.ContainsAny(value, `"'\\`) {
			return words
		}
		return splitPrinted(value, nil, x)
	})
}

// keywords lists those that newConfig reads.
func keywords() []string {
	return []string{"HostName", "User", "Port", "AddressFamily", "BindAddress", "ConnectTimeout",
		"ProxyJump", "ProxyCommand",
		"HostKeyAlias", "UserKnownHostsFile", "GlobalKnownHostsFile", "HashKnownHosts",
		"IdentityFile", "CertificateFile",
		"IdentitiesOnly", "IdentityAgent", "Ciphers", "KexAlgorithms", "MACs", "HostKeyAlgorithms",
		"PubkeyAcceptedAlgorithms", "CASignatureAlgorithms", "RequiredRSASize", "RevokedHostKeys",
		"CheckHostIP",
		"StrictHostKeyChecking", "KnownHostsCommand", "BindInterface", "PubkeyAuthentication",
		"PreferredAuthentications",
		"SetEnv"}
}

// isRaw tells whether a value is taken as it stands, with its quotes: lists of file names and
// commands.
func isRaw(key string) bool {
	switch key {
	case "UserKnownHostsFile", "GlobalKnownHostsFile", "ProxyCommand", "KnownHostsCommand":
		return true
	}
	return false
}

// lookUp collects the values for host: of most keywords the first one counts,
// IdentityFile and CertificateFile add up.
func lookUp(configs []*sshconfig.Config, host string) (settings, error) {
	s := settings{}
	for _, key := range keywords() {
		lower := strings.ToLower(key)
		for _, c := range configs {
			values, err := c.GetAll(host, key)
			if err != nil {
				return nil, err
			}
			for _, v := range values {
				words, err := splitWords(v)
				if err != nil {
					return nil, fmt.Errorf("%s %s: %w", key, v, err)
				}
				switch {
				case isRaw(key):
					s[lower] = append(s[lower], v)
				case key == "SetEnv" && len(s[lower]) > 0: // only the first one counts
				case key == "SetEnv":
					s[lower] = words
				case strings.ContainsAny(v, `"'`):
					s[lower] = append(s[lower], words...)
				default:
					s[lower] = append(s[lower], v)
				}
			}
		}
	}
	return s, nil
}

// fillIn adds the defaults that `ssh -G` would print, and what addr overrides.
func fillIn(s settings, addr Addr, home string) error {
	if addr.User != "" {
		s["user"] = []string{addr.User}
	}
	if addr.Port != 0 {
		s["port"] = []string{strconv.Itoa(addr.Port)}
	}
	if s.first("user") == "" {
		u, err := user.Current()
		if err != nil {
			return fmt.Errorf("who am I: %w", err)
		}
		s["user"] = []string{u.Username}
	}
	setDefault := func(key string, values ...string) {
		if len(s[key]) == 0 {
			s[key] = values
		}
	}
	setDefault("port", "22")
	setDefault("requiredrsasize", "1024") // as OpenSSH has it
	setDefault("hostname", addr.Host)
	// %h in HostName is the name as given (ssh_config(5)).
	s["hostname"] = []string{expander{tokens: map[byte]string{'h': addr.Host,
		'%': "%"}}.expand(s.first("hostname"))}
	dot := filepath.Join(home, ".ssh")
	setDefault("userknownhostsfile", filepath.Join(dot, "known_hosts")+" "+
		filepath.Join(dot, "known_hosts2"))
	setDefault("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
	setDefault("identityfile", filepath.Join(dot, "id_rsa"), filepath.Join(dot, "id_ecdsa"),
		filepath.Join(dot, "id_ed25519"))
	// +, - and ^ before a list change the defaults, which only OpenSSH knows:
	// then ours are in force.
	for _, key := range []string{"ciphers", "kexalgorithms", "macs", "hostkeyalgorithms",
		"pubkeyacceptedalgorithms", "casignaturealgorithms"} {
		if v := s.first(key); v != "" && (v[0] == '+' || v[0] == '-' || v[0] == '^') {
			delete(s, key)
		}
	}
	return nil
}
