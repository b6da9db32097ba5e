package sched

import (
	"path/filepath"
	"strings"

	"jobserver/sched/statepb"
)

// maxPlaces is how many CP_PATHs are known: more than anybody has below one directory that is sent
// as code, unless each job has one of its own. Then the oldest are forgotten.
const maxPlaces = 2000

// places are the CP_PATHs of all jobs that there were, as they were given, so that results aren't
// taken for code. They outlive their jobs, as results do.
type places struct {
	paths []string // oldest first
	known map[string]bool
}

// add notes a CP_PATH, "" is none.
func (p *places) add(path string) {
	if path == "" || p.known[path] {
		return
	}
	if p.known == nil {
		p.known = map[string]bool{}
	}
	if len(p.paths) == maxPlaces {
		delete(p.known, p.paths[0])
		p.paths = append(p.paths[:0:0], p.paths[1:]...)
	}
	p.known[path] = true
	p.paths = append(p.paths, path)
}

// record gives what of it is durable, nil when there is nothing.
func (p *places) record() *statepb.Places {
	if len(p.paths) == 0 {
		return nil
	}
	return &statepb.Places{Path: p.paths}
}

// Places are the CP_PATHs of all jobs that there were, as far as they lie in a directory: it
// itself, or below it. Variables in them are as they were given.
func (s *State) Places(dir string) (paths []string) {
	below := strings.TrimSuffix(dir, string(filepath.Separator)) + string(filepath.Separator)
	for _, path := range s.places.paths {
		if path == dir || strings.HasPrefix(path, below) {
			paths = append(paths, path)
		}
	}
	return paths
}
