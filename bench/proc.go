package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// What the kernel counts of a process. Counts don't depend on how busy the machine is.

// procNumber reads the number behind "NAME:" in a file below /proc/PID.
func procNumber(file, name string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

// resident is a process's memory in MiB, now ("VmRSS") or at its most ("VmHWM").
func resident(pid int, name string) (float64, error) {
	kib, err := procNumber(fmt.Sprintf("/proc/%d/status", pid), name)
	return float64(kib) / 1024, err
}

// descriptors is how many files, sockets and the like a process has open.
func descriptors(pid int) (int, error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(open), err
}

// wakeUps is how often the threads of a process have waited and were woken: voluntary context
// switches.
func wakeUps(pid int) (int64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, file := range files {
		n, err := procNumber(file, "voluntary_ctxt_switches")
		if os.IsNotExist(err) {
			continue // the thread has ended
		}
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// writes are the bytes that a process has caused to be written to disks, and its calls of write(2)
// on whatever.
func writes(pid int) (bytes, calls int64, err error) {
	file := fmt.Sprintf("/proc/%d/io", pid)
	if bytes, err = procNumber(file, "write_bytes"); err != nil {
		return 0, 0, err
	}
	calls, err = procNumber(file, "syscw")
	return bytes, calls, err
}

// activity is what a process has done so far: woken, called write(2), and had written to disks, in
// bytes.
type activity struct{ wakeUps, writes, bytes int64 }

func look(pid int) (a activity, err error) {
	if a.wakeUps, err = wakeUps(pid); err != nil {
		return a, err
	}
	a.bytes, a.writes, err = writes(pid)
	return a, err
}

// processorTime measures what a process has used of the processors.
func processorTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// proc_pid_stat(5): utime and stime are the 14th and 15th field, in hundredths of a second; the
	// 2nd may contain anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
