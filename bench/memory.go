package main

import (
	"bytes"
	"errors"
	"os"
)

// A virtual machine gives memory that has been free for a while back to its host, and getting a
// page again costs some twenty times what is done with it: the first to write a gigabyte pays
// seconds of processor time that the next one doesn't. So a turn begins with memory as it is where
// a machine has been up for long: full of files that were read.

const (
	leftFree = 512 << 20 // bytes, less than what Linux begins to make room at
	mostFull = 64 << 30  // bytes, so that a very large machine isn't filled for hours
	// bytes of a file without blocks; what is read from it is zeros, and no disk is asked
	fillerIs = 4 << 40
	vmFlag   = " hypervisor" // in /proc/cpuinfo, on a virtual machine
)

// filler fills free memory with pages that can be had again at once.
type filler struct {
	f   *os.File // nil where there is no need
	at  int64    // where to go on
	buf []byte
}

// newFiller makes a filler whose file is the one named.
func newFiller(name string) (*filler, error) {
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !bytes.Contains(cpus, []byte(vmFlag)) {
		return &filler{}, err
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	return &filler{f: f, buf: make([]byte, 1<<20)}, f.Truncate(fillerIs)
}

// fill reads as much as there is free memory, always from a part of the file that isn't in memory
// yet.
func (m *filler) fill() error {
	if m.f == nil {
		return nil
	}
	free, err := procNumber("/proc/meminfo", "MemFree")
	for spare := min(free<<10-leftFree, mostFull); err == nil &&
		spare > 0; spare -= int64(len(m.buf)) {
		if m.at+int64(len(m.buf)) > fillerIs {
			m.at = 0
		}
		_, err = m.f.ReadAt(m.buf, m.at)
		m.at += int64(len(m.buf))
	}
	return err
}

func (m *filler) close() error {
	if m.f == nil {
		return nil
	}
	return errors.Join(m.f.Close(), os.Remove(m.f.Name()))
}
