package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
	"unicode/utf8"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// record is what stands beside results as job.json: where they come from, so that they can be
// understood without the daemon. Fields are only ever added. Where that name is not free, because
// jobs share the directory or the job calls a result of its own so, it is <jid>.job.json.
type record struct {
	JID      uint64        `json:"jid"`
	ServerID string        `json:"server_id"`
	Version  string        `json:"version"`
	Class    string        `json:"class"`
	Cmd      string        `json:"cmd"`     // as given
	CmdRun   string        `json:"cmd_run"` // as run
	Driver   bool          `json:"driver,omitempty"`
	Vars     []nameValue   `json:"vars,omitempty"`
	Env      []nameValue   `json:"env,omitempty"`
	Matrix   uint64        `json:"matrix,omitempty"`
	Tag      uint64        `json:"tag,omitempty"`
	Dir      string        `json:"dir,omitempty"` // where the client stood
	Cwd      string        `json:"cwd,omitempty"` // where it began on its machine, as given
	Stdin    *recordStdin  `json:"stdin,omitempty"`
	Label    string        `json:"label,omitempty"`
	After    []string      `json:"after,omitempty"` // what it waited for: "after 17"
	Code     *recordCode   `json:"code,omitempty"`
	Attempt  int32         `json:"attempt"`
	Machine  recordMachine `json:"machine"`
	Rank     *int32        `json:"rank,omitempty"`  // of a job that runs on each of its machines
	Ranks    []recordRank  `json:"ranks,omitempty"` // all its machines, when there are several
	Slots    []int32       `json:"slots,omitempty"` // all of them, when there are several
	Given    []recordGrant `json:"given,omitempty"`
	Inputs   []recordInput `json:"inputs,omitempty"` // what it was given of the host

	SubmittedAt  *time.Time `json:"submitted_at,omitempty"` // the host's clock
	DispatchedAt *time.Time `json:"dispatched_at,omitempty"`
	StartedAt    *time.Time `json:"started_at,omitempty"`
	EndedAt      *time.Time `json:"ended_at,omitempty"`
	MachineStart *time.Time `json:"machine_started_at,omitempty"` // the machine's clock
	MachineEnd   *time.Time `json:"machine_ended_at,omitempty"`
	Duration     float64    `json:"duration_seconds"` // by a clock that doesn't jump, without pauses
	Paused       float64    `json:"paused_seconds,omitempty"`

	ExitCode      int32   `json:"exit_code"`
	Signal        string  `json:"signal,omitempty"`
	UserSeconds   float64 `json:"user_seconds"`
	SystemSeconds float64 `json:"system_seconds"`
	MaxRSS        int64   `json:"max_rss_bytes"`

	Logs         []recordLog    `json:"logs"`
	Measurements []string       `json:"metrics,omitempty"`
	Results      []recordResult `json:"results"`
	Complete     bool           `json:"complete"` // everything that the job named is there
	Problems     []string       `json:"problems,omitempty"`
}

// recordStdin says what the job had as its standard input.
type recordStdin struct {
	Name   string `json:"name,omitempty"`
	SHA256 string `json:"sha256"`
}

func stdinOf(j *statepb.Job) *recordStdin {
	if j.Stdin == "" {
		return nil
	}
	return &recordStdin{j.StdinName, j.Stdin}
}

type nameValue struct {
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`
	Secret bool   `json:"secret,omitempty"`
}

type recordMachine struct {
	Addr     string `json:"addr"`
	OS       string `json:"os,omitempty"`
	Arch     string `json:"arch,omitempty"`
	Kernel   string `json:"kernel,omitempty"`
	CPUModel string `json:"cpu_model,omitempty"`
	Cores    int32  `json:"cores,omitempty"`
	Memory   int64  `json:"memory_bytes,omitempty"`
	BootID   string `json:"boot_id,omitempty"`
}

// recordInput is a file or a directory of the host that the attempt was given.
type recordInput struct {
	Name  string `json:"name"` // in $JOBSERVER_INPUTS
	Path  string `json:"path"` // on the host
	Hash  string `json:"hash"` // SHA-256 of it as it was packed
	Files int32  `json:"files"`
	Bytes int64  `json:"bytes"`
	Dir   bool   `json:"dir,omitempty"`
}

func recordInputs(inputs []*statepb.Input) []recordInput {
	var all []recordInput
	for _, in := range inputs {
		all = append(all, recordInput{in.Name, in.Path, in.Hash, in.Files, in.Bytes, in.Dir})
	}
	return all
}

// recordRank is one of the machines that an attempt has, in the order in which the job sees them.
type recordRank struct {
	Machine string  `json:"machine"`
	With    string  `json:"with,omitempty"` // as which the job knows it, of another class
	Runs    bool    `json:"runs"`           // the command runs there
	Slots   []int32 `json:"slots"`
}

func recordRanks(a *statepb.Attempt) (all []recordRank) {
	for _, r := range a.Ranks {
		slots := r.Given.GetSlots()
		if len(slots) == 0 {
			slots = []int32{r.Slot}
		}
		all = append(all, recordRank{r.Machine, r.With, !r.Idle, slots})
	}
	return all
}

// recordGrant says what the attempt was given of a resource.
type recordGrant struct {
	Name   string `json:"name"`
	Amount int64  `json:"amount"`
	Pool   bool   `json:"pool,omitempty"` // it is the pool's, not the machine's
	// of memory: the machine kept the run from taking more
	Enforced bool     `json:"enforced,omitempty"`
	Items    []int32  `json:"items,omitempty"` // indexes
	IDs      []string `json:"ids,omitempty"`
}

func recordGrants(g *statepb.Given) []recordGrant {
	var all []recordGrant
	for _, grant := range g.GetGrants() {
		one := recordGrant{Name: grant.Name, Amount: grant.Amount, Pool: grant.Pool,
			Enforced: grant.Enforced}
		for _, it := range grant.Items {
			one.Items = append(one.Items, it.Index)
			if it.Id != "" {
				one.IDs = append(one.IDs, it.Id)
			}
		}
		all = append(all, one)
	}
	return all
}

type recordLog struct {
	Path   string `json:"path"` // on the host
	Bytes  int64  `json:"bytes"`
	CRC32C string `json:"crc32c"`
}

type recordResult struct {
	Name   string     `json:"name"`             // below the record's directory
	Source string     `json:"source,omitempty"` // on the machine
	Kind   string     `json:"kind"`             // file, dir, symlink
	Bytes  int64      `json:"bytes,omitempty"`
	Mode   string     `json:"mode,omitempty"` // octal
	Target string     `json:"target,omitempty"`
	MTime  *time.Time `json:"mtime,omitempty"`
	SHA256 string     `json:"sha256,omitempty"`

	// NameBytes and SourceBytes are there when the names aren't UTF-8, which JSON's texts have to
	// be.
	NameBytes   []byte `json:"name_base64,omitempty"`
	SourceBytes []byte `json:"source_base64,omitempty"`
}

// path is the name, byte for byte.
func (r *recordResult) path() string {
	if r.NameBytes != nil {
		return string(r.NameBytes)
	}
	return r.Name
}

// bytesOf is a text that isn't UTF-8, or nil.
func bytesOf(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// plainRecord is the record's name in a directory of the job's own.
const plainRecord = "job.json"

// longRecord is its name wherever plainRecord could be another file's.
func (c *copying) longRecord() string { return fmt.Sprintf("%d.%s", c.job(), plainRecord) }

// recordName names the record in the destination.
func (t *transfer) recordName() string {
	if t.c.Shared || t.plainTaken {
		return t.c.longRecord()
	}
	return plainRecord
}

// recordMode are the permissions of the record: it names what only its user may know.
func (t *transfer) recordMode() uint32 {
	secret := func(v *statepb.Var) bool { return v.Secret || sched.LooksPrivate(v) }
	if slices.ContainsFunc(slices.Concat(t.c.Job.Vars, t.c.Job.Env), secret) {
		return 0o600
	}
	return 0o644
}

// record describes what was gathered.
func (t *transfer) record() *record {
	j, a, m := t.c.Job, t.c.Attempt, t.c.Machine
	r := &record{
		JID:      j.Id,
		ServerID: t.f.opt.ServerID,
		Version:  t.f.opt.Version,
		Class:    j.Class,
		Cmd: string(
			j.Cmd,
		),
		CmdRun:  string(a.CmdRun),
		Driver:  a.Driver,
		Vars:    pairs(j.Vars),
		Env:     pairs(j.Env),
		Matrix:  j.Matrix,
		Tag:     j.Tag,
		Dir:     j.Dir,
		Cwd:     j.Cwd,
		Stdin:   stdinOf(j),
		Label:   j.Label,
		After:   sched.AfterText(j.After),
		Code:    t.recordCode(),
		Attempt: a.Number,
		Slots:   a.Given.GetSlots(),
		Given:   recordGrants(a.Given),
		Inputs:  recordInputs(a.Inputs),
		Machine: recordMachine{
			Addr:     m.Addr,
			OS:       m.Os,
			Arch:     m.Arch,
			Kernel:   m.Kernel,
			CPUModel: m.CpuModel,
			Cores:    m.Cores,
			Memory:   m.Memory,
			BootID:   a.BootId,
		},
		SubmittedAt: moment(
			j.SubmittedAt,
		),
		DispatchedAt: moment(a.DispatchedAt),
		StartedAt:    moment(a.StartedAt),
		EndedAt: moment(
			a.EndedAt,
		),
		MachineStart:  moment(a.MachineStartedAt),
		MachineEnd:    moment(a.MachineEndedAt),
		Duration:      seconds(a.Duration),
		Paused:        seconds(a.PausedFor),
		ExitCode:      a.ExitCode,
		Signal:        a.Signal,
		UserSeconds:   seconds(a.UserCpu),
		SystemSeconds: seconds(a.SystemCpu),
		MaxRSS:        a.MaxRss,
		Measurements:  t.hide(a.Measurements),
		Complete:      len(t.problems) == 0,
		Problems:      t.allProblems(),
	}
	if r.Ranks = recordRanks(a); a.Rank > 0 {
		rank := a.Rank - 1
		r.Rank = &rank
	}
	ref := attemptRef(j, a)
	r.Logs = []recordLog{
		{sched.LogPath(t.f.opt.LogDir, ref, false), a.OutLen, fmt.Sprintf("%08x", a.OutCrc)},
		{sched.LogPath(t.f.opt.LogDir, ref, true), a.ErrLen, fmt.Sprintf("%08x", a.ErrCrc)},
	}
	hide := t.c.hidden.Redact
	kinds := map[agent.EntryKind]string{
		agent.File:    "file",
		agent.Dir:     "dir",
		agent.Symlink: "symlink",
	}
	for _, e := range t.manifest.Entries {
		if t.have[e.Name] == nil && !t.there[e.Name] {
			continue // a problem says why
		}
		result := recordResult{
			Name: hide(e.Name), Source: hide(e.Source), Kind: kinds[e.Kind], Target: hide(e.Target),
			NameBytes: bytesOf(hide(e.Name)), SourceBytes: bytesOf(hide(e.Source)),
		}
		if e.Kind != agent.Symlink {
			result.Mode = fmt.Sprintf("%04o", e.Mode.Perm())
		}
		if e.Kind == agent.File {
			result.Bytes, result.MTime = e.Size, &e.ModTime
			result.SHA256 = hex.EncodeToString(t.have[e.Name].sha256)
		}
		r.Results = append(r.Results, result)
	}
	return r
}

// hide takes secrets out of texts.
func (t *transfer) hide(texts []string) (hidden []string) {
	for _, text := range texts {
		hidden = append(hidden, t.c.hidden.Redact(text))
	}
	return hidden
}

// attemptRef is the run of an attempt.
func attemptRef(j *statepb.Job, a *statepb.Attempt) *statepb.RunRef {
	return &statepb.RunRef{
		Machine: a.Machine,
		Job:     j.Id,
		Attempt: a.Number,
		Step:    a.Step,
		Token:   a.Token,
		Driver:  a.Driver,
		Rank:    a.Rank,
	}
}

func pairs(vars []*statepb.Var) []nameValue {
	var all []nameValue
	for _, v := range vars {
		p := nameValue{Name: v.Name, Secret: v.Secret}
		if !v.Secret {
			p.Value = sched.ShownValue(v)
		}
		all = append(all, p)
	}
	return all
}

func moment(nanos int64) *time.Time {
	if nanos == 0 {
		return nil
	}
	t := time.Unix(0, nanos).UTC()
	return &t
}

func seconds(nanos int64) float64 { return time.Duration(nanos).Seconds() }

func (r *record) marshal() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the record of job %d: %w", r.JID, err)
	}
	return append(data, '\n'), nil
}

// readRecord reads a record that stands in a destination.
func readRecord(dir *beneath, name string) (*record, error) {
	data, err := readWhole(dir, name)
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s is no record: %w", name, err)
	}
	return r, nil
}

// maxRecord bounds what is taken for a record: a million results have less.
const maxRecord = 1 << 30

func readWhole(dir *beneath, name string) ([]byte, error) {
	f, err := dir.open(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRecord))
}

func sha256Hex(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// ours tells whether a record is of the same job, so that a newer one may replace it.
func (t *transfer) ours(
	r *record,
) bool {
	return r.ServerID == t.f.opt.ServerID && r.JID == t.c.job()
}

// done tells whether the copy was finished before, and only its report was lost: the record that
// the daemon has noted is in place, with all its files. What merely looks like a record says
// nothing; a job may have written it.
func (t *transfer) done() (sched.CopyEnded, bool) {
	out := sched.CopyEnded{Job: t.c.job(), Dir: t.c.Dest}
	note := t.f.copyNote(t.c)
	if note.Record == "" {
		return out, false
	}
	dest, err := openBeneath(t.c.Dest)
	if err != nil {
		return out, false
	}
	defer dest.close()
	var r *record
	// What the results are called isn't known yet, and so neither is the record's name.
	for _, name := range []string{t.c.longRecord(), plainRecord} {
		data, err := readWhole(dest, name)
		if err == nil && sha256Hex(data) == note.Record && json.Unmarshal(data, &r) == nil {
			break
		}
		r = nil
	}
	if r == nil || len(r.Results) == 0 {
		return out, false
	}
	out.Error = complaint(r.Problems, 0)
	for _, x := range r.Results {
		st, err := dest.lstat(x.path())
		if err != nil || x.Kind == "file" && st.Size != x.Bytes {
			return out, false
		}
		if x.Kind == "file" {
			out.Files++
			out.Bytes += x.Bytes
		}
	}
	return out, true
}
