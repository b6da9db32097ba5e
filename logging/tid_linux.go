package logging

import "golang.org/x/sys/unix"

// threadID is the kernel's number of the thread that logs. Goroutines move
// between threads, so two lines of one goroutine may differ.
func threadID() int { return unix.Gettid() }
