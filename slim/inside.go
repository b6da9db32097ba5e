//go:build slim

package slim

import (
	"embed"
	"io/fs"
)

//go:embed jobserver-*.gz
var files embed.FS

// Agents are the agents, named jobserver-GOOS-GOARCH.gz; nil when there are none inside.
func Agents() fs.FS { return files }
