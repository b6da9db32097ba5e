package logging

import (
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// module is this module's path, which is cut from the names of packages and
// files in the log.
const module = "jobserver/"

// unknown stands where log4rs has nothing to print.
const unknown = "???"

// source is the place of a logging call.
type source struct {
	file string // within the module: "sched/loop.go"; else "golang.org/x/crypto/ssh/mux.go"
	pkg  string // the package's import path; "main" for the root package
	line int
}

// sources remembers the place of each logging call: there are a few hundred
// in a program, and looking one up in the symbol table costs more than
// writing the line.
type sources struct {
	known atomic.Pointer[map[uintptr]source] // never changed, only replaced
	mu    sync.Mutex                         // held by the goroutine that replaces known
}

func (s *sources) at(pc uintptr) source {
	if pc == 0 {
		return source{file: unknown, pkg: unknown}
	}
	if known := s.known.Load(); known != nil {
		if src, ok := (*known)[pc]; ok {
			return src
		}
	}
	src := lookUp(pc)
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[uintptr]source{pc: src}
	if known := s.known.Load(); known != nil {
		for k, v := range *known {
			next[k] = v
		}
	}
	s.known.Store(&next)
	return src
}

// lookUp finds the place of pc. The file is the package's path and the file's
// name, because the compiler records absolute paths or not, as it was built.
func lookUp(pc uintptr) source {
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	if frame.File == "" {
		return source{file: unknown, pkg: unknown}
	}
	pkg := packageOf(frame.Function)
	file := path.Base(frame.File)
	if pkg != "main" && pkg != "" {
		file = strings.TrimPrefix(pkg, module) + "/" + file
	}
	return source{file: file, pkg: pkg, line: frame.Line}
}

// packageOf cuts the function from "jobserver/sched.(*Loop).Run".
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	if dot := strings.IndexByte(function[slash:], '.'); dot >= 0 {
		return function[:slash+dot]
	}
	return function
}
