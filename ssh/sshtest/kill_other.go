//go:build !linux

package sshtest

import (
	"errors"
	"fmt"
)

// killAndWait needs a way to wait for processes that aren't our children.
func killAndWait(pids []int) error {
	if len(pids) == 0 {
		return nil
	}
	return fmt.Errorf("kill processes %v: %w on this system", pids, errors.ErrUnsupported)
}
