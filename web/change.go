package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"jobserver/api"
)

// What pages change. A change is first tried: the page asks with dry_run, shows how much would
// change, and then asks again with the same words. The request's id is the page's: one that is
// repeated does nothing twice.

// change is the body of a POST.
type change struct {
	Op        string   `json:"op"`
	Selectors []string `json:"selectors"` // of jobs
	Addrs     []string `json:"addrs"`     // of machines
	Classes   []string `json:"classes"`
	Matrix    string   `json:"matrix"`
	Failed    bool     `json:"failed"` // of rerun: only what failed or was lost
	Force     bool     `json:"force"`  // of a machine's removal
	DryRun    bool     `json:"dry_run"`
	Request   string   `json:"request"`
}

// changed tells what a change came to, or would come to.
type changed struct {
	Total   int              `json:"total"`   // what matches
	Changed int              `json:"changed"` // of it
	Jobs    []api.ChangedJob `json:"jobs,omitempty"`
	JIDs    []uint64         `json:"jids,omitempty"` // new jobs
	Notes   []string         `json:"notes,omitempty"`
	Command string           `json:"command"` // that does the same
}

// shownChanges is how many jobs that a change concerns are listed.
const shownChanges = 20

// readChange reads and checks a body. ops are those that are known, with their commands.
func (s *server) readChange(r *http.Request, ops map[string]string) (*change, error) {
	if s.ReadOnly {
		return nil, api.Errorf(api.Denied, "this page can change nothing").
			WithHint("it was started with --read-only")
	}
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		return nil, api.Errorf(api.Invalid, "the body must be application/json, not %q", kind)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, api.Errorf(api.Invalid, "read the request: %v", err)
	}
	c := new(change)
	body := json.NewDecoder(bytes.NewReader(text))
	body.DisallowUnknownFields()
	if err := body.Decode(c); err != nil {
		return nil, api.Errorf(api.Invalid, "read the request: %v", err)
	}
	if _, err := body.Token(); err != io.EOF {
		return nil, api.Errorf(api.Invalid, "read the request: there is more than one")
	}
	if _, ok := ops[c.Op]; !ok {
		return nil, api.Errorf(api.Invalid, "%q is no operation here", c.Op)
	}
	if n := len(c.Request); !c.DryRun && n < 16 || n > 64 {
		return nil, api.Errorf(api.Invalid, "the request has no id of 16 to 64 characters")
	}
	return c, nil
}

// The commands that do the same.
var (
	jobOps = map[string]string{
		api.OpCancel:  "cancel",
		api.OpHold:    "hold",
		api.OpUnhold:  "unhold",
		api.OpRestart: "restart",
		api.OpRecopy:  "recopy",
		api.OpForget:  "rm -f",
		api.OpPause:   "pause",
		api.OpGoOn:    "continue",
	}
	machineOps = map[string]string{
		api.MachineDrain: "drain", api.MachineResume: "resume", api.MachineRemove: "rm",
	}
	matrixOps = map[string]string{
		api.MatrixCancel: "cancel",
		api.MatrixHold:   "hold",
		api.MatrixUnhold: "unhold",
		api.MatrixRerun:  "rerun",
	}
)

func (s *server) changeJobs(r *http.Request) (any, error) {
	c, err := s.readChange(r, jobOps)
	if err != nil {
		return nil, err
	}
	if len(c.Selectors) == 0 {
		return nil, api.Errorf(api.Invalid, "no jobs are named")
	}
	args := &api.ChangeJobsArgs{Op: c.Op, Selectors: c.Selectors, DryRun: c.DryRun}
	args.SetRequestID(c.Request)
	var reply api.ChangeJobsReply
	if err := s.Follower.Do(r.Context(), api.ChangeJobs, args, &reply); err != nil {
		return nil, err
	}
	return &changed{
		Total: reply.Total, Changed: reply.Changed, JIDs: reply.JIDs,
		Jobs:    reply.Matched[:min(len(reply.Matched), shownChanges)],
		Command: command("jobserver job "+jobOps[c.Op], c.Selectors),
	}, nil
}

func (s *server) changeMachines(r *http.Request) (any, error) {
	c, err := s.readChange(r, machineOps)
	if err != nil {
		return nil, err
	}
	if len(c.Addrs)+len(c.Classes) == 0 {
		return nil, api.Errorf(api.Invalid, "no machines are named")
	}
	args := &api.ChangeMachinesArgs{
		MachineSelector: api.MachineSelector{Addrs: c.Addrs, Classes: c.Classes},
		Op:              c.Op, Force: c.Force, DryRun: c.DryRun,
	}
	args.SetRequestID(c.Request)
	var reply api.ChangeMachinesReply
	if err := s.Follower.Do(r.Context(), "ChangeMachines", args, &reply); err != nil {
		return nil, err
	}
	text := "jobserver machine " + machineOps[c.Op]
	if len(c.Addrs) > 0 {
		text = command(text+" -m", c.Addrs)
	} else {
		text = command(text+" -c", c.Classes)
	}
	return &changed{
		Total:   len(reply.Machines),
		Changed: len(reply.Machines),
		Notes:   reply.Notes,
		Command: text,
	}, nil
}

func (s *server) changeMatrices(r *http.Request) (any, error) {
	c, err := s.readChange(r, matrixOps)
	if err != nil {
		return nil, err
	}
	if c.Matrix == "" {
		return nil, api.Errorf(api.Invalid, "no matrix is named")
	}
	args := &api.ChangeMatrixArgs{Matrix: c.Matrix, Op: c.Op, Failed: c.Failed, DryRun: c.DryRun}
	args.SetRequestID(c.Request)
	var reply api.ChangeMatrixReply
	if err := s.Follower.Do(r.Context(), "ChangeMatrix", args, &reply); err != nil {
		return nil, err
	}
	words := []string{c.Matrix}
	if c.Failed {
		words = append(words, "--failed")
	}
	return &changed{
		Total: reply.Matrix.Cells, Changed: reply.Changed, JIDs: reply.JIDs,
		Command: command("jobserver matrix "+matrixOps[c.Op], words),
	}, nil
}

// command is a command line as a shell takes it.
func command(text string, words []string) string {
	for _, word := range words[:min(len(words), 50)] {
		text += " " + quoted(word)
	}
	if len(words) > 50 {
		text += fmt.Sprintf(" … (%d more)", len(words)-50)
	}
	return text
}

// quoted is a word as a shell takes it.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			slices.Contains([]rune("%@:.~=_-/,[]"), r)
	}
	for _, r := range word {
		if !plain(r) {
			return "'" + replaceQuotes(word) + "'"
		}
	}
	return word
}
