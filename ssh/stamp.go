package ssh

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Stamp is a string that changes when something on this host does that decides whether a machine
// can be reached and lets us in: the ssh configuration, and for the addresses that were dialed
// lately known_hosts files, revoked keys, keys, certificates and the agent's socket; how names are
// resolved, too. What an agent holds shows in no file.
func (d *Dialer) Stamp() string {
	stamp, _ := d.configState()
	names := map[string]bool{"/etc/hosts": true, "/etc/resolv.conf": true}
	if home, err := os.UserHomeDir(); err == nil {
		names[filepath.Join(home, ".ssh")] = true
	}
	if d.opts.Identity != "" {
		names[d.opts.Identity] = true
	}
	d.mu.Lock()
	for _, cached := range d.configs {
		c := cached.cfg
		for _, list := range [][]string{c.userHosts, c.globalHosts, c.identities, c.certificates,
			{c.revokedKeys, c.agentSocket}} {
			for _, name := range list {
				names[name] = true
			}
		}
		for _, name := range c.identities {
			names[name+".pub"], names[strings.TrimSuffix(name, ".pub")+"-cert.pub"] = true, true
		}
	}
	d.mu.Unlock()
	return stamp + fileStamp(slices.Sorted(maps.Keys(names))...)
}
