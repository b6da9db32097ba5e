//go:build !linux

package disk

import "errors"

// Of needs Linux, as all that asks for it does.
func Of(string) (FileSystem, error) { return FileSystem{}, errors.ErrUnsupported }
