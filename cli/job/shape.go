package job

import "jobserver/api"

// ShapeFlags say what a job, or each job of a matrix, needs of its machine and of the pool.
type ShapeFlags struct {
	Slots     int    `name:"slots" placeholder:"N" help:"How many slots of its machine the job takes (1 by default)."`
	Exclusive bool   `name:"exclusive" help:"Run the job alone on its machine."`
	Needs     string `name:"needs" placeholder:"NAME=N,…" help:"What it needs of its machine, and of the pool, as gpu=2,mem=32G,license=1: {GPU} and $JOBSERVER_GPU say which it got."`
}

// Put puts them into what is submitted.
func (f *ShapeFlags) Put(spec *api.JobSpec) {
	spec.Slots, spec.Exclusive, spec.Needs = f.Slots, f.Exclusive, f.Needs
}
