package agent

import (
	"crypto/sha256"
	"path/filepath"
	"strings"
	"time"
)

// Code that jobs run stands on the machine in a store: $JOBSERVER_CODE is the directory of the
// files of a copy.

func codeDir(root string) string { return filepath.Join(root, "code") }

// What is kept of code that no run has.
const (
	keepCopies    = 16
	keepCodeBytes = 4 << 30
	codeRest      = time.Hour
)

func (a *agent) codeStore() *store {
	return &store{dir: codeDir(a.root), what: "code", most: keepCopies, bytes: keepCodeBytes,
		rest: codeRest, inUse: a.codeInUse}
}

// code answers whether code is there, and takes it in pieces.
func (a *agent) code(r *codeRequest) (codeReply, error) { return a.codeStore().take(r) }

func isHash(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// codeInUse has the code of every run here that isn't known to have ended.
func (a *agent) codeInUse() (map[string]bool, error) {
	inUse := map[string]bool{}
	err := a.eachRun(func(dir string) error {
		code, err := codeOf(dir)
		inUse[filepath.Dir(code)] = true
		return err
	})
	return inUse, err
}

// codeOf is the directory of the code of a run, or "".
func codeOf(dir string) (string, error) {
	var spec specRecord
	err := readRecord(filepath.Join(dir, fileRun), fileSpec, slotsSize, spec.lines)
	return spec.Code, known(err)
}

// codeState looks at the code that a run was given, when it has ended.
func (a *agent) codeState(id RunID) CodeState {
	if id.Valid() != nil {
		return CodeState{}
	}
	code, err := codeOf(runDir(a.root, id))
	if err != nil || code == "" {
		return CodeState{}
	}
	found, err := checkSeal(filepath.Dir(code))
	if err != nil {
		return CodeState{Looked: true, Changed: "(" + err.Error() + ")"}
	}
	return CodeState{Looked: true, Changed: found.changed, Caches: found.caches}
}
