package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
	"unicode/utf8"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// machineID is an address as agent.RunID takes it: readable, of letters, digits, _ and - only, at
// most 64 of them, and with a piece of the address's hash where those don't tell addresses apart.
func machineID(addr string) string {
	plain := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			return c
		}
		return '_'
	}, addr)
	if plain == addr && len(addr) <= 40 {
		return addr
	}
	sum := sha256.Sum256([]byte(addr))
	return plain[:min(len(plain), 40)] + "_" + hex.EncodeToString(sum[:6])
}

// runID is a run's name on its machine.
func (f *Fleet) runID(r *statepb.RunRef) agent.RunID {
	return agent.RunID{
		Server:  f.opt.ServerID,
		Machine: machineID(r.Machine),
		Job:     r.Job,
		Attempt: uint32(r.Attempt),
		Step:    uint32(r.Step),
		Token:   r.Token,
	}
}

// RunDir is where what is left of a run stands on its machine, below the machine's root.
func RunDir(server, root string, r *statepb.RunRef) string {
	id := (&Fleet{opt: Options{ServerID: server}}).runID(r)
	return path.Join(root, "runs", id.Server, id.Machine, "*"+id.Name())
}

// ref is the inverse for runs found on m.
func (m *machine) ref(id agent.RunID) *statepb.RunRef {
	return &statepb.RunRef{
		Machine: m.addr,
		Job:     id.Job,
		Attempt: int32(id.Attempt),
		Step:    int32(id.Step),
		Token:   id.Token,
	}
}

// machineFacts gives what sched keeps of a machine.
func machineFacts(addr string, f agent.Facts) *statepb.Machine {
	var devices []*statepb.Item
	for _, g := range f.GPUs {
		devices = append(devices, &statepb.Item{Id: plain(g.ID), Vendor: plain(g.Vendor)})
	}
	var cpus []*statepb.Cpu
	for _, c := range f.CPUs {
		cpus = append(cpus, &statepb.Cpu{Number: int32(c.ID), Core: int32(c.Core),
			Package: int32(c.Package)})
	}
	return &statepb.Machine{
		Cpus: cpus, LimitsMemory: f.LimitsMemory,
		Addr:     addr,
		Devices:  devices,
		BootId:   plain(f.BootID),
		Root:     rootToKeep(f.Root),
		Os:       plain(f.OS),
		Arch:     plain(f.Arch),
		Cores:    int32(f.Cores),
		Memory:   f.MemoryBytes,
		CpuModel: plain(f.CPUModel),
		Kernel:   plain(f.Kernel),
	}
}

// rootToKeep is the root that a machine chose, if it can be kept in a record and given to a script
// as one line.
func rootToKeep(root string) string {
	if !utf8.ValidString(root) || strings.ContainsAny(root, "\n\r\x00") {
		return ""
	}
	return root
}

var _ sched.Fleet = (*Fleet)(nil)
