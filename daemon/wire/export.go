package wire

import (
	"jobserver/api"
	"jobserver/sched"
)

// Exported is one line of `state export`, and of an archive: exactly one of its fields is set. They
// are what listings print.
type Exported struct {
	Variable *api.Variable `json:"variable,omitempty"`
	Machine  *api.Machine  `json:"machine,omitempty"`
	Tag      *api.Tag      `json:"tag,omitempty"`
	Matrix   *api.Matrix   `json:"matrix,omitempty"`
	Job      *api.Job      `json:"job,omitempty"`
}

// ExportJob is the line of a job; nil when there is none.
func ExportJob(state *sched.State, logDir string, id uint64) *Exported {
	record := state.Job(id)
	if record == nil {
		return nil
	}
	job := Job(state, logDir, record, true)
	return &Exported{Job: &job}
}

// ExportMatrix is the line of a matrix.
func ExportMatrix(state *sched.State, id uint64) *Exported {
	matrix := Matrix(state, id)
	return &Exported{Matrix: &matrix}
}
