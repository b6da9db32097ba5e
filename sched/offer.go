package sched

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"jobserver/sched/statepb"
)

// What an allocation has for jobs follows from the arguments with which it is asked for. What these
// don't say is asked for as jobs need it: --needs gpu=2 becomes --gres=gpu:2.

// offer has what each allocation of a provider comes with, as its arguments say.
type offer struct {
	slots            int
	whole            bool  // it has its node for itself, so that memory and cores are the node's
	mem, cores, gpus int64 // unsaid: the arguments don't say
	memPerCPU        int64 // 0: likewise
	tasks            int64
	nodes            int
	exclude          string
	args             []string // all but those that say nodes and exclude
}

// unsaid is how much there is of what no argument says.
const unsaid = -1

// offerOf reads the arguments of a provider, which were checked.
func offerOf(args []string, slots int) offer {
	o := offer{slots: slots, mem: unsaid, cores: unsaid, gpus: unsaid, nodes: 1, tasks: 1}
	for _, arg := range args {
		name, value := optionOf(arg)
		switch name {
		case "--mem":
			if n := slurmBytes(value); n == 0 {
				o.whole = true // all that the node has
			} else {
				o.mem = n
			}
		case "--mem-per-cpu":
			o.memPerCPU = max(slurmBytes(value), 0)
		case "--cpus-per-task":
			o.cores = number(value)
		case "--ntasks", "--ntasks-per-node":
			o.tasks = max(number(value), 1)
		case "--exclusive":
			o.whole = true
		case "--gres":
			for gres := range strings.SplitSeq(value, ",") {
				if kind, rest, _ := strings.Cut(gres, ":"); kind == gpuName {
					o.gpus = max(o.gpus, 0) + gresCount(rest)
				}
			}
		case "--gpus", "--gpus-per-node", "--gpus-per-task":
			o.gpus = gresCount(value)
		}
		switch name {
		case "--nodes":
			o.nodes = max(int(number(value)), 1)
		case "--exclude":
			o.exclude = value
		default:
			o.args = append(o.args, arg)
		}
	}
	if o.tasks > 1 && o.cores == unsaid {
		o.cores = o.tasks
	} else if o.cores > 0 {
		o.cores *= o.tasks
	}
	return o
}

// shortOptions maps sbatch's short options that are read here to the long ones.
var shortOptions = map[byte]string{'c': "--cpus-per-task", 'n': "--ntasks", 'G': "--gpus",
	'N': "--nodes", 'x': "--exclude"}

// optionOf takes an argument apart, its option in the long form.
func optionOf(arg string) (name, value string) {
	if len(arg) > 2 && arg[0] == '-' && arg[1] != '-' {
		return shortOptions[arg[1]], strings.TrimSpace(arg[2:])
	}
	name, value, _ = strings.Cut(arg, "=")
	return name, value
}

// number reads a count, -1 when it is none.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return unsaid
	}
	return n
}

// gresCount reads how many a100:2, 2 or a100 are.
func gresCount(text string) int64 {
	last := text[strings.LastIndexByte(text, ':')+1:]
	if n := number(last); n >= 0 {
		return n
	}
	return 1
}

// slurmBytes reads an amount of memory as sbatch does: megabytes, unless it has a unit. -1 when it
// is none.
func slurmBytes(text string) int64 {
	digits := strings.TrimRight(text, "KMGTkmgt")
	unit := units["M"]
	if u := strings.ToUpper(text[len(digits):]); u != "" {
		unit = units[u]
	}
	n := number(digits)
	if n < 0 || unit == 0 {
		return unsaid
	}
	return n * unit
}

// lacks says what an allocation never has of what a job needs, "" when it has all of it.
func (o *offer) lacks(s *State, p *statepb.Provider, n *statepb.Needs) string {
	if want := int(max(n.GetSlots(), 1)); want > o.slots {
		return plural(o.slots, "slot", "slots")
	}
	for _, a := range n.GetAmounts() {
		if s.ofPool(a.Name) {
			continue
		}
		has, known := o.most(p, a.Name)
		switch {
		case has == unsaid && !known:
			return "no " + a.Name
		case has != unsaid && has < a.Amount:
			return a.Name + "=" + AmountText(has, a.Bytes)
		}
	}
	return ""
}

// most is how much of a resource an allocation may have; unsaid: as much as is asked for. known
// says that it is a resource that allocations have at all.
func (o *offer) most(p *statepb.Provider, name string) (amount int64, known bool) {
	switch name {
	case gpuName:
		return o.gpus, true
	case memoryName:
		switch {
		case o.mem != unsaid:
			return o.mem, true
		case o.memPerCPU > 0 && o.cores > 0:
			return o.memPerCPU * o.cores, true
		case o.whole && p.Memory > 0: // as the last of its pilots was seen to have
			return p.Memory, true
		}
		return unsaid, true
	case coresName:
		if o.cores == unsaid && o.whole && p.Cores > 0 {
			return int64(p.Cores), true
		}
		return o.cores, true
	}
	return unsaid, false
}

// request is what is asked of Slurm for jobs that need something, and what the allocation has then.
func (o *offer) request(n *statepb.Needs) (args []string, has []*statepb.Resource) {
	need := map[string]int64{}
	for _, a := range n.GetAmounts() {
		need[a.Name] = a.Amount
	}
	// as many such jobs as it has slots for
	slots, together := o.slots, int64(1)
	if nodesFor(n) > 0 {
		slots = int(max(n.Slots, 1))
	}
	if !n.GetExclusive() {
		together = int64(max(slots/int(max(n.GetSlots(), 1)), 1))
	}
	args = slices.Clone(o.args)
	gpus := max(o.gpus, 0)
	if o.gpus == unsaid && need[gpuName] > 0 {
		gpus = need[gpuName] * together
		args = append(args, fmt.Sprintf("--gres=gpu:%d", gpus))
	}
	if gpus > 0 {
		r := &statepb.Resource{Name: gpuName}
		for i := range min(gpus, maxItems) {
			r.Items = append(r.Items, &statepb.Item{Index: int32(i)})
		}
		has = append(has, r)
	}
	cores := o.cores
	if o.cores == unsaid && !o.whole {
		if cores = max(need[coresName]*together, int64(slots)); cores > 1 {
			args = append(args, fmt.Sprintf("--cpus-per-task=%d", cores))
		}
	}
	if cores != unsaid {
		has = append(has, &statepb.Resource{Name: coresName, Amount: cores})
	}
	mem := o.mem
	switch {
	case mem == unsaid && o.memPerCPU > 0:
		mem = o.memPerCPU * max(cores, 1)
	case mem == unsaid && !o.whole:
		// what the partition gives by itself isn't known
		if mem = need[memoryName] * together; mem > 0 {
			args = append(args, fmt.Sprintf("--mem=%dM", (mem+units["M"]-1)/units["M"]))
		}
	}
	if mem != unsaid {
		has = append(has, &statepb.Resource{Name: memoryName, Amount: mem, Bytes: true})
	}
	slices.SortFunc(has, func(a, b *statepb.Resource) int {
		return strings.Compare(a.Name, b.Name)
	})
	return args, has
}
