package api

import "time"

// The objects that listings show. Their JSON names are the contract of the command line's `-o json`
// (docs/cli.md has their table): fields are only added, and none changes its meaning. A field
// without a value is absent.

// The states of a job.
const (
	StatusWaiting  = "waiting"
	StatusHeld     = "held"
	StatusRunning  = "running"
	StatusCopying  = "copying"
	StatusDone     = "done"
	StatusFailed   = "failed"
	StatusCanceled = "canceled"
	StatusLost     = "lost"
)

// Job is one job as clients see it.
type Job struct {
	JID       uint64 `json:"jid"`
	Status    string `json:"status"` // waiting held running copying done failed canceled lost
	Canceling bool   `json:"canceling,omitempty"`
	Pause     string `json:"pause,omitempty"` // of a running job: pausing paused continuing
	Class     string `json:"class,omitempty"`
	Cmd       string `json:"cmd,omitempty"`     // as given; a setup has steps
	CmdRun    string `json:"cmd_run,omitempty"` // as the newest attempt ran it
	// CmdExpanded is the command of a job that has not run yet, with the variables in it that are
	// known; "" where that is Cmd itself. Only a full listing has it.
	CmdExpanded string     `json:"-"`
	Machine     string     `json:"machine,omitempty"` // of the newest attempt
	Slot        Maybe[int] `json:"slot,omitzero"`     // 0-based, of the newest attempt
	Matrix      uint64     `json:"matrix,omitempty"`
	Cell        Maybe[int] `json:"cell,omitzero"` // 0-based index in its matrix
	Tag         uint64     `json:"tag,omitempty"`
	TagName     string     `json:"tag_name,omitempty"`
	Priority    int        `json:"priority,omitempty"`

	Attempt  int        `json:"attempt,omitempty"` // number of the newest attempt, from 1
	Attempts []Attempt  `json:"attempts,omitempty"`
	ExitCode Maybe[int] `json:"exit_code,omitzero"`
	Signal   string     `json:"signal,omitempty"`
	Error    string     `json:"error,omitempty"`

	Vars map[string]string `json:"vars,omitempty"`
	Env  map[string]string `json:"env,omitempty"`

	CpPath        string   `json:"cp_path,omitempty"`
	Flat          bool     `json:"flat,omitempty"`
	Results       []string `json:"results,omitempty"`        // paths on the machine
	ResultsStatus string   `json:"results_status,omitempty"` // none waiting copying copied failed
	ResultsDir    string   `json:"results_dir,omitempty"`    // on the daemon's host
	ResultsError  string   `json:"results_error,omitempty"`

	Log     string   `json:"log,omitempty"`      // path on the daemon's host, of the newest attempt
	ErrLog  string   `json:"err_log,omitempty"`  // likewise
	LogFull []string `json:"log_full,omitempty"` // of a setup: the logs of all its steps

	SubmittedAt time.Time  `json:"submitted_at"`
	StartedAt   *time.Time `json:"started_at,omitempty"` // of the newest attempt
	EndedAt     *time.Time `json:"ended_at,omitempty"`

	DurationSeconds float64 `json:"duration_seconds,omitempty"` // without the time that it was paused
	CPUSeconds      float64 `json:"cpu_seconds,omitempty"`
	MaxRSSBytes     int64   `json:"max_rss_bytes,omitempty"`
	TimeoutSeconds  float64 `json:"timeout_seconds,omitempty"`
	// of the newest attempt: since when it is paused, and how long it was before
	PausedAt      *time.Time `json:"paused_at,omitempty"`
	PausedSeconds float64    `json:"paused_seconds,omitempty"`
	// running: it stands still, as Slurm has suspended the allocation in which it runs
	Suspended bool `json:"suspended,omitempty"`

	MaxFailures int        `json:"max_failures,omitempty"` // retries allowed; -1: without limit
	Failures    int        `json:"failures,omitempty"`
	Notify      bool       `json:"notify,omitempty"`
	Setup       bool       `json:"setup,omitempty"`
	Steps       []string   `json:"steps,omitempty"` // commands of a setup
	RestartOf   uint64     `json:"restart_of,omitempty"`
	NotBefore   *time.Time `json:"not_before,omitempty"` // a retry waits until then
	Needs       *Needs     `json:"needs,omitempty"`      // absent: one slot
	Machines    []string   `json:"machines,omitempty"`   // of the newest attempt, when it has several
	After       []string   `json:"after,omitempty"`      // what it waits for: "after 17", "after-any %93"
	Blocked     bool       `json:"blocked,omitempty"`    // what it waits for can't come at present
	Unneeded    bool       `json:"unneeded,omitempty"`   // canceled, as what it was to run after went well
	StartAfter  *time.Time `json:"start_after,omitempty"`
	RetryOn     []string   `json:"retry_on,omitempty"`    // which failures are tried again
	NoRetryOn   []string   `json:"no_retry_on,omitempty"` // which aren't
	HeldWhy     string     `json:"held_why,omitempty"`    // "" when the user holds it, or its matrix is held
	Inputs      []Input    `json:"inputs,omitempty"`      // as they were asked for
	Cwd         string     `json:"cwd,omitempty"`         // where it begins on its machine
	Stdin       string     `json:"stdin,omitempty"`       // what its standard input was called
	Label       string     `json:"label,omitempty"`
	Reason      string     `json:"reason,omitempty"` // why the user canceled it
}

// Input is a file or a directory of the daemon's host that a job finds in $JOBSERVER_INPUTS.
type Input struct {
	Name  string `json:"name"`
	Path  string `json:"path"`            // of a job with its variables, of an attempt with their values
	Hash  string `json:"hash,omitempty"`  // of what an attempt was given: SHA-256 of it as it was packed
	Files int    `json:"files,omitempty"` // likewise
	Bytes int64  `json:"bytes,omitempty"`
	Dir   bool   `json:"dir,omitempty"` // it is a directory
}

// Needs says what a job has to have while it runs.
type Needs struct {
	Slots     int      `json:"slots,omitempty"` // of its machine; absent: one
	Exclusive bool     `json:"exclusive,omitempty"`
	Pin       bool     `json:"pin,omitempty"` // cores of its own
	Resources []Amount `json:"resources,omitempty"`
	Machines  int      `json:"machines,omitempty"` // of its class; absent: one
	Each      bool     `json:"each,omitempty"`     // it runs on each of them
	With      []With   `json:"with,omitempty"`     // machines of other classes
}

// With is so many machines of a class that are held for a job.
type With struct {
	Name     string `json:"name"` // as which the job finds their addresses
	Class    string `json:"class"`
	Machines int    `json:"machines"`
}

// Rank is one of the machines that an attempt has, with what the command did there.
type Rank struct {
	Rank            Maybe[int] `json:"rank,omitzero"` // as the command knows it; absent: of one run, or none
	Machine         string     `json:"machine"`
	Slot            int        `json:"slot"`
	Slots           []int      `json:"slots,omitempty"`
	With            string     `json:"with,omitempty"` // as which the job knows it, when it is of another class
	Outcome         string     `json:"outcome"`        // as an attempt's; held: nothing runs there
	ExitCode        Maybe[int] `json:"exit_code,omitzero"`
	Signal          string     `json:"signal,omitempty"`
	Error           string     `json:"error,omitempty"`
	First           bool       `json:"first,omitempty"` // its end has ended the others
	StartedAt       *time.Time `json:"started_at,omitempty"`
	EndedAt         *time.Time `json:"ended_at,omitempty"`
	DurationSeconds float64    `json:"duration_seconds,omitempty"`
	CPUSeconds      float64    `json:"cpu_seconds,omitempty"`
	MaxRSSBytes     int64      `json:"max_rss_bytes,omitempty"`
	Given           []Grant    `json:"given,omitempty"`
	Log             string     `json:"log,omitempty"`
	ErrLog          string     `json:"err_log,omitempty"`
	ResultsStatus   string     `json:"results_status,omitempty"`
	ResultsError    string     `json:"results_error,omitempty"`
}

// Amount is so much of a resource, or so many of its items.
type Amount struct {
	Name   string `json:"name"`
	Amount int64  `json:"amount"`
	Text   string `json:"text"` // as it is given: 32G
}

// Grant says what an attempt was given of a resource.
type Grant struct {
	Amount
	Pool bool `json:"pool,omitempty"` // it is the pool's, not the machine's
	// Enforced: of memory, the machine keeps the run from taking more.
	Enforced bool     `json:"enforced,omitempty"`
	Items    []int    `json:"items,omitempty"` // indexes of what was given
	IDs      []string `json:"ids,omitempty"`   // of GPUs, as their drivers know them
}

// Resource describes what a machine, or the pool, has of something.
type Resource struct {
	Amount
	Held    int64 `json:"held"`              // given out
	Items   []int `json:"items,omitempty"`   // indexes
	Gone    []int `json:"gone,omitempty"`    // indexes of what the machine has no more
	Found   bool  `json:"found,omitempty"`   // nobody declared it: the machine says so
	Auto    bool  `json:"auto,omitempty"`    // the machine is asked which items it has
	Waiting int   `json:"waiting,omitempty"` // of the pool: jobs that wait and need some of it
}

// Ran is how long the newest attempt of a job that runs has run by a time, without its pauses.
func (j *Job) Ran(now time.Time) time.Duration {
	if j.StartedAt == nil {
		return 0
	}
	if j.PausedAt != nil {
		now = *j.PausedAt
	}
	return max(now.Sub(*j.StartedAt)-time.Duration(j.PausedSeconds*float64(time.Second)), 0)
}

// Unwanted tells whether a job has named results that nobody asked for: it was submitted without
// CP_PATH.
func (j *Job) Unwanted() bool { return j.CpPath == "" && len(j.Results) > 0 }

// Attempt is one execution of a job on one machine.
type Attempt struct {
	Attempt         int        `json:"attempt"`
	Machine         string     `json:"machine"`
	Slot            int        `json:"slot"`
	Outcome         string     `json:"outcome"` // running, exited, canceled, timed out, lost, not started
	ExitCode        Maybe[int] `json:"exit_code,omitzero"`
	Signal          string     `json:"signal,omitempty"`
	Error           string     `json:"error,omitempty"`
	DispatchedAt    time.Time  `json:"dispatched_at"`
	StartedAt       *time.Time `json:"started_at,omitempty"` // by the host's clock
	EndedAt         *time.Time `json:"ended_at,omitempty"`
	MachineStart    *time.Time `json:"machine_started_at,omitempty"` // by the machine's clock
	MachineEnd      *time.Time `json:"machine_ended_at,omitempty"`
	DurationSeconds float64    `json:"duration_seconds,omitempty"` // without the time that it was paused
	PausedSeconds   float64    `json:"paused_seconds,omitempty"`
	CPUSeconds      float64    `json:"cpu_seconds,omitempty"`
	MaxRSSBytes     int64      `json:"max_rss_bytes,omitempty"`
	Log             string     `json:"log,omitempty"`
	ErrLog          string     `json:"err_log,omitempty"`
	LogDropped      int64      `json:"log_dropped_bytes,omitempty"`
	Slots           []int      `json:"slots,omitempty"` // all of them, when there are several
	Given           []Grant    `json:"given,omitempty"` // of resources
	Step            int        `json:"step,omitempty"`  // of a setup: the last step that began, 0-based
	CmdRun          string     `json:"cmd_run,omitempty"`
	Inputs          []Input    `json:"inputs,omitempty"`
	Ranks           []Rank     `json:"ranks,omitempty"` // its machines, when it has several
}

// Verdict tells what the daemon holds against a machine or a matrix because of failures.
type Verdict struct {
	Machine string     `json:"machine,omitempty"`
	Matrix  uint64     `json:"matrix,omitempty"`
	Class   string     `json:"class"` // whose jobs it concerns
	Text    string     `json:"text"`  // what it is, why, and when it is tried again by itself
	Undo    string     `json:"undo"`  // the command that ends it at once
	TrialAt *time.Time `json:"trial_at,omitempty"`
	Stops   bool       `json:"stops,omitempty"` // it gets no work meanwhile
}

// Machine is one machine of the pool.
type Machine struct {
	Addr               string     `json:"addr"`
	Class              string     `json:"class,omitempty"`
	State              string     `json:"state,omitempty"` // connected connecting away refused
	Since              *time.Time `json:"since,omitempty"`
	Draining           bool       `json:"draining,omitempty"`
	Until              *time.Time `json:"until,omitempty"`
	Slots              int        `json:"slots,omitempty"`
	Running            []uint64   `json:"running,omitempty"`
	Orphans            []string   `json:"orphans,omitempty"`      // runs of ours that nothing knows any more
	OrphanCount        int        `json:"orphan_count,omitempty"` // all of them; Orphans has the first
	Ending             int        `json:"ending,omitempty"`       // runs that are still to be ended there
	Unremoved          []string   `json:"unremoved,omitempty"`    // why directories of ended runs are still there
	Failures           int        `json:"failures,omitempty"`     // in a row
	Resting            bool       `json:"resting,omitempty"`
	Verdict            string     `json:"verdict,omitempty"`  // what its failures are held to show
	TrialAt            *time.Time `json:"trial_at,omitempty"` // when it is tried with a job again
	LastError          string     `json:"last_error,omitempty"`
	Hint               string     `json:"hint,omitempty"`       // what to do about it, when the machine is refused
	HomeClass          string     `json:"home_class,omitempty"` // the class from which it was set aside
	OS                 string     `json:"os,omitempty"`
	Arch               string     `json:"arch,omitempty"`
	Kernel             string     `json:"kernel,omitempty"`
	CPUModel           string     `json:"cpu_model,omitempty"`
	Cores              int        `json:"cores,omitempty"`
	MemoryBytes        int64      `json:"memory_bytes,omitempty"`
	FreeBytes          int64      `json:"free_bytes,omitempty"` // on the file system of its run directories
	Load1              float64    `json:"load1,omitempty"`
	MemoryLimit        string     `json:"memory_limit,omitempty"`         // of --needs mem=…: enforced or accounted
	ClockOffsetSeconds float64    `json:"clock_offset_seconds,omitempty"` // machine minus host
	LatencySeconds     float64    `json:"latency_seconds,omitempty"`
	Root               string     `json:"root,omitempty"`      // where runs live on it
	Resources          []Resource `json:"resources,omitempty"` // also its memory and its cores
	Provider           *Provider  `json:"provider,omitempty"`  // it is a partition of Slurm
	Pilot              *Pilot     `json:"pilot,omitempty"`     // it is an allocation of Slurm's
}

// Counts says how many jobs are in each status. "With results" is the part of done that has copied
// some.
type Counts struct {
	Waiting  int `json:"waiting"`
	Held     int `json:"held"`
	Running  int `json:"running"`
	Copying  int `json:"copying"`
	Done     int `json:"done"`
	Failed   int `json:"failed"`
	Canceled int `json:"canceled"`
	Lost     int `json:"lost"`
	Copied   int `json:"copied"`             // of done: results are on the host
	Uncopied int `json:"uncopied,omitempty"` // of done: the copy failed
}

// CountJobs counts jobs by their status.
func CountJobs(jobs []Job) Counts {
	var c Counts
	for i := range jobs {
		switch jobs[i].Status {
		case StatusWaiting:
			c.Waiting++
		case StatusHeld:
			c.Held++
		case StatusRunning:
			c.Running++
		case StatusCopying:
			c.Copying++
		case StatusDone:
			c.Done++
		case StatusFailed:
			c.Failed++
		case StatusCanceled:
			c.Canceled++
		case StatusLost:
			c.Lost++
		}
	}
	return c
}

// Total is the number of jobs that the counts hold.
func (c Counts) Total() int {
	return c.Waiting + c.Held + c.Running + c.Copying + c.Done + c.Failed + c.Canceled + c.Lost
}

// Unfinished is the number of jobs that are still to end.
func (c Counts) Unfinished() int { return c.Waiting + c.Held + c.Running + c.Copying }

// Matrix is a set of jobs made from one command and a table of values.
type Matrix struct {
	ID          uint64     `json:"id"`
	Name        string     `json:"name,omitempty"`
	Class       string     `json:"class"`
	Cmd         string     `json:"cmd"`
	CpPath      string     `json:"cp_path,omitempty"`
	Vars        []Axis     `json:"vars,omitempty"`
	Repeats     int        `json:"repeats,omitempty"`
	Cells       int        `json:"cells"`
	FirstJID    uint64     `json:"first_jid"`
	Counts      Counts     `json:"counts"`
	Held        bool       `json:"held,omitempty"`
	HeldWhy     string     `json:"held_why,omitempty"`  // "" when the user holds it
	AtMost      int        `json:"at_most,omitempty"`   // so many of its jobs hold slots at a time
	MaxFails    int        `json:"max_fails,omitempty"` // so many failures hold it
	TrialAt     *time.Time `json:"trial_at,omitempty"`  // when it is tried with one cell, as the daemon holds it
	Tag         uint64     `json:"tag,omitempty"`
	SubmittedAt time.Time  `json:"submitted_at"`
	Jobs        []Job      `json:"jobs,omitempty"`    // when one matrix is asked for
	Left        *TimeLeft  `json:"left,omitempty"`    // how long the rest takes
	Metrics     string     `json:"metrics,omitempty"` // the file among each job's results that has its numbers
	After       []string   `json:"after,omitempty"`   // what it waits for, matrices by their names: "after-cell study.train"
	Seed        uint64     `json:"seed,omitempty"`    // from which {SEED} follows in each repeat
	Listed      bool       `json:"listed,omitempty"`  // its cells are not the product of vars and repeats, in this order
}

// Axis is one variable of a matrix and its values, in the order given.
type Axis struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
	Count  int      `json:"count,omitempty"` // how many there are, where values may be left out
}

// Tag is a name for a set of jobs.
type Tag struct {
	ID     uint64 `json:"id"`
	Name   string `json:"name"`
	Counts Counts `json:"counts"`
	Jobs   []Job  `json:"jobs,omitempty"` // when one tag is asked for

	AtMost    int  `json:"at_most,omitempty"`    // so many of its jobs hold slots at a time
	MaxFails  int  `json:"max_fails,omitempty"`  // so many failures hold what waits of it
	FailedOut bool `json:"failed_out,omitempty"` // so many have failed: what waits was held
}

// Variable is a value that commands name as {NAME}. A secret's value is never sent to clients.
type Variable struct {
	Name   string        `json:"name"`
	Value  Maybe[string] `json:"value,omitzero"`
	Secret bool          `json:"secret,omitempty"`
}

// Event is one change that became durable, in the order in which it did.
type Event struct {
	Cursor  uint64    `json:"cursor"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"` // job.submitted, job.started, job.done, machine.connected, …
	JID     uint64    `json:"jid,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Machine string    `json:"machine,omitempty"`
	Matrix  uint64    `json:"matrix,omitempty"`
	Tag     uint64    `json:"tag,omitempty"`
	Status  string    `json:"status,omitempty"`
	Text    string    `json:"text"` // one plain sentence
}
