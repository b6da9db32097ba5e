package job

import (
	"time"

	"jobserver/api"
	"jobserver/cli"
)

// AfterFlags say what a job, or all of a matrix, waits for.
type AfterFlags struct {
	After       []string `name:"after" sep:"none" placeholder:"JID" predictor:"job" help:"Start when all of these jobs are done and their results have been copied: 17, %93, @nightly (repeatable)."`
	AfterAny    []string `name:"after-any" sep:"none" placeholder:"JID" predictor:"job" help:"Start when all of these jobs have ended, whatever the outcome."`
	AfterFailed []string `name:"after-failed" sep:"none" placeholder:"JID" predictor:"job" help:"Start when all of these jobs have ended and one did not succeed; canceled as not needed if all did."`
	IfUnmet     string   `name:"if-unmet" enum:",wait,cancel" default:"" placeholder:"wait|cancel" help:"If the condition can't be met any more, wait (shown as blocked, the default) or cancel the job."`
}

// LimitFlags say when jobs may start, and after which failures again.
type LimitFlags struct {
	StartAfter string    `name:"start-after" placeholder:"TIME" help:"Don't start before this time: 22:00, 2h, or an RFC 3339 time."`
	RetryOn    []string  `name:"retry-on" placeholder:"FAILURE" suggest:"exit=,signal=,oom,timeout,lost" help:"Retry only after these failures: exit=75, signal=9, oom, timeout, lost."`
	NoRetryOn  []string  `name:"no-retry-on" placeholder:"FAILURE" suggest:"exit=,signal=,oom,timeout,lost" help:"Never retry after these failures."`
	AtMost     cli.Count `name:"at-most" placeholder:"N" help:"Let at most N jobs of the matrix, or of the tag, hold slots at a time."`
}

// FailsFlags say after how many failures the rest of some jobs isn't begun.
type FailsFlags struct {
	MaxFails cli.Count `name:"max-fails" placeholder:"N" help:"Hold what hasn't begun of the matrix, or of the tag, once N of its jobs have failed for good."`
	Then     string    `name:"then" enum:",hold,cancel" default:"" placeholder:"hold|cancel" help:"What --max-fails does: hold, the default, or cancel."`
}

// Read gives the number of failures, and whether the rest is canceled then.
func (f *FailsFlags) Read() (most int, cancel bool, err error) {
	if f.Then != "" && f.MaxFails == 0 {
		return 0, false, api.Errorf(api.Usage, "--then %s: after how many failures?", f.Then).
			WithHint("--max-fails 3 --then %s", f.Then)
	}
	return int(f.MaxFails), f.Then == "cancel", nil
}

// Put puts them into what is submitted.
func (f *LimitFlags) Put(spec *api.JobSpec, now time.Time) (err error) {
	spec.RetryOn, spec.NoRetryOn, spec.AtMost = f.RetryOn, f.NoRetryOn, int(f.AtMost)
	spec.StartAfter, err = parseStart(f.StartAfter, now)
	return err
}

// Put puts them into what is submitted.
func (f *AfterFlags) Put(spec *api.JobSpec) {
	spec.After = api.After{Done: f.After, Ended: f.AfterAny, Failed: f.AfterFailed,
		IfUnmet: f.IfUnmet}
}

// ShapeFlags say what a job, or each job of a matrix, needs of its machine and of the pool.
type ShapeFlags struct {
	Slots     cli.Count `name:"slots" placeholder:"N" help:"How many slots of its machine the job takes (1 by default)."`
	Exclusive bool      `name:"exclusive" help:"Run the job alone on its machine."`
	Pin       bool      `name:"pin" help:"Pin it to cores of its own among pinned jobs: its share of the slots, or cores=N of --needs. {CORES} lists them."`
	Needs     string    `name:"needs" placeholder:"NAME=N,…" predictor:"need" help:"What it needs of its machine, and of the pool, as gpu=2,mem=32G,license=1: {GPU} and $JOBSERVER_GPU say which it got."`
	GangFlags
}

// GangFlags say which machines a job has beside its first.
type GangFlags struct {
	Machines cli.Count `name:"machines" placeholder:"N" help:"Give the job N machines of its class at once, with its slots and needs on each; it runs on the first, and {MACHINES} and $JOBSERVER_MACHINES list all."`
	Each     bool      `name:"each" help:"Run it on each of its machines: {RANK} and $JOBSERVER_RANK count them from 0, and none starts before all are ready."`
	With     []string  `name:"with" sep:"none" placeholder:"NAME=CLASS[*N]" predictor:"with" help:"Hold N machines (1) of another class for the job; {NAME} and $JOBSERVER_NAME are their addresses (repeatable)."`
}

// Put puts them into what is submitted.
func (f *ShapeFlags) Put(spec *api.JobSpec) {
	spec.Slots, spec.Exclusive = int(f.Slots), f.Exclusive
	spec.Needs, spec.Pin = f.Needs, f.Pin
	spec.Machines, spec.Each, spec.With = int(f.Machines), f.Each, f.With
}
