package api

import "time"

// What those ask who show the state while it changes: pages and screens. None of it costs the
// daemon more with a longer history, but for a byte a cell in MatrixMap.

// ChangesArgs asks what has changed since a cursor and a pulse, both of the reply before (or of a
// Status, the cursor). It waits at most Wait for the first change, and then for Pause, a second at
// the most, so that more of them come in one reply.
type ChangesArgs struct {
	Since uint64
	Pulse uint64
	Wait  time.Duration
	Pause time.Duration
}

// ChangesReply says it as sets. Without Gap, what isn't named has not changed.
type ChangesReply struct {
	Cursor      uint64   `json:"cursor"`
	Pulse       uint64   `json:"pulse"`
	Events      int      `json:"events"` // how many there were
	Gap         bool     `json:"gap,omitempty"`
	Jobs        []uint64 `json:"jobs,omitempty"`  // at most 200, ascending; with more there are only
	First       uint64   `json:"first,omitempty"` // the lowest and
	Last        uint64   `json:"last,omitempty"`  // the highest of them
	Matrices    []uint64 `json:"matrices,omitempty"`
	AllMatrices bool     `json:"all_matrices,omitempty"`
	Machines    []string `json:"machines,omitempty"`
	AllMachines bool     `json:"all_machines,omitempty"`
}

// ClassStatus says how a class is.
type ClassStatus struct {
	Class     string    `json:"class"`
	Jobs      Counts    `json:"jobs"`
	Machines  int       `json:"machines"`
	Connected int       `json:"connected"`
	Draining  int       `json:"draining,omitempty"`
	Slots     int       `json:"slots"`             // of its connected machines that get jobs
	Pending   int       `json:"pending,omitempty"` // allocations of Slurm that it waits for
	Left      *TimeLeft `json:"left,omitempty"`    // when all that is left is of matrices that tell
}

// MatrixMapArgs asks for the cells of a matrix in as few bytes as will do, from the cell From on: a
// status each, and with Metric the value of that measurement.
type MatrixMapArgs struct {
	Matrix string // id or name
	From   int
	Max    int // cells; 0: as many as one reply takes
	Metric string
	File   string // as in MatrixCellsArgs, its Metrics
}

// The bytes of MatrixMapReply.Status.
const (
	MapForgotten = iota
	MapWaiting
	MapHeld
	MapRunning
	MapCopying
	MapDone
	MapFailed
	MapCanceled
	MapLost
)

// MapStatuses are the names of the bytes.
var MapStatuses = [...]string{
	MapForgotten: "",
	MapWaiting:   "waiting",
	MapHeld:      "held",
	MapRunning:   "running",
	MapCopying:   "copying",
	MapDone:      "done",
	MapFailed:    "failed",
	MapCanceled:  "canceled",
	MapLost:      "lost",
}

// MatrixMapReply is one piece of the map. A value is NaN where the cell has none.
type MatrixMapReply struct {
	ID     uint64
	Cells  int
	JID    uint64 // the job that counts for the cell From; 0: there is no such cell
	Status []byte
	Values []float64 // with Metric, as long as Status
	Names  []string  // of the measurements that these cells have, with Metric
	Unit   string    // of the measurement
	Next   int       // 0: nothing more
	Cursor uint64
}

// TimelineArgs asks when attempts ran: machines against time, in Columns columns of equal length,
// and the attempts themselves when they are few. Classes and Machines narrow it. The daemon makes
// an index of all attempts when it is first asked; Wait is how long to wait for that.
type TimelineArgs struct {
	From, To time.Time // both zero: all there is
	Clip     bool      // begin at the first attempt, when From is long before it
	Columns  int       // 2,000 at the most
	Classes  []string
	Machines []string
	Spans    int // how many attempts may be listed; 5,000 at the most
	Wait     time.Duration
}

// TimelineReply is the picture. While the index is made, only Ready is set.
type TimelineReply struct {
	Ready    float64 // from 0 to 1
	From, To time.Time
	First    time.Time // of all attempts; zero: there are none
	Columns  int
	Total    int // attempts in this time
	Rows     []TimelineRow
	Spans    []TimelineSpan // nil: there are too many
	Machines []string       // those that Spans number
	// Since says from when on it is known when machines were away; it isn't kept over a restart.
	Since  time.Time
	Absent []Absence
	Cursor uint64
}

// TimelineRow has, for each column, how much of its time the slots of a machine were busy with
// attempts that came to something: 0 is never, 15 all the time. No bytes: never in any column.
type TimelineRow struct {
	Machine  string
	Class    string
	Slots    int
	Running  []byte
	Done     []byte
	Canceled []byte
	Lost     []byte
	Failed   []byte
}

// TimelineSpan is one attempt.
type TimelineSpan struct {
	Machine int // into Machines
	JID     uint64
	Attempt int
	Start   int64 // ms since 1970
	End     int64
	Status  string // running, done, canceled, lost or failed
}

// Absence is a time in which a machine was not connected.
type Absence struct {
	Machine string
	From    time.Time
	To      time.Time // zero: it still is
}
