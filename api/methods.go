package api

import "time"

// Service is the name that the daemon's methods are registered under: "Jobserver.AddJobs" and so
// on. Each method below takes the Args of its name and answers with the Reply of its name.
const Service = "Jobserver"

// Mutation is part of the arguments of every call that changes something. RequestID is made by the
// client, random and new for each intention; a call repeated with the same id answers as the first
// did and changes nothing more.
type Mutation struct {
	RequestID string
}

// SetRequestID gives the call its identity; the typed client does it when it is still empty.
func (m *Mutation) SetRequestID(id string) {
	if m.RequestID == "" {
		m.RequestID = id
	}
}

// Empty is the argument or reply of calls that need none.
type Empty struct{}

// Status answers Jobserver.Status (and Ping, which asks nothing more of the daemon than to answer).
type Status struct {
	Version       string         `json:"version"`
	PID           int            `json:"pid"`
	StateDir      string         `json:"state_dir"`
	LogDir        string         `json:"log_dir"`
	Socket        string         `json:"socket"`
	Driver        string         `json:"driver,omitempty"`
	ServerID      string         `json:"server_id"`
	StartedAt     time.Time      `json:"started_at"`
	Jobs          Counts         `json:"jobs"`
	Machines      map[string]int `json:"machines"` // by connection state
	Matrices      int            `json:"matrices"`
	Classes       []ClassStatus  `json:"classes,omitempty"`
	NextID        uint64         `json:"next_id,omitempty"`  // that the next job, matrix or tag gets
	Verdicts      []Verdict      `json:"verdicts,omitempty"` // what is held against machines and matrices
	Owing         []Owing        `json:"owing,omitempty"`    // what machines have still to end or to remove
	Cursor        uint64         `json:"cursor"`
	DiskFull      bool           `json:"disk_full,omitempty"`       // new work is refused
	HostFreeBytes int64          `json:"host_free_bytes,omitempty"` // on the file system of the state directory
}

// Owing lists what a machine has still to end, or could not remove so far.
type Owing struct {
	Machine   string `json:"machine"`
	Gone      bool   `json:"gone,omitempty"`      // it has left the pool
	Ending    int    `json:"ending,omitempty"`    // runs that are still to be ended
	Unremoved int    `json:"unremoved,omitempty"` // directories that are tried again
}

// JobSpec is a job to submit. Durations are exact; 0 means none.
type JobSpec struct {
	Class       string
	Cmd         string
	CpPath      string // "" : no results wanted. Relative paths start at Dir
	Dir         string // the client's working directory
	Repeat      int    // -x: submit it so often; 0 is 1
	MaxFailures int    // retries allowed; -1: without limit
	Timeout     time.Duration
	Tag         string // an id or a name; a new name makes the tag
	Notify      bool
	Hold        bool
	Priority    int
	Env         map[string]string // {NAME} in a value is a variable
	SecretEnv   map[string]string // by name; "" : the daemon's variable of that name
	Flat        bool
	MaxLog      int64     // bytes a stream; 0: the daemon's own limit
	Code        *Code     // nil: none
	Slots       int       // of its machine; 0 is 1
	Exclusive   bool      // all slots of its machine
	Needs       string    // of resources: gpu=2,mem=32G
	Machines    int       // of its class; 0 is 1
	Each        bool      // it runs on each of them, and not on the first alone
	With        []string  // NAME=CLASS or NAME=CLASS*N: machines of other classes
	After       After     // what it waits for
	StartAfter  time.Time // it isn't dispatched before; zero: at once
	// which failures are tried again: exit=75, signal=9, oom, timeout, lost; none: all
	RetryOn   []string
	NoRetryOn []string // which aren't
	// so many jobs of its tag, or its matrix, hold slots at a time; 0: as it is
	AtMost int
	// MaxFails jobs of its tag that have failed for good hold what waits of it, or with CancelRest
	// cancel that; 0: as it is. A matrix has its own.
	MaxFails   int
	CancelRest bool
	// files and directories of the daemon's host that it finds in $JOBSERVER_INPUTS: their paths,
	// in which {NAME} is a variable, and their names there; "" is the path's last element
	Inputs []Input
	Pin    bool   // it gets cores of its own
	Cwd    string // where it begins on its machine, a template; "" : the login directory
	// Stdin is the SHA-256 of its standard input, which PutCode has brought; "" : none. StdinName
	// is what that was called.
	Stdin, StdinName string
	Label            string // a note
}

// Set is what is to change of jobs, or of a matrix. What isn't there stays.
type Set struct {
	Class       Maybe[string]
	Cmd         Maybe[string]
	CpPath      Maybe[string] // absolute
	Priority    Maybe[int]
	Timeout     Maybe[time.Duration]
	MaxFailures Maybe[int]
	StartAfter  Maybe[time.Time] // zero: at once
	Slots       Maybe[int]
	Exclusive   Maybe[bool]
	Needs       Maybe[string]
	After       Maybe[After] // of nothing: it waits for nothing any more
	Env         map[string]string
	AtMost      Maybe[int] // of a matrix; 0: no limit
	Next        bool       // before all others that wait in its class
}

// After says what a job waits for, as selectors that are read when it is submitted.
type After struct {
	Done    []string // all are to be done, and their results on the host
	Ended   []string // all are to have ended
	Failed  []string // all are to have ended, and one of them not to have succeeded
	Cells   string   // of a matrix: each cell waits for the cells of this matrix that are like it
	IfUnmet string   // what is done when that can't be met: wait, which is "" too, or cancel
}

// AddJobsArgs submits jobs, all or none.
type AddJobsArgs struct {
	Mutation
	Jobs []JobSpec
}

// AddJobsReply has the ids in the order of the specs, repeats expanded.
type AddJobsReply struct {
	JIDs     []uint64
	Warnings []string // e.g. a placeholder that resembles a known name
}

// MatrixSpec is a matrix to submit: Job's command runs once for each cell of the product of Vars,
// times Repeat, or for the cells that are given.
type MatrixSpec struct {
	Job  JobSpec
	Name string
	Vars []Axis
	// for each cell its index into the values of each variable, then its repeat; nil: the product
	Cells []uint32
	Seed  uint64   // from which {SEED} follows in each repeat
	Setup []string // commands that a machine which joins the class later runs first
	// Metrics is the file among each job's results that tables and plots take its numbers from; "":
	// none.
	Metrics string
	// MaxFails jobs that have failed for good hold the matrix, or with CancelRest cancel what
	// hasn't begun; 0: none do.
	MaxFails   int
	CancelRest bool
}

// AddMatrixArgs submits one matrix. With DryRun nothing changes and the reply says what would be
// submitted. With Again the name may be that of a matrix that is there: if it is the same sweep, it
// grows by what is missing.
type AddMatrixArgs struct {
	Mutation
	Matrix MatrixSpec
	DryRun bool
	Again  bool
}

// AddMatrixReply says what was made: jobs FirstJID … FirstJID+Cells-1.
type AddMatrixReply struct {
	ID       uint64
	FirstJID uint64
	Cells    int
	Sample   []string // of a dry run: the commands of the first cells, as they would run
	Warnings []string
	Growth   *Growth // the matrix was there; Cells counts those that run now
	Repeated bool    // as in ChangeJobsReply; Growth isn't known then
}

// WhereWord begins a word among selectors that narrows what all others select: to jobs of matrices
// for whose variables the condition after it holds.
const WhereWord = "where="

// ListJobsArgs asks for jobs. Selectors have the grammar of the command line; none means all.
// Matching jobs come in ascending order of id. One reply holds at most Limit (1,000 at the most)
// and Next continues it.
type ListJobsArgs struct {
	Selectors []string
	// only the last n of the matching jobs, and all that are running; 0: no such limit
	Last     int
	Running  bool   // only those that run or copy
	After    uint64 // only ids above this; the Next of the reply before
	Limit    int
	Collapse bool // a matrix or a tag is one row, not its jobs
	Full     bool // with attempts, variables and environment
	// Newest lists from the newest job down, those below Before (0: all), which is the Next of the
	// reply before. That costs the same whatever the history. A page may then have fewer than Limit
	// jobs, even none, though there is a Next; matching nothing is no error. Last, After and
	// Collapse have no meaning for it.
	Newest bool
	Before uint64
	// only what a row of a table shows: of commands, and of what went wrong, the beginning
	Light bool
}

// ListJobsReply is one page of jobs.
type ListJobsReply struct {
	Jobs     []Job
	Matrices []Matrix // when collapsed: those whose jobs were left out
	Tags     []Tag    // likewise
	Counts   Counts   // of all jobs that there are
	// how many the selectors matched in all, when that is known without a scan; else -1
	Matched int
	Next    uint64 // 0: nothing more
	Cursor  uint64 // of Events: what the listing holds
}

// ChangeJobs is the call that changes jobs. On the wire it is called Bulk, and stays so: older
// clients and daemons know it under that name.
const ChangeJobs = "Bulk"

// The operations of ChangeJobs.
const (
	// waiting: canceled at once; running: its whole tree is ended; copying: the copy stops
	OpCancel     = "cancel"
	OpForget     = "forget" // cancel first, then forget job and logs, never its results
	OpHold       = "hold"
	OpUnhold     = "unhold"
	OpClone      = "clone"       // submit again as new jobs, Repeat times
	OpRestart    = "restart"     // a new job in the same matrix cell
	OpSetTimeout = "set-timeout" // Timeout; 0 takes it away
	// Set; all jobs or none. Of very many, those that it no longer fits when their turn comes stay
	OpSet    = "set"
	OpTag    = "tag" // Tag: an id or a name
	OpUntag  = "untag"
	OpPrune  = "prune"  // forget what ended long ago, and what nobody needs any more
	OpRecopy = "recopy" // copy results again; nothing runs again
	// the user says that the attempt on a machine that is away is lost; Retry runs it again
	OpLost   = "lost"
	OpPause  = "pause"    // running: stop where it is; slots and needs stay its own
	OpGoOn   = "continue" // paused: go on
	OpSignal = "signal"   // running: Signal is sent to it, once
)

// ChangeJobsArgs changes all jobs that the selectors match.
type ChangeJobsArgs struct {
	Mutation
	Op        string
	Selectors []string
	DryRun    bool
	Max       int // refuse (kind "confirm") when more match; 0: no limit
	Repeat    int
	Timeout   time.Duration
	Tag       string
	Retry     bool
	Signal    string // its name or number
	Reason    string // of cancel and forget
	// Dependents are taken along, of cancel and forget: those that wait for the jobs, and for
	// these.
	Dependents bool
	Set        Set
	Older      time.Duration // of prune: since they ended; without selectors all jobs are meant
}

// ChangeJobsReply says what the selectors matched and what became of each.
type ChangeJobsReply struct {
	Matched []ChangedJob // at most 1,000 are listed
	Total   int          // how many matched
	Changed int          // how many were changed; the others were already so
	JIDs    []uint64     // of clone and restart: the new ids
	// Warnings are what may not have been meant, as a class that has no machines.
	Warnings []string
	// Repeated says that the request had been done when it came again, since the first answer was
	// lost. Then the other fields tell no more than what is known still.
	Repeated bool
}

// ChangedJob is one job that a change of jobs matched.
type ChangedJob struct {
	JID     uint64   `json:"jid"`
	Status  string   `json:"status"` // before the change
	Cmd     string   `json:"cmd,omitempty"`
	Changed bool     `json:"changed"`
	Note    string   `json:"note,omitempty"`     // e.g. "already finished"
	NewJID  uint64   `json:"new_jid,omitempty"`  // of clone and restart: the last of new_jids
	NewJIDs []uint64 `json:"new_jids,omitempty"` // the jobs that were made of it
}

// JIDArgs names one job, as a selector that must match exactly one.
type JIDArgs struct{ Selector string }

// WhyReply explains in plain words why a job waits or what made it fail.
type WhyReply struct {
	JID     uint64   `json:"jid"`
	Status  string   `json:"status"`
	Summary string   `json:"summary"` // one sentence
	Details []string `json:"details,omitempty"`
	Hint    string   `json:"hint,omitempty"`   // what to do next
	Output  []string `json:"output,omitempty"` // what the failed attempt printed last, to stderr if it did
}

// WhyManyArgs asks what made many jobs fail.
type WhyManyArgs struct{ Selectors []string }

// WhyManyReply groups the failed attempts of the jobs by what they ended with, the most frequent
// first.
type WhyManyReply struct {
	Counts    Counts         `json:"counts"`
	Groups    []FailureGroup `json:"groups,omitempty"`
	Standouts []string       `json:"standouts,omitempty"` // in words: the machines and values that fail while others don't
	Uncopied  []CopyFailures `json:"uncopied,omitempty"`  // jobs that are done, and whose results were not copied, by the reason
	Stopped   *StoppedJobs   `json:"stopped,omitempty"`   // jobs that are held or, while none of them all runs, wait
}

// StoppedJobs are jobs that are to go, and don't; what is said of the example holds for the first
// of them.
type StoppedJobs struct {
	Jobs    int    `json:"jobs"`
	Status  string `json:"status"` // held or waiting
	Example uint64 `json:"example"`
	Reason  string `json:"reason"`
	Hint    string `json:"hint,omitempty"`
}

// CopyFailures are jobs that are done, and whose results were not copied for the same reason.
type CopyFailures struct {
	Error   string `json:"error"` // of the example; the others' differ in numbers at most
	Hint    string `json:"hint,omitempty"`
	Jobs    int    `json:"jobs"`
	Example uint64 `json:"example"`
}

// FailureGroup are attempts that failed alike.
type FailureGroup struct {
	Cause    string         `json:"cause"`               // exited with code 1
	LastLine string         `json:"last_line,omitempty"` // of one of them; the others' differ in numbers at most
	Attempts int            `json:"attempts"`
	Jobs     int            `json:"jobs"`
	Final    int            `json:"final"` // jobs that have failed for good or are lost, with this as their end
	Machines []FailureCount `json:"machines,omitempty"`
	Examples []uint64       `json:"examples,omitempty"` // ids of the first jobs
}

// FailureCount says how often something is in a group.
type FailureCount struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// LogArgs asks for bytes of a job's log from Offset on. Wait > 0 waits for more when there are none
// yet and the job goes on. Attempt 0 is the newest; a setup's steps count from 0.
type LogArgs struct {
	JID     uint64
	Attempt int
	Step    int
	Stderr  bool
	Rank    int // of a job that runs on each of several machines, from 1; 0 is the first
	Offset  int64
	Max     int // 1 MiB at the most
	Wait    time.Duration
	Tail    int64 // above 0: Offset doesn't count, it begins so many bytes before the end
}

// LogReply holds them. EOF says that the attempt (or step) has ended and all of its log has been
// read.
type LogReply struct {
	Path    string
	Attempt int
	Data    []byte
	Offset  int64 // of Data
	Size    int64 // so far
	EOF     bool
	More    bool // a later attempt or step follows
	Status  string
}

// OutputArgs asks for bytes of both streams of a run, and for the order in which they came. Each of
// them begins at its offset; with a Max of 0 a stream is left out. Otherwise it is as LogArgs.
type OutputArgs struct {
	JID     uint64
	Attempt int
	Step    int
	Rank    int
	Out     OutputPart
	Err     OutputPart
	Weave   int64 // the offset in the order
	Wait    time.Duration
}

// OutputPart says what is wanted of a stream.
type OutputPart struct {
	Offset int64
	Max    int // 1 MiB at the most
}

// OutputReply holds them. EOF says that the run has ended, and that all of what is wanted has been
// read; More, as in LogReply, that another run follows.
type OutputReply struct {
	Attempt  int
	Out, Err []byte
	Weave    []byte // in which order the bytes came; see agent.Weave
	EOF      bool
	More     bool
	Status   string
}

// StopReply names the process that ends.
type StopReply struct{ PID int }

// WaitArgs waits until all jobs that the selectors match have ended, Wait at the most.
type WaitArgs struct {
	Selectors []string
	Wait      time.Duration
	Cursor    uint64 // return also when something changed since
	Any       bool   // until one of them has
	// Until is the status that they are to come to, instead of ending: `running` is reached by what
	// has run, too, and `paused` is one. "" : their end.
	Until string
}

// WaitReply tells how far they are.
type WaitReply struct {
	Counts   Counts
	Total    int
	Done     bool
	JID      uint64 // when exactly one job was matched
	ExitCode int    // its exit code as `wait` reports it: its own, 128+signal, or 1
	Blocked  string // when nothing of them runs: why the first that waits does
	Stuck    bool   // none of those that haven't ended can start, unless other jobs are run again
	Knows    bool   // the daemon knows of Any and Until
	Never    bool   // with Until: one of them, or with Any all, can't come to it any more
	Reached  int    // how many have come to what is waited for
	Error    string // likewise why
	Cursor   uint64
	Left     *TimeLeft // when all that is left is of matrices, and some of their cells are done
}

// EventsArgs asks for events after Since, waiting for the first one at most Wait.
type EventsArgs struct {
	Since uint64
	Max   int
	Wait  time.Duration
}

// EventsReply holds them in order. Gap says that older ones than the first are no longer kept or,
// with a Cursor below Since, that there is no event Since by now.
type EventsReply struct {
	Events []Event
	Cursor uint64
	Gap    bool
}

// ListMatricesArgs asks for matrices; ID 0 is all of them, else that one with its jobs.
type ListMatricesArgs struct {
	ID    uint64
	Name  string
	Light bool // no jobs, and of all matrices, the numbers of their axes' values instead of these
}

// ListMatricesReply holds them, by id.
type ListMatricesReply struct{ Matrices []Matrix }

// The operations of ChangeMatrix.
const (
	MatrixCancel = "cancel"
	MatrixHold   = "hold"
	MatrixUnhold = "unhold"
	MatrixRerun  = "rerun"
	MatrixForget = "rm"
	MatrixSet    = "set" // Set
)

// ChangeMatrixArgs does Op to a whole matrix. Rerun restarts its cells: those that failed or
// were lost with Failed, those that were lost with Lost, else all that ended; of these, the
// ones that fulfil the condition Where.
type ChangeMatrixArgs struct {
	Mutation
	Matrix string // id or name
	Op     string
	Failed bool
	Lost   bool
	Where  string
	DryRun bool
	Set    Set
}

// ChangeMatrixReply says what was done.
type ChangeMatrixReply struct {
	Matrix   Matrix
	Changed  int
	JIDs     []uint64
	Repeated bool // as in ChangeJobsReply; Matrix is as it is now
}

// ListVarsReply holds all variables by name.
type ListVarsReply struct{ Vars []Variable }

// SetVarArgs sets a variable, or takes it away when Unset.
type SetVarArgs struct {
	Mutation
	Name   string
	Value  string
	Secret bool
	Unset  bool
}

// ListResourcesReply holds what the pool has, by name.
type ListResourcesReply struct{ Resources []Resource }

// SetResourceArgs says how much the pool has of something, or takes it away when Unset.
type SetResourceArgs struct {
	Mutation
	Name  string
	Value string
	Unset bool
}

// NewTagArgs makes a tag; an empty name gives it its id as a name.
type NewTagArgs struct {
	Mutation
	Name string
}

// ListTagsArgs asks for tags; "" is all.
type ListTagsArgs struct{ Tag string }

// ListTagsReply holds them, by id.
type ListTagsReply struct{ Tags []Tag }

// CompleteArgs asks for candidates of a kind (job, machine, class, tag, matrix, var, resource) that
// begin with Prefix.
type CompleteArgs struct {
	Kind   string
	Prefix string
	Limit  int
}

// CompleteReply holds them with a short description each.
type CompleteReply struct{ Candidates []Candidate }

// Candidate is one completion.
type Candidate struct{ Value, Description string }
