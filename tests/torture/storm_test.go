package torture_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"jobserver/api"
	"jobserver/ssh/sshtest"
)

// atMost is how many machines the daemon dials at the same time.
const atMost = 32

// TestNoStorm has many machines come back at once after their network was cut. All of them are one
// sshd, whose log tells how many connections were on their way to a login at the same time, and how
// many there were at all.
func TestNoStorm(t *testing.T) {
	t.Parallel()
	n := int(scaled(t, 40, 200))
	w := newWorld(t)
	m := w.add(withSSH(sshtest.ServerConfig("MaxStartups 2000", "MaxSessions 100")), notInPool)
	key := read(t, m.HostKeyFile("ed25519")+".pub")
	proxies := make([]*sshtest.Proxy, n)
	addrs := make([]string, n)
	for i := range proxies {
		proxies[i] = sshtest.NewProxy(t, net.JoinHostPort(m.Host, strconv.Itoa(m.Port)))
		addrs[i] = fmt.Sprintf("of-many-%d", i)
		must(t, m.Know(proxies[i].Host, proxies[i].Port, key))
		must(t, m.AddHost(addrs[i], m.User, proxies[i].Host, proxies[i].Port))
	}
	call[api.Empty](w, "AddMachines", &api.AddMachinesArgs{Addrs: addrs, Class: "x"})
	all := func() bool {
		for _, machine := range call[api.ListMachinesReply](w, "ListMachines",
			&api.ListMachinesArgs{}).Machines {
			if machine.State != "connected" {
				return false
			}
		}
		return true
	}
	eventually(t, "all machines are connected", all)
	before := len(m.LogText())
	for _, p := range proxies {
		p.Reset()
	}
	eventually(t, "a machine is away", func() bool { return !all() })
	eventually(t, "all machines are back", all)
	log := m.LogText()[before:]
	now, most, dials := 0, 0, strings.Count(log, "Connection from ")
	for line := range strings.Lines(log) {
		switch {
		case strings.HasPrefix(line, "Connection from "):
			now++
			most = max(most, now)
		case strings.HasPrefix(line, "Accepted publickey "), strings.Contains(line, "[preauth]") &&
			strings.Contains(line, "closed"):
			now--
		}
	}
	count(t, n, "machines back at once")
	t.Logf("%d machines came back with %d dials, %d at once", n, dials, most)
	if most > atMost+4 || dials > 2*n { // a login that sshd logs late still counts
		t.Errorf("%d dials for %d machines, %d at once", dials, n, most)
	}
}
