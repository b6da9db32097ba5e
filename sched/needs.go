package sched

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"jobserver/sched/statepb"
)

// What a job needs, and what a machine or the pool has, as users write it: `gpu=2,mem=32G` and
// `gpu=0,1,2,3` or `mem=256G`.

// The resources that every machine has once it was seen, unless its own say otherwise.
const (
	memoryName = "mem"   // bytes
	coresName  = "cores" // that the agent may run on
	gpuName    = "gpu"   // not known by itself, but what drivers are told of it is
)

const (
	maxAmount    = math.MaxInt64 / 4 // so that two can be added
	maxResources = 64                // of a machine, of the pool, and of what a job needs
	maxItems     = 1024
	// bytesFrom is the least memory that anybody can mean: less was written without its unit.
	bytesFrom = 1 << 20
)

var resourceRE = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)
})

// checkResource refuses what can't name a resource.
func checkResource(name string) error {
	if !resourceRE().MatchString(name) {
		e := errorf(Invalid, "%q can't be a resource", name)
		if lower := strings.ToLower(name); resourceRE().MatchString(lower) {
			return e.hint("did you mean %s?", cmp.Or(otherResource(lower), lower))
		}
		if name, amount, ok := strings.Cut(name, ":"); ok && resourceRE().MatchString(name) {
			return e.hint("did you mean %s=%s?", cmp.Or(otherResource(name), name),
				cmp.Or(amount, "1"))
		}
		return e.hint("use lower-case letters, digits and dashes, and begin with a letter: gpu, " +
			"mem, license")
	}
	switch name {
	case "slot", "slots", "after", "machine", "machines", "inputs", "rank":
		return errorf(Invalid, "%q can't be a resource: the word has another meaning", name)
	}
	return nil
}

// otherResource is the resource for which other programs have this word; "" when there is none.
func otherResource(word string) string {
	switch word {
	case "memory", "ram", "rss", "vmem":
		return memoryName
	case "cpu", "cpus", "ncpus", "core", "proc", "procs", "processors", "threads":
		return coresName
	case "gpus", "ngpus", "cuda", "gres":
		return gpuName
	}
	return ""
}

// placeholder is what a resource's share is called in commands and in a job's environment: {GPU},
// JOBSERVER_GPU.
func placeholder(resource string) string {
	return strings.ToUpper(strings.ReplaceAll(resource, "-", "_"))
}

// ParseNeeds reads what a job needs beside its slots: NAME=AMOUNT, with commas between them.
func ParseNeeds(text string) ([]*statepb.Amount, error) {
	var needs []*statepb.Amount
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(word), "=")
		switch {
		case name == "":
			return nil, errorf(Invalid, "the name of a resource is missing in %q", text).
				hint("write NAME=AMOUNT, with commas between them: gpu=2,mem=32G")
		case !ok && name == memoryName:
			return nil, errorf(Invalid, "how much memory it needs is missing").
				hint("write a number with its unit, K, M, G or T: mem=32G")
		case !ok:
			value = "1"
		}
		if err := checkResource(name); err != nil {
			return nil, err
		}
		n, bytes, err := parseAmount(name, value)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		if slices.ContainsFunc(needs, func(a *statepb.Amount) bool { return a.Name == name }) {
			return nil, errorf(Invalid, "the need %s is given twice", name).hint("add the two up")
		}
		needs = append(needs, &statepb.Amount{Name: name, Amount: n, Bytes: bytes})
	}
	if len(needs) > maxResources {
		return nil, errorf(Invalid, "a job can't need more than %d resources", maxResources)
	}
	slices.SortFunc(needs, func(a, b *statepb.Amount) int { return cmp.Compare(a.Name, b.Name) })
	return needs, nil
}

// units maps the units of memory to bytes: powers of 1024, as with `free` and Slurm.
var units = map[string]int64{
	"":  1,
	"K": 1 << 10,
	"M": 1 << 20,
	"G": 1 << 30,
	"T": 1 << 40,
	"P": 1 << 50,
}

// parseAmount reads 3, 32G, 1.5T or 512MiB. Bytes says that it has a unit, or is memory.
func parseAmount(name, text string) (n int64, bytes bool, err error) {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := strings.ToUpper(text[len(digits):])
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "I")
	factor, known := units[unit]
	value, parseErr := strconv.ParseFloat(digits, 64)
	switch {
	case !known || parseErr != nil || strings.ContainsAny(digits, "xXpP_"):
		e := errorf(Invalid, "%s=%s is no amount", name, text)
		if name == memoryName {
			return 0, false, e.hint("write a number with its unit, K, M, G or T: mem=32G")
		}
		return 0, false, e.
			hint("write a number, for memory with its unit: %s=2, mem=32G (K, M, G or T)", name)
	case value < 0 || value*float64(factor) >= maxAmount:
		return 0, false, errorf(Invalid, "%s=%s is negative or too much", name, text)
	}
	n, bytes = int64(value*float64(factor)), len(digits) < len(text)
	switch {
	case float64(n) != value*float64(factor) && !bytes:
		return 0, false, errorf(Invalid, "%s=%s: only whole numbers can be given out", name, text)
	case bytes && (name == gpuName || name == coresName):
		return 0, false, errorf(Invalid, "%s=%s: %s is a number, without a unit", name, text, name).
			hint("write %s=%s", name, digits)
	case name == memoryName && n > 0 && n < bytesFrom:
		return 0, false, errorf(
			Invalid,
			"mem=%s is less than a megabyte",
			text,
		).hint("with its unit: mem=%sG or mem=%sM", digits, digits)
	}
	return n, bytes || name == memoryName, nil
}

// AmountText writes an amount as it is read; of bytes that are no round number, one digit after the
// point.
func AmountText(n int64, bytes bool) string {
	names := []string{"", "K", "M", "G", "T", "P"}
	i := len(names) - 1
	for i > 0 && (!bytes || n < units[names[i]]) {
		i--
	}
	switch size := units[names[i]]; {
	case n%size == 0:
		return strconv.FormatInt(n/size, 10) + names[i]
	case n%(size/1024) == 0 && n < 10*size:
		return strconv.FormatInt(n/(size/1024), 10) + names[i-1]
	default:
		return strconv.FormatFloat(float64(n)/float64(size), 'f', 1, 64) + names[i]
	}
}

// ParseResource reads what a machine or the pool has of something: an amount; a list of items,
// 0,1,2,3 or 0-3; or auto. GPUs are always items: of them, a number alone says how many.
func ParseResource(name, value string) (*statepb.Resource, error) {
	if err := checkResource(name); err != nil {
		return nil, err
	}
	r := &statepb.Resource{Name: name}
	if value == "auto" {
		if name != gpuName {
			return nil, errorf(Invalid, "%s=auto: only GPUs are asked for", name).
				hint("memory and cores are known anyway; give others by number, as in %s=4", name)
		}
		r.Auto = true
		return r, nil
	}
	if name != gpuName && !strings.ContainsAny(value, ",-") {
		var err error
		r.Amount, r.Bytes, err = parseAmount(name, value)
		return r, err
	}
	indexes, err := parseItems(name, value)
	for _, i := range indexes {
		r.Items = append(r.Items, &statepb.Item{Index: i})
	}
	return r, err
}

// parseItems reads 0,1,4-7 and, of a number alone, so many from 0.
func parseItems(name, value string) ([]int32, error) {
	bad := errorf(Invalid, "%s=%s is neither an amount nor a list of items", name, value).
		hint("%s=0,1,2,3 or %s=0-3 names each, at most %d of them", name, name, maxItems)
	if n, err := strconv.Atoi(value); err == nil && n > 0 && n <= maxItems {
		value = fmt.Sprintf("0-%d", n-1)
	}
	seen := map[int32]bool{}
	for word := range strings.SplitSeq(value, ",") {
		from, to, ranged := strings.Cut(strings.TrimSpace(word), "-")
		if !ranged {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || last < first || last-first >= maxItems {
			return nil, bad
		}
		for i := first; i <= last; i++ {
			if seen[int32(i)] {
				return nil, errorf(Invalid, "%s=%s names %d twice", name, value, i)
			}
			seen[int32(i)] = true
		}
	}
	if len(seen) > maxItems {
		return nil, bad
	}
	indexes := make([]int32, 0, len(seen))
	for i := range seen {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	return indexes, nil
}

// ResourceText writes what there is of a resource, as it is read.
func ResourceText(r *statepb.Resource) string {
	var parts []string
	for _, it := range r.Items {
		if !it.Gone {
			parts = append(parts, strconv.Itoa(int(it.Index)))
		}
	}
	switch {
	case r.Auto && len(parts) == 0:
		return "auto"
	case r.Auto || len(r.Items) > 0:
		return strings.Join(parts, ",")
	}
	return AmountText(r.Amount, r.Bytes)
}

// NeedsText writes what a job needs beside one slot, "" for nothing.
func NeedsText(n *statepb.Needs) string {
	var parts []string
	if n.GetExclusive() {
		parts = append(parts, "exclusive")
	} else if n.GetSlots() > 1 {
		parts = append(parts, fmt.Sprintf("slots=%d", n.Slots))
	}
	if text := AmountsText(n.GetAmounts()); text != "" {
		parts = append(parts, text)
	}
	if n.GetMachines() > 1 {
		parts = append(parts, fmt.Sprintf("machines=%d", n.Machines))
	}
	for _, w := range n.GetWith() {
		parts = append(parts, withText(w))
	}
	if n.GetPin() {
		parts = append(parts, "pin")
	}
	return strings.Join(parts, ",")
}

// AmountsText writes amounts as ParseNeeds reads them.
func AmountsText(amounts []*statepb.Amount) string {
	var parts []string
	for _, a := range amounts {
		parts = append(parts, a.Name+"="+AmountText(a.Amount, a.Bytes))
	}
	return strings.Join(parts, ",")
}

// slotsOf is how many slots a job takes of a machine.
func slotsOf(n *statepb.Needs, m *machine) int {
	if n.GetExclusive() {
		return int(m.Slots)
	}
	return max(int(n.GetSlots()), 1)
}

// needsOf makes the record of what a job asks for, nil for one slot and nothing else.
func needsOf(slots int, exclusive, pin bool, needs string) (*statepb.Needs, error) {
	switch {
	case slots < 0 || slots > MaxSlots:
		return nil, errorf(
			Invalid,
			"a job can't take %d slots",
			slots,
		).hint("between 1 and %d", MaxSlots)
	case exclusive && slots > 1:
		return nil, errorf(
			Invalid,
			"a job that has its machine to itself has all slots, not %d",
			slots,
		).
			hint("leave --slots or --exclusive out")
	}
	amounts, err := ParseNeeds(needs)
	if err != nil {
		return nil, err
	}
	n := &statepb.Needs{Exclusive: exclusive, Amounts: amounts, Pin: pin}
	if slots > 1 {
		n.Slots = int32(slots)
	}
	if n.Slots == 0 && !exclusive && !pin && len(amounts) == 0 {
		return nil, nil
	}
	return n, nil
}
