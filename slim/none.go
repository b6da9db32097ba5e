//go:build !slim

package slim

import "io/fs"

// Agents are the agents, named jobserver-GOOS-GOARCH.gz; nil when there are none inside.
func Agents() fs.FS { return nil }
