package agent

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// smiTime is how long nvidia-smi may take; a driver that wakes its devices up takes some seconds.
const smiTime = 10 * time.Second

// findGPUs lists the machine's GPUs in the order of the bus. It reads below root; smi asks
// NVIDIA's own tool, which is slow, and needed only where the kernel doesn't say the ids.
func findGPUs(root string, smi func() []GPU) []GPU {
	gpus, known := nvidiaGPUs(root)
	if !known {
		if asked := smi(); len(asked) > 0 {
			gpus = asked
		}
	}
	gpus = append(gpus, amdGPUs(root)...)
	return gpus[:min(len(gpus), maxGPUs)]
}

// nvidiaGPUs are those that NVIDIA's driver lists in /proc, with their UUIDs. Known is false when
// there is a driver that doesn't say all of them: one that hasn't woken a device up gives question
// marks, and that of WSL lists none.
func nvidiaGPUs(root string) (gpus []GPU, known bool) {
	dirs, _ := filepath.Glob(filepath.Join(root, "proc/driver/nvidia/gpus/*"))
	slices.Sort(dirs) // by the address on the bus
	known = true
	for _, dir := range dirs {
		p, err := readFile(filepath.Join(dir, "information"), 64<<10)
		if err != nil {
			continue
		}
		gpu := GPU{ID: filepath.Base(dir), Vendor: VendorNVIDIA}
		if id := field(string(p), "GPU UUID"); validGPU(id) {
			gpu.ID = id
		} else {
			known = false
		}
		gpus = append(gpus, gpu)
	}
	if _, err := os.Stat(filepath.Join(root, "dev/dxg")); err == nil && len(gpus) == 0 {
		known = false
	}
	return gpus, known
}

// field is the value of a line "NAME: VALUE".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// validGPU says that an id is one that the libraries take.
func validGPU(id string) bool {
	return len(id) < 100 && (strings.HasPrefix(id, "GPU-") || strings.HasPrefix(id, "MIG-")) &&
		!strings.ContainsFunc(id, func(r rune) bool {
			return r != '-' && r != '/' && (r < '0' || r > '9') && (r < 'A' || r > 'z')
		})
}

// askNVIDIA lists devices by nvidia-smi, in the order of the bus.
func askNVIDIA() []GPU {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		path = "/usr/lib/wsl/lib/nvidia-smi"
	}
	ctx, cancel := context.WithTimeout(context.Background(), smiTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--query-gpu=pci.bus_id,uuid", "--format=csv,noheader")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return parseSMI(string(out))
}

// parseSMI reads lines of BUS, UUID.
func parseSMI(text string) []GPU {
	var rows [][]string
	for line := range strings.Lines(text) {
		bus, id, ok := strings.Cut(line, ",")
		if !ok || strings.Contains(id, ",") {
			return nil // it says something else
		}
		rows = append(rows, []string{bus, id})
	}
	slices.SortFunc(rows, func(a, b []string) int { return cmp.Compare(a[0], b[0]) })
	var gpus []GPU
	for _, row := range rows {
		if id := strings.TrimSpace(row[1]); validGPU(id) {
			gpus = append(gpus, GPU{ID: id, Vendor: VendorNVIDIA})
		}
	}
	return gpus
}

// amdGPUs are those that AMD's compute driver lists. ROCm calls a device GPU- and its unique id in
// 16 hexadecimal digits; older ones have none, and are known by their address on the bus.
func amdGPUs(root string) []GPU {
	files, _ := filepath.Glob(filepath.Join(root, "sys/class/kfd/kfd/topology/nodes/*/properties"))
	type device struct {
		at  uint64
		gpu GPU
	}
	var found []device
	for _, file := range files {
		p, err := readFile(file, 64<<10)
		if err != nil {
			continue
		}
		props := map[string]uint64{}
		for line := range strings.Lines(string(p)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			props[key], _ = strconv.ParseUint(value, 10, 64)
		}
		if props["simd_count"] == 0 { // a processor
			continue
		}
		d := device{props["domain"]<<16 | props["location_id"], GPU{Vendor: VendorAMD}}
		d.gpu.ID = fmt.Sprintf("bus-%06x", d.at)
		if id := props["unique_id"]; id != 0 {
			d.gpu.ID = fmt.Sprintf("GPU-%016x", id)
		}
		found = append(found, d)
	}
	slices.SortFunc(found, func(a, b device) int { return cmp.Compare(a.at, b.at) })
	var gpus []GPU
	for _, d := range found {
		gpus = append(gpus, d.gpu)
	}
	return gpus
}
