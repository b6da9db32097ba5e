package api

import "time"

// Growth says what submitting a matrix comes to when there is one of its name: only cells that are
// new, failed, lost or forgotten run.
type Growth struct {
	New      int      `json:"new"`                 // cells that it didn't have
	Again    int      `json:"again"`               // failed, lost or forgotten: they run again
	Done     int      `json:"done"`                // and stay so
	Active   int      `json:"active"`              // waiting, held, running or copying
	Canceled int      `json:"canceled"`            // they stay so
	Gone     int      `json:"gone"`                // cells that the grid doesn't have any more; they stay as they are
	FirstJID uint64   `json:"first_jid,omitempty"` // of the new cells' jobs, which are consecutive; absent: there are none
	JIDs     []uint64 `json:"jids,omitempty"`      // the new jobs of the cells that run again
	Settings bool     `json:"settings,omitempty"`  // of the cells that wait are others now: priority, time limit, retries …
}

// TimeLeft is how long the rest of a matrix takes, as far as the cells that are done tell.
type TimeLeft struct {
	Seconds float64 `json:"seconds"`
	Error   float64 `json:"error_seconds,omitempty"` // half the width of the 95 % prediction interval; absent when nothing is known of it
}

// Duration and Margin are the two as durations.
func (l *TimeLeft) Duration() time.Duration {
	return time.Duration(l.Seconds * float64(time.Second))
}

// Margin is half the width of the interval; 0 when nothing is known of it.
func (l *TimeLeft) Margin() time.Duration { return time.Duration(l.Error * float64(time.Second)) }

// MatrixCellsArgs asks for the cells of a matrix with what their jobs have left, from the cell From
// on.
type MatrixCellsArgs struct {
	Matrix string // id or name
	From   int
	// a file among each job's results that holds measurements, beside those that were printed; "":
	// the matrix's own, if it has one
	Metrics string
}

// MatrixCellsReply is one page of cells, in their order.
type MatrixCellsReply struct {
	Matrix   Matrix // without jobs
	Cells    []Cell
	Next     int // 0: nothing more
	Problems []Problem
	Hardware []Hardware // of the machines that these cells ran on
	// what these cells were given from paths that more than one of them has named: two entries of a
	// path are two contents
	Inputs []CellInput
}

// CellInput says what some cells were given from a path.
type CellInput struct {
	Name  string
	Path  string
	Hash  string
	Cells int
}

// Hardware says what a machine was made of.
type Hardware struct {
	Cores    int
	Memory   int64 // bytes
	CPUModel string
}

// Cell is a cell of a matrix, and the job that counts for it.
type Cell struct {
	JID     uint64
	Status  string   // "": it was forgotten
	Index   []uint32 // into the values of each variable
	Repeat  uint32
	Machine string // of the newest attempt
	Kind    int    // its machine then, counted from 1 in the reply's Hardware; 0: not known
	Metrics []Measurement
}

// Measurement is a number that a job has given a name.
type Measurement struct {
	Name  string
	Value float64
	Unit  string
}

// Problem is a measurement that can't be used.
type Problem struct {
	JID  uint64
	Text string
}

// PlacesArgs asks where results go, as far as that is in a directory of the daemon's host.
type PlacesArgs struct{ Dir string }

// PlacesReply has the CP_PATHs of all jobs that there were which are that directory or lie below
// it, as they were given, with their variables.
type PlacesReply struct{ Paths []string }

// Code is a directory that was packed, and that the daemon has been given.
type Code struct {
	Hash   string `json:"hash"`                      // SHA-256 of the packed files
	Commit string `json:"commit,omitempty"`          // of git
	Diff   string `json:"uncommitted,omitempty"`     // SHA-256 of what was not committed; absent: nothing
	Cut    bool   `json:"uncommitted_cut,omitempty"` // only the beginning of it was kept
}

// PutCodeArgs brings a piece of an archive of code, or of an uncommitted difference. Without Data
// and Last it only asks whether the daemon has it.
type PutCodeArgs struct {
	Hash   string // of the archive's tar stream, or of the difference
	Diff   bool
	Stdin  bool   // it is the standard input of jobs
	Token  string // random, of the sender's
	Offset int64
	Data   []byte
	Last   bool
}

// MaxStdin is how long the standard input of a job may be, in bytes.
const MaxStdin = 1 << 20

// PutCodeReply says whether the daemon has it.
type PutCodeReply struct{ Have bool }
