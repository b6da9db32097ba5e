package service

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/sched"
	"jobserver/stats"
)

// afterLine is a job in the list of those that another one has waited for, $JOBSERVER_INPUTS/
// after.jsonl. Its names are those of `-o json`, and fields are only added.
type afterLine struct {
	JID        uint64             `json:"jid"`
	Status     string             `json:"status"`
	Matrix     uint64             `json:"matrix,omitempty"`
	MatrixName string             `json:"matrix_name,omitempty"`
	Cell       api.Maybe[int]     `json:"cell,omitzero"`
	Values     map[string]string  `json:"values,omitempty"`
	Metrics    map[string]float64 `json:"metrics,omitempty"` // of several of a name the last
	Results    []string           `json:"results,omitempty"` // paths on its machine
	ResultsDir string             `json:"results_dir,omitempty"`
	ExitCode   api.Maybe[int]     `json:"exit_code,omitzero"`
	Error      string             `json:"error,omitempty"`
	Machine    string             `json:"machine,omitempty"`
	Seconds    float64            `json:"duration_seconds,omitempty"`

	file string // among its results, which has more of them
}

// AfterList is the list of what a job has waited for: a line a job, ascending. The state is read in
// small pieces, and the files of results outside of it.
func AfterList(ctx context.Context, loop *sched.Loop, job uint64) ([]byte, error) {
	var ids []uint64
	if err := loop.Read(ctx, func(st *sched.State) { ids = st.AwaitedBy(job) }); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	lines := json.NewEncoder(&out)
	lines.SetEscapeHTML(false)
	for page := range slices.Chunk(ids, sched.MaxPage) {
		var found []afterLine
		err := loop.Read(ctx, func(st *sched.State) {
			for _, id := range page {
				if j := st.Job(id); j != nil { // else it was forgotten just now
					found = append(found, lineOf(st, id))
				}
			}
		})
		if err != nil {
			return nil, err
		}
		for i := range found {
			found[i].readFile()
			if err := lines.Encode(&found[i]); err != nil {
				return nil, err
			}
		}
	}
	return out.Bytes(), nil
}

func lineOf(st *sched.State, id uint64) afterLine {
	j := st.Job(id)
	job := wire.Job(st, "", j, true)
	line := afterLine{
		JID: id, Status: job.Status, Matrix: job.Matrix, Cell: job.Cell, Values: job.Vars,
		Results: job.Results, ResultsDir: job.ResultsDir, ExitCode: job.ExitCode, Error: job.Error,
		Machine: job.Machine, Seconds: job.DurationSeconds,
	}
	if m, _ := st.Matrix(job.Matrix); m != nil {
		line.MatrixName, line.file = m.Name, m.Measurements
	}
	if n := len(j.Attempts); n > 0 {
		for _, text := range j.Attempts[n-1].Measurements {
			if m, err := stats.ParseMeasurement(text); err == nil { // what is none, the table tells
				line.add(m)
			}
		}
	}
	return line
}

func (l *afterLine) add(m stats.Measurement) {
	if l.Metrics == nil {
		l.Metrics = map[string]float64{}
	}
	l.Metrics[m.Name] = m.Value
}

// readFile adds what is in the file of measurements that its matrix has.
func (l *afterLine) readFile() {
	if l.file == "" || l.ResultsDir == "" || l.Status != api.StatusDone {
		return
	}
	found, _, err := measurementsFile(l.ResultsDir, l.file)
	if err != nil {
		return // the table tells
	}
	for _, m := range found {
		l.add(m)
	}
}
