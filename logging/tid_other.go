//go:build !linux

package logging

import "os"

// threadID is the process's id where threads can't be told apart portably.
func threadID() int { return os.Getpid() }
