package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processors lists those that this process may run on, with the cores that they are threads of, as
// the kernel shows them below dir.
func processors(dir string) []CPU {
	var mask unix.CPUSet
	if unix.SchedGetaffinity(0, &mask) != nil {
		return nil
	}
	var all []CPU
	for id := 0; id < len(mask)*strconv.IntSize && len(all) < maxCPUs; id++ {
		if !mask.IsSet(id) {
			continue
		}
		at := filepath.Join(dir, "cpu"+strconv.Itoa(id), "topology")
		core, known := topologyNumber(at, "core_id")
		if !known {
			core = id
		}
		pkg, _ := topologyNumber(at, "physical_package_id")
		all = append(all, CPU{ID: id, Core: core, Package: pkg})
	}
	return all
}

func topologyNumber(dir, name string) (n int, known bool) {
	p, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, false
	}
	n, err = strconv.Atoi(strings.TrimSpace(string(p)))
	return max(n, 0), err == nil // -1: a machine that doesn't say
}

// pin has what this thread starts run on the run's processors alone, until unpin is called.
func (s *supervisor) pin() (unpin func(), err error) {
	if len(s.Spec.CPUs) == 0 {
		return func() {}, nil
	}
	var before, mask unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("pin it to its cores: %w", err)
	}
	for _, cpu := range s.Spec.CPUs {
		mask.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &mask); err != nil {
		return nil, fmt.Errorf("pin it to the cores %v: %w", s.Spec.CPUs, err)
	}
	return func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			fmt.Fprintf(os.Stderr, "unpin the supervisor: %v\n", err) // it runs on fewer
		}
	}, nil
}
