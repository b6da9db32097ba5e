package fleet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"jobserver/sched/statepb"
)

// CodeArchive is the file in a state directory that holds the code of a hash: a tar stream,
// compressed by gzip.
func CodeArchive(stateDir, hash string) string {
	return filepath.Join(stateDir, "code", hash+".tar.gz")
}

// CodeDiff is the file that holds what was not committed of some code, by its own SHA-256.
func CodeDiff(stateDir, hash string) string {
	return filepath.Join(stateDir, "code", hash+".diff")
}

// CodeStdin is the file that holds what jobs read as their standard input, by its SHA-256.
func CodeStdin(stateDir, hash string) string {
	return filepath.Join(stateDir, "code", hash+".stdin")
}

// recordCode has what a job's record says of its code.
type recordCode struct {
	Hash   string `json:"hash,omitempty"`   // SHA-256 of the files, as they were packed: what ran
	Commit string `json:"commit,omitempty"` // of git
	Diff   string `json:"diff,omitempty"`   // the file beside this one that has what was not committed
	Cut    bool   `json:"diff_cut,omitempty"`

	// Submitted is there instead of Hash when it isn't known that it was this code, and nothing
	// else, that ran. Doubt says why.
	Submitted string `json:"submitted,omitempty"`
	Doubt     string `json:"doubt,omitempty"`
	// PythonCaches: jobs have left compiled files in its directory, which Python reads instead of
	// the sources, as long as they say that they were made from these.
	PythonCaches bool `json:"python_caches,omitempty"`
}

func (t *transfer) recordCode() *recordCode {
	code := t.c.Job.Code
	if code == nil {
		return nil
	}
	out := &recordCode{
		Hash:         code.Hash,
		Commit:       code.Commit,
		Cut:          code.Cut,
		PythonCaches: t.manifest.Code.Caches,
	}
	switch state := t.manifest.Code; {
	case !state.Looked:
		out.Hash, out.Submitted = "", code.Hash
		out.Doubt = "the machine could not look at it when the job had ended"
	case state.Changed != "":
		out.Hash, out.Submitted = "", code.Hash
		out.Doubt = fmt.Sprintf(
			"when the job had ended, %q was not what was submitted",
			state.Changed,
		)
	}
	if code.Diff != "" {
		out.Diff = t.diffName()
	}
	return out
}

// plainDiff is the difference's name beside plainRecord.
const plainDiff = "job.diff"

// diffName names the uncommitted difference of the code beside the results.
func (t *transfer) diffName() string { return diffOf(t.recordName()) }

// diffOf is the name of the difference that goes with a record's.
func diffOf(record string) string { return strings.TrimSuffix(record, ".json") + ".diff" }

// isRecord says that the record will have the name, or the difference of the code that goes with
// it.
func (t *transfer) isRecord(name, record string) bool {
	return strings.EqualFold(name, record) ||
		t.c.Job.Code.GetDiff() != "" && strings.EqualFold(name, diffOf(record))
}

// putDiff puts the uncommitted difference of the code beside the results. That the host has lost it
// is a problem of the record, not of the results.
func (t *transfer) putDiff(code *statepb.Code) error {
	if code.GetDiff() == "" {
		return nil
	}
	text, err := os.ReadFile(CodeDiff(t.f.opt.StateDir, code.Diff))
	if err == nil && fmt.Sprintf("%x", sha256.Sum256(text)) != code.Diff {
		err = errors.New("it is damaged")
	}
	if err != nil {
		t.problem("the uncommitted difference of the code is lost: %v", err)
		return nil
	}
	if err := t.part.files.writeNew(t.diffName(), text, 0o644); err != nil {
		return fmt.Errorf("write the difference of the code: %w", err)
	}
	return nil
}
