package sched

import (
	"fmt"
	"strings"

	"jobserver/slurm"
)

// A class may be backed by a Slurm partition: a provider, whose address is slurm:PARTITION, or
// slurm:LOGIN/PARTITION where Slurm's commands are run on another host. What Slurm allocates for it
// joins the class as a machine that expires, a pilot, whose address is the provider's with the
// allocation's number at its end.

// slurmScheme begins the addresses of providers and pilots.
const slurmScheme = "slurm:"

// IsSlurm says that an address is a provider's or a pilot's, whether there is one or not.
func IsSlurm(addr string) bool { return strings.HasPrefix(addr, slurmScheme) }

// pilotAddr is the address of the machine that an allocation of a provider is.
func pilotAddr(provider string, id uint64) string { return fmt.Sprintf("%s/%d", provider, id) }

// SplitProvider takes a provider's address apart. An empty login is this host.
func SplitProvider(addr string) (login, partition string, err error) {
	rest, isSlurm := strings.CutPrefix(addr, slurmScheme)
	partition = rest
	slash := strings.LastIndexByte(rest, '/')
	if slash >= 0 {
		login, partition = rest[:slash], rest[slash+1:]
	}
	switch {
	case !isSlurm || slurm.CheckPartition(partition) != nil:
		return "", "", errorf(Invalid, "%q names no partition of Slurm", addr).
			hint("it is slurm:PARTITION, or slurm:LOGIN/PARTITION when Slurm's commands are on " +
				"another host; `sinfo -o %%R` lists the partitions")
	case slash == 0:
		return "", "", errorf(Invalid, "%q names no login", addr).
			hint("leave the slash out when Slurm's commands are on this host: slurm:%s", partition)
	case slash > 0 && (IsLocal(login) || IsSlurm(login)):
		return "", "", errorf(Invalid, "%q: %s is no host to log in to", addr, login).
			hint("slurm:%s is the partition of the Slurm whose commands are on this host",
				partition)
	case slash > 0:
		if err := checkAddr(login); err != nil {
			return "", "", err
		}
	}
	return login, partition, nil
}
