package main

import (
	"jobserver/cli"
	"jobserver/cli/job"
	"jobserver/cli/machine"
	"jobserver/cli/matrix"
	"jobserver/cli/server"
)

// grammar is the whole command line. Each command is a struct that carries its flags and arguments,
// and a Run method. A tag `predictor` names what completes a value; `several` marks a flag that takes
// all words up to the next flag; `beforedash` the flag that takes the positionals before a "--".
type grammar struct {
	Globals cli.Globals `embed:"" group:"Global flags:"`

	Job     jobGroup     `cmd:"" group:"Commands:" help:"Submit, list, read and change jobs."`
	Matrix  matrixGroup  `cmd:"" group:"Commands:" help:"Run a command for every combination of parameters."`
	Tag     tagGroup     `cmd:"" group:"Commands:" help:"Name sets of jobs."`
	Machine machineGroup `cmd:"" group:"Commands:" help:"The pool of machines."`
	Var     varGroup     `cmd:"" group:"Commands:" help:"Variables that commands name as {NAME}."`

	Resource resourceGroup `cmd:"" group:"Commands:" help:"What the whole pool has of something, as licenses."`

	Add  job.Add  `cmd:"" group:"Short forms:" help:"Submit a job: job add."`
	Ls   job.Ls   `cmd:"" group:"Short forms:" help:"List jobs: job ls. A command line without words does this."`
	Log  job.Log  `cmd:"" group:"Short forms:" help:"Read a job's log: job log."`
	Rm   job.Rm   `cmd:"" group:"Short forms:" help:"Cancel or forget jobs: job rm."`
	Wait job.Wait `cmd:"" group:"Short forms:" help:"Wait for jobs: job wait."`
	Why  job.Why  `cmd:"" group:"Short forms:" help:"Why a job waits or failed: job why."`
	Show job.Show `cmd:"" group:"Short forms:" help:"Everything about a job: job show."`
	Stat job.Stat `cmd:"" group:"Short forms:" help:"Job data for scripts: job stat."`

	Serve       ServeCmd        `cmd:"" group:"The daemon:" help:"Run the daemon."`
	Demo        DemoCmd         `cmd:"" group:"The daemon:" help:"See it all at work on this computer alone."`
	Ping        server.Ping     `cmd:"" group:"The daemon:" help:"Ask whether the daemon answers."`
	Status      server.Status   `cmd:"" group:"The daemon:" help:"What the daemon is and holds."`
	Events      server.Events   `cmd:"" group:"The daemon:" help:"What has happened, and what happens."`
	State       stateGroup      `cmd:"" group:"The daemon:" help:"Look at the saved state itself."`
	Completions cli.Completions `cmd:"" group:"The rest:" help:"Shell completion: print a script, install, uninstall."`
	Version     server.Version  `cmd:"" group:"The rest:" help:"Print the version."`
	Help        cli.Help        `cmd:"" group:"The rest:" help:"Explain a command."`
}

// jobGroup are the commands on jobs.
type jobGroup struct {
	Add        job.Add        `cmd:"" help:"Submit a job to a class of machines."`
	Ls         job.Ls         `cmd:"" aliases:"list" help:"List jobs: the last 40, and all that run."`
	Stat       job.Stat       `cmd:"" help:"Data of jobs for scripts: chosen columns, mapped by programs."`
	Log        job.Log        `cmd:"" help:"Print the path of a job's log, or read or follow it."`
	Rm         job.Rm         `cmd:"" aliases:"cancel" help:"Cancel jobs; -f also forgets them and their logs, never their results."`
	Hold       job.Hold       `cmd:"" help:"Keep waiting jobs from starting."`
	Unhold     job.Unhold     `cmd:"" help:"Let held jobs start."`
	Clone      job.Clone      `cmd:"" help:"Submit jobs again, as new ones."`
	Restart    job.Restart    `cmd:"" help:"Run jobs again, as new ones; in a matrix, in the same cell. Those that haven't ended are canceled first."`
	Settimeout job.SetTimeout `cmd:"" help:"Change jobs' time limit."`
	Cpresults  job.CpResults  `cmd:"" help:"Copy jobs' results and logs to another directory."`
	Recopy     job.Recopy     `cmd:"" help:"Copy results again that failed to copy; nothing runs again."`
	Lost       job.Lost       `cmd:"" help:"Say that jobs on a machine that is away are lost."`
	Wait       job.Wait       `cmd:"" help:"Wait until jobs have ended; one job's exit code is passed on."`
	Why        job.Why        `cmd:"" help:"Why a job waits, or what made it fail."`
	Show       job.Show       `cmd:"" help:"Everything about one job: its attempts, times, files and settings."`
	Matrix     matrixGroup    `cmd:"" hidden:"" help:"The same as the commands of 'matrix'."`
	Tag        tagGroup       `cmd:"" hidden:"" help:"The same as the commands of 'tag'."`
}

// matrixGroup are the commands on matrices.
type matrixGroup struct {
	Add    matrix.Add    `cmd:"" help:"Submit a command for every combination of values."`
	Apply  matrix.Apply  `cmd:"" help:"Submit the experiment that a file describes, or what is missing of it."`
	Ls     matrix.Ls     `cmd:"" aliases:"list,stat" help:"List the matrices, or one with its jobs."`
	Cancel matrix.Cancel `cmd:"" help:"Cancel what is left of a matrix."`
	Rm     matrix.Rm     `cmd:"" help:"Cancel a matrix and forget it, its jobs and their logs; never their results."`
	Hold   matrix.Hold   `cmd:"" aliases:"pause" help:"Keep a matrix's jobs from starting."`
	Unhold matrix.Unhold `cmd:"" aliases:"resume" help:"Let a matrix's jobs start."`
	Why    matrix.Why    `cmd:"" help:"Group what made jobs of a matrix fail, and say which machine or value stands out."`
	Rerun  matrix.Rerun  `cmd:"" help:"Run the cells again that have ended, or with --failed only those that failed or were lost."`
	Table  matrix.Table  `cmd:"" help:"The numbers of a matrix: means, intervals and more over repeats."`
	Plot   matrix.Plot   `cmd:"" help:"Draw the numbers of a matrix, with error bars."`
}

// tagGroup are the commands on tags.
type tagGroup struct {
	New   job.TagNew   `cmd:"" help:"Make a tag; without a name, its id is its name."`
	Set   job.TagSet   `cmd:"" help:"Put jobs under a tag."`
	Unset job.TagUnset `cmd:"" help:"Take jobs' tag away."`
	Ls    job.TagLs    `cmd:"" aliases:"list" help:"List the tags, or the jobs of one."`
}

// machineGroup are the commands on the pool.
type machineGroup struct {
	Ls     machine.Ls     `cmd:"" aliases:"list" help:"List the machines."`
	Add    machine.Add    `cmd:"" help:"Add a machine that is ready to a class."`
	Setup  machine.Setup  `cmd:"" help:"Run commands on machines, and add those where all succeed to a class."`
	Rm     machine.Rm     `cmd:"" help:"Remove machines; what runs there is canceled, or waits again if it may be retried."`
	Mv     machine.Mv     `cmd:"" help:"Move machines to another class; what runs there goes on."`
	Drain  machine.Drain  `cmd:"" help:"Let what runs on machines end, and give them no more."`
	Resume machine.Resume `cmd:"" help:"Give drained machines work again."`
	Check  machine.Check  `cmd:"" help:"Connect now, and tell host key, latency, system, free disk and clock offset."`
	Trust  machine.Trust  `cmd:"" help:"Show the host keys that machines present now, and record them."`
	Clean  machine.Clean  `cmd:"" help:"End runs on machines that nothing knows any more."`
}

// varGroup are the commands on variables.
type varGroup struct {
	Ls    server.VarLs    `cmd:"" aliases:"list" help:"List the variables; a secret's value is never shown."`
	Set   server.VarSet   `cmd:"" help:"Set a variable that commands and CP_PATHs name as {NAME}."`
	Unset server.VarUnset `cmd:"" help:"Take a variable away."`
}

// resourceGroup are the commands on what the pool has.
type resourceGroup struct {
	Ls    server.ResourceLs    `cmd:"" aliases:"list" help:"List what the pool has, and how much of it is given out."`
	Set   server.ResourceSet   `cmd:"" help:"Say how much the pool has of something that jobs ask for with --needs."`
	Unset server.ResourceUnset `cmd:"" help:"Take something from the pool."`
}
