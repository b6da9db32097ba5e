package ssh

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Stamp says of files, by their names, what they are: another text where one has changed.
type Stamp map[string]string

// Differs tells whether a file that both know is another one in now. One that now doesn't know is
// looked at, and put into it.
func (s Stamp) Differs(now Stamp) bool {
	for name, was := range s {
		is, ok := now[name]
		if !ok {
			is = fileStamp(name)
			now[name] = is
		}
		if is != was {
			return true
		}
	}
	return false
}

// configuration is the name under which a Stamp has the files of the ssh configuration.
const configuration = ""

// Stamp is about what decides on this host whether a machine can be reached and lets us in: the ssh
// configuration, and for the addresses that were dialed lately known_hosts files, revoked keys,
// keys, certificates and the agent's socket; how names are resolved, too. What an agent holds shows
// in no file.
func (d *Dialer) Stamp() Stamp {
	names := []string{"/etc/hosts", "/etc/resolv.conf", d.opts.Identity}
	if home, err := os.UserHomeDir(); err == nil {
		names = append(names, filepath.Join(home, ".ssh"))
	}
	d.mu.Lock()
	for _, cached := range d.configs {
		names = append(names, cached.cfg.files()...)
	}
	d.mu.Unlock()
	stamp := stampOf(names...)
	stamp[configuration], _ = d.configState()
	return stamp
}

// Learned gives what Stamp would have said of the files of each address when that was first dialed.
func (d *Dialer) Learned() Stamp {
	learned := Stamp{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, cached := range d.configs {
		maps.Copy(learned, cached.began)
	}
	return learned
}

// stampOf is about some files.
func stampOf(names ...string) Stamp {
	stamp := Stamp{}
	for _, name := range names {
		if _, known := stamp[name]; !known && name != "" { // which is an option that isn't set
			stamp[name] = fileStamp(name)
		}
	}
	return stamp
}

// files are those that decide whether the machine is trusted and lets us in.
func (c *config) files() []string {
	names := slices.Concat(c.userHosts, c.globalHosts, c.identities, c.certificates,
		[]string{c.revokedKeys, c.agentSocket})
	for _, name := range c.identities {
		names = append(names, name+".pub", strings.TrimSuffix(name, ".pub")+"-cert.pub")
	}
	return names
}
