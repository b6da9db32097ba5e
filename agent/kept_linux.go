package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kept is an agent's view of its keeper.
type kept struct {
	name     string
	env      []string // with which the allocation's script was started
	cores    int
	presence int // a connection by which the keeper knows that we are there
}

// envKeeper names the allocation whose step an agent is.
const envKeeper = "JOBSERVER_KEEPER"

// keeperTime is how long an allocation's script may take to become the keeper.
const keeperTime = 45 * time.Second

// findKeeper finds the keeper of the allocation that the environment names; nil if it names none.
// Where there is no keeper yet, the script is shown where its program is.
func findKeeper() (*kept, error) {
	name := os.Getenv(envKeeper)
	if name == "" {
		return nil, nil
	}
	_ = os.Unsetenv(envKeeper) // its name is a valid one
	if !validKeeper(name) {
		return nil, errorf(KindBadRequest, "%q can't be an allocation", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), keeperTime)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	link := ""
	for {
		fd, pid, err := dialKeeper(name, askPresence)
		if err == nil {
			return meetKeeper(name, fd, pid)
		}
		if link == "" {
			var shown error
			if link, shown = showProgram(name); shown != nil {
				return nil, shown
			}
			defer os.Remove(link) // the keeper has, unless there is none
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("allocation %s has no keeper: %w", name, err)
		}
	}
}

// showProgram makes the link that the allocation's script waits for.
func showProgram(name string) (link string, err error) {
	program := ownProgram()
	link = filepath.Join(filepath.Dir(filepath.Dir(program)), dirKeep, name)
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return "", err
	}
	if err := os.Symlink(program, link); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return link, nil
}

// dialKeeper says to the keeper what is wanted.
func dialKeeper(name string, want byte) (fd, pid int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	if err = unix.Connect(fd, keeperAddr(name)); err == nil {
		if pid, err = peerOfOurs(fd); err == nil {
			_, err = unix.Write(fd, []byte{want})
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("ask the keeper of %s: %w", name, err)
	}
	return fd, pid, nil
}

// meetKeeper learns what the allocation has. The step that we are has less, and an environment that
// upsets what starts steps of its own.
func meetKeeper(name string, fd, pid int) (*kept, error) {
	env, err := readFile("/proc/"+strconv.Itoa(pid)+"/environ", maxRecord)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("read the environment of allocation %s: %w", name, err)
	}
	k := &kept{name: name, presence: fd, cores: runtime.NumCPU()}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if len(v) > 0 {
			k.env = append(k.env, string(v))
		}
	}
	var cpus unix.CPUSet
	if unix.SchedGetaffinity(pid, &cpus) == nil {
		k.cores = cpus.Count()
	}
	if n, err := strconv.Atoi(k.variable("SLURM_CPUS_ON_NODE")); err == nil && n > 0 {
		k.cores = min(k.cores, n)
	}
	return k, nil
}

// variable looks a variable of the allocation's environment up.
func (k *kept) variable(name string) string {
	value, _ := k.lookup(name)
	return value
}

func (k *kept) lookup(name string) (value string, ok bool) {
	for _, v := range k.env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// environment gives what runs begin with: the environment of the allocation, or else ours.
func (k *kept) environment() []string {
	if k == nil {
		return os.Environ()
	}
	return slices.Clone(k.env)
}

// bound lowers what a machine has to what the allocation may use of it. Slurm says MiB.
func (k *kept) bound(f *Facts) {
	if k == nil {
		return
	}
	f.Cores = k.cores
	n, err := strconv.ParseInt(k.variable("SLURM_MEM_PER_NODE"), 10, 64)
	if err == nil && n > 0 && n < f.MemoryBytes>>20 {
		f.MemoryBytes = n << 20
	}
}

// devices are the GPUs that runs may be given: of an allocation those that it was given itself, by
// the names under which it sees them, as far as anything says which these are.
func (k *kept) devices() []GPU {
	if k == nil {
		return findGPUs("/", askNVIDIA)
	}
	var gpus []GPU
	known := false
	for _, v := range [...]struct{ name, vendor string }{
		{"CUDA_VISIBLE_DEVICES", VendorNVIDIA}, {"ROCR_VISIBLE_DEVICES", VendorAMD},
	} {
		value, set := k.lookup(v.name)
		known = known || set
		for id := range strings.SplitSeq(value, ",") {
			if id = strings.TrimSpace(id); id != "" && id != "NoDevFiles" {
				gpus = append(gpus, GPU{ID: id, Vendor: v.vendor})
			}
		}
	}
	if !known {
		return findGPUs("/", askNVIDIA)
	}
	return gpus[:min(len(gpus), maxGPUs)]
}

// starter gives what starts supervisors.
func (k *kept) starter() func() (*net.UnixConn, error) {
	if k == nil {
		return startSupervisor
	}
	return func() (*net.UnixConn, error) {
		fd, _, err := dialKeeper(k.name, askSupervisor)
		if err != nil {
			return nil, err
		}
		return socketConn(fd)
	}
}
