package main

import (
	"jobserver/cli"
	"jobserver/cli/job"
	"jobserver/cli/machine"
	"jobserver/cli/matrix"
	"jobserver/cli/server"
)

// grammar is the whole command line. Each command is a struct that carries its flags and arguments,
// and a Run method. A tag `predictor` names what completes a value; `several` marks a flag that
// takes all words up to the next flag; `beforedash` the flag that takes the positionals before a
// "--".
type grammar struct {
	Globals cli.Globals `embed:"" group:"Global flags:"`

	Job     jobGroup     `cmd:"" group:"Commands:" help:"Submit, list and change jobs, and read their logs."`
	Matrix  matrixGroup  `cmd:"" group:"Commands:" help:"Run a command for every combination of parameters."`
	Tag     tagGroup     `cmd:"" group:"Commands:" help:"Group jobs under names."`
	Machine machineGroup `cmd:"" group:"Commands:" help:"The pool of machines."`
	Var     varGroup     `cmd:"" group:"Commands:" help:"Set variables, which commands use as {NAME}."`

	Resource resourceGroup `cmd:"" group:"Commands:" help:"What the whole pool has of something, as licenses."`

	Add   job.Add   `cmd:"" group:"Short forms:" help:"Submit a job (job add)."`
	Ls    job.Ls    `cmd:"" group:"Short forms:" help:"List jobs (job ls). This is also what a bare command does."`
	Log   job.Log   `cmd:"" group:"Short forms:" help:"Read a job's log (job log)."`
	Prune job.Prune `cmd:"" group:"Short forms:" help:"Forget jobs that ended long ago (job prune)."`
	Rm    job.Rm    `cmd:"" group:"Short forms:" help:"Cancel or forget jobs (job rm)."`
	Wait  job.Wait  `cmd:"" group:"Short forms:" help:"Wait for jobs (job wait)."`
	Why   job.Why   `cmd:"" group:"Short forms:" help:"Explain why a job waits or failed (job why)."`
	Show  job.Show  `cmd:"" group:"Short forms:" help:"Show everything about a job (job show)."`
	Pull  job.Pull  `cmd:"" group:"Short forms:" help:"Fetch the results and logs of jobs (job pull)."`
	Stat  job.Stat  `cmd:"" group:"Short forms:" help:"Print job data for scripts (job stat)."`

	Serve       ServeCmd        `cmd:"" group:"The daemon:" help:"Run the daemon."`
	Demo        DemoCmd         `cmd:"" group:"The daemon:" help:"See it all at work on this computer."`
	Ping        server.Ping     `cmd:"" group:"The daemon:" help:"Check that the daemon answers."`
	Stop        server.Stop     `cmd:"" group:"The daemon:" help:"Stop the daemon; running jobs run on."`
	Status      server.Status   `cmd:"" group:"The daemon:" help:"Show what the daemon is and how much it holds."`
	Doctor      DoctorCmd       `cmd:"" group:"The daemon:" help:"Find out what is wrong with the daemon, this host and the machines, and what to do about it."`
	Events      server.Events   `cmd:"" group:"The daemon:" help:"Show what has happened, and follow what happens."`
	Top         server.Top      `cmd:"" group:"The daemon:" help:"Show the pool live in this terminal."`
	Web         server.Web      `cmd:"" group:"The daemon:" help:"Show the pool as a live page in your browser."`
	Service     server.Service  `cmd:"" group:"The daemon:" help:"Have systemd run the daemon."`
	State       stateGroup      `cmd:"" group:"The daemon:" help:"Inspect the saved state."`
	Backup      BackupCmd       `cmd:"" group:"The daemon:" help:"Copy the state, also while the daemon runs."`
	Restore     RestoreCmd      `cmd:"" group:"The daemon:" help:"Make a state directory of a backup."`
	Completions cli.Completions `cmd:"" group:"The rest:" help:"Print, install or uninstall shell completion."`
	Version     server.Version  `cmd:"" group:"The rest:" help:"Print the version, the commit it was built from, and the protocol it speaks."`
	Help        cli.Help        `cmd:"" group:"The rest:" help:"Explain a command."`
}

// jobGroup are the commands on jobs.
type jobGroup struct {
	Add        job.Add        `cmd:"" help:"Submit a job to a class of machines."`
	Ls         job.Ls         `cmd:"" aliases:"list" help:"List jobs: the newest 40 and all that are running."`
	Stat       job.Stat       `cmd:"" help:"Print job data for scripts: chosen columns, optionally mapped by programs."`
	Log        job.Log        `cmd:"" help:"Print the path of a job's log, or print or follow the log itself."`
	Rm         job.Rm         `cmd:"" aliases:"cancel" help:"Cancel jobs; -f also forgets them and their logs, never their results."`
	Hold       job.Hold       `cmd:"" help:"Hold waiting jobs: they don't start until they are released."`
	Unhold     job.Unhold     `cmd:"" help:"Release held jobs."`
	Clone      job.Clone      `cmd:"" help:"Submit copies of jobs as new ones."`
	Restart    job.Restart    `cmd:"" help:"Run jobs again as new ones, in the same cell of their matrix. Jobs that haven't ended are canceled first."`
	Settimeout job.SetTimeout `cmd:"" help:"Change the time limit of jobs."`
	Set        job.Set        `cmd:"" help:"Change settings of waiting and held jobs; of running ones, priority, time limit and retries."`
	Mv         job.Mv         `cmd:"" help:"Move waiting jobs to another class."`
	Next       job.Next       `cmd:"" help:"Put jobs before all others that wait in their class."`
	Pause      job.Pause      `cmd:"" help:"Stop running jobs where they are; they keep their slots, and their time limit stands still."`
	Continue   job.Continue   `cmd:"" help:"Let paused jobs go on."`
	Signal     job.Signal     `cmd:"" help:"Send a signal to running jobs, once."`
	Cpresults  job.CpResults  `cmd:"" help:"Copy the results and logs of jobs to another directory."`
	Pull       job.Pull       `cmd:"" help:"Fetch the results and logs of jobs from the daemon's host, also with --host; resumes where it was interrupted."`
	Prune      job.Prune      `cmd:"" help:"Forget jobs that ended long ago, and remove their logs; never their results."`
	Recopy     job.Recopy     `cmd:"" help:"Retry copying results; nothing is run again."`
	Lost       job.Lost       `cmd:"" help:"Give up jobs on a machine that is away."`
	Wait       job.Wait       `cmd:"" help:"Wait until jobs have ended. For a single job, exit with its exit code."`
	Why        job.Why        `cmd:"" help:"Explain why a job waits, or what made it fail."`
	Show       job.Show       `cmd:"" help:"Show everything about a job: its attempts, times, files and settings."`
	Matrix     matrixGroup    `cmd:"" hidden:"" help:"The same as the commands of 'matrix'."`
	Tag        tagGroup       `cmd:"" hidden:"" help:"The same as the commands of 'tag'."`
}

// matrixGroup are the commands on matrices.
type matrixGroup struct {
	Add     matrix.Add     `cmd:"" help:"Submit a command for every combination of values."`
	Apply   matrix.Apply   `cmd:"" help:"Submit the experiment in a file, or the part of it that is missing."`
	Ls      matrix.Ls      `cmd:"" aliases:"list,stat" help:"List the matrices, or one with its jobs."`
	Cancel  matrix.Cancel  `cmd:"" help:"Cancel the jobs of a matrix that haven't ended."`
	Rm      matrix.Rm      `cmd:"" help:"Cancel a matrix and forget it, its jobs and their logs; never their results."`
	Hold    matrix.Hold    `cmd:"" aliases:"pause" help:"Hold a matrix: none of its jobs start until it is released."`
	Unhold  matrix.Unhold  `cmd:"" aliases:"resume" help:"Release a matrix that is held."`
	Why     matrix.Why     `cmd:"" help:"Group the failures of a matrix, and show which machine or value stands out."`
	Rerun   matrix.Rerun   `cmd:"" help:"Rerun the cells that have ended, or with --failed only those that failed or were lost."`
	Set     matrix.Set     `cmd:"" help:"Change priority, time limit, retries, needs or --at-most of a matrix."`
	Table   matrix.Table   `cmd:"" help:"Tabulate the numbers of a matrix: means, intervals and more over repeats."`
	Compare matrix.Compare `cmd:"" help:"Set the cells of two matrices side by side: differences and ratios with confidence intervals."`
	Plot    matrix.Plot    `cmd:"" help:"Plot the numbers of a matrix, with error bars."`
}

// tagGroup are the commands on tags.
type tagGroup struct {
	New   job.TagNew   `cmd:"" help:"Create a tag; without a name, its id is its name."`
	Set   job.TagSet   `cmd:"" help:"Put jobs under a tag."`
	Unset job.TagUnset `cmd:"" help:"Remove the tag of jobs."`
	Ls    job.TagLs    `cmd:"" aliases:"list" help:"List the tags, or the jobs of one."`
}

// machineGroup are the commands on the pool.
type machineGroup struct {
	Ls     machine.Ls     `cmd:"" aliases:"list" help:"List the machines."`
	Add    machine.Add    `cmd:"" help:"Add a machine to a class as it is."`
	Setup  machine.Setup  `cmd:"" help:"Run commands on machines, and add those where all of them succeed to a class."`
	Rm     machine.Rm     `cmd:"" help:"Remove machines; jobs running there are canceled, or wait again if they may be retried."`
	Mv     machine.Mv     `cmd:"" help:"Move machines to another class; running jobs go on."`
	Drain  machine.Drain  `cmd:"" help:"Give machines no more jobs; those that run there go on."`
	Resume machine.Resume `cmd:"" help:"Give drained machines work again."`
	Check  machine.Check  `cmd:"" help:"Connect now and show host key, latency, system, free disk space and clock offset."`
	Trust  machine.Trust  `cmd:"" help:"Show the host keys that machines present, and record them."`
	Clean  machine.Clean  `cmd:"" help:"End runs on machines that the daemon doesn't know, and remove what is left of ended ones."`
}

// varGroup are the commands on variables.
type varGroup struct {
	Ls    server.VarLs    `cmd:"" aliases:"list" help:"List the variables; a secret's value is never shown."`
	Set   server.VarSet   `cmd:"" help:"Set a variable, which commands and CP_PATHs use as {NAME}."`
	Unset server.VarUnset `cmd:"" help:"Unset a variable."`
}

// resourceGroup are the commands on what the pool has.
type resourceGroup struct {
	Ls    server.ResourceLs    `cmd:"" aliases:"list" help:"List what the pool has, and how much of it is given out."`
	Set   server.ResourceSet   `cmd:"" help:"Set how much the pool has of something that jobs ask for with --needs."`
	Unset server.ResourceUnset `cmd:"" help:"Remove a resource from the pool."`
}
