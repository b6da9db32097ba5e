package slurm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ArgError says that an argument for sbatch can't be used.
type ArgError struct {
	Arg, Reason, Advice string
}

func (e *ArgError) Error() string { return fmt.Sprintf("sbatch argument %s: %s", e.Arg, e.Reason) }

// Hint is the user's next step.
func (e *ArgError) Hint() string { return e.Advice }

// What an argument would spoil, by the options of sbatch that do.
const (
	spoilsName   = "allocations are found by the names that the daemon gives them"
	spoilsTime   = "the daemon has to know when an allocation ends"
	spoilsOutput = "what jobs print goes to their logs; an allocation prints nothing"
	spoilsOnce   = "one allocation is asked for at a time"
	spoilsAgain  = "an allocation that Slurm starts a second time would run nothing"
	spoilsReply  = "the daemon reads what sbatch answers"
	spoilsPlace  = "it is part of the address"
	spoilsStart  = "an allocation is asked for when there is work for it"
	spoilsScript = "what an allocation runs is the daemon's to say"
	spoilsKeeper = "the signal would end what looks after the jobs"
)

// refusedOptions are the long options of sbatch that can't be given, each with its reason and the
// next step. An abbreviation is refused for the first that it fits.
var refusedOptions = []struct{ name, why, next string }{
	{"job-name", spoilsName, "mark your allocations with --comment or --wckey instead"},
	{"time", spoilsTime, "use the flag --time of machine add"},
	{"output", spoilsOutput, "see the jobs' logs with jobserver log"},
	{"error", spoilsOutput, "see the jobs' logs with jobserver log"},
	{"input", spoilsOutput, "leave it out"},
	{"open-mode", spoilsOutput, "leave it out"},
	{"array", spoilsOnce, "use the flags --max and --backlog of machine add"},
	{"requeue", spoilsAgain, "leave it out: jobs run again in another allocation"},
	{"no-requeue", "it is always given", "leave it out"},
	{"parsable", spoilsReply, "leave it out"},
	{"test-only", spoilsReply, "machine check asks this"},
	{"quiet", spoilsReply, "leave it out"},
	{"verbose", spoilsReply, "leave it out"},
	{"wait", spoilsReply, "leave it out"},
	{"help", spoilsReply, "leave it out"},
	{"usage", spoilsReply, "leave it out"},
	{"version", spoilsReply, "leave it out"},
	{"partition", spoilsPlace, "add slurm:[LOGIN/]PARTITION"},
	{"clusters", spoilsPlace, "give the address of a login node of that cluster"},
	{"hold", spoilsStart, "use machine drain"},
	{"wrap", spoilsScript, "let a setup do what has to be done first"},
	{"export-file", spoilsScript, "set the variables of jobs with jobserver var or --env"},
	{"uid", "it is only root's", "log in as that user: slurm:USER@LOGIN/PARTITION"},
	{"gid", "it is only root's", "leave it out"},
	{"signal", spoilsKeeper, "leave it out: jobs are canceled a minute before the end"},
}

// flagOptions are the long options of sbatch that need no value.
var flagOptions = []string{
	"contiguous", "exclusive", "get-user-env", "kill-on-invalid-dep", "no-kill", "overcommit",
	"oversubscribe", "reboot", "spread-job", "use-min-nodes", "ignore-pbs",
}

// shortOptions are the short ones that may be given, with their values behind them.
const shortOptions = "ABbCcDdFGLmnqSwx"

// CheckArg refuses, with a hint, an argument for sbatch that would upset the daemon or isn't one.
// sbatch knows options by their beginnings too, so a beginning of a refused one is refused.
func CheckArg(arg string) error {
	refuse := func(reason, advice string) error {
		return &ArgError{Arg: fmt.Sprintf("%.200q", arg), Reason: reason, Advice: advice}
	}
	if strings.ContainsAny(arg, "\n\r\x00") {
		return refuse("it has more than one line", "give one option, as --sbatch=--gres=gpu:1")
	}
	name, long := strings.CutPrefix(arg, "--")
	if !long {
		if len(arg) > 2 && arg[0] == '-' && strings.IndexByte(shortOptions, arg[1]) >= 0 {
			return nil
		}
		return refuse("it isn't an option with its value in the same word",
			"write it as --sbatch=--NAME=VALUE")
	}
	name, value, valued := strings.Cut(name, "=")
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return refuse("it isn't an option", "write it as --sbatch=--NAME=VALUE")
	}
	if name == "nodes" {
		if n, err := strconv.Atoi(value); err != nil || n < 1 {
			return refuse("the number of nodes has to be fixed", "write --sbatch=--nodes=2")
		}
		return nil
	}
	if name != "export" {
		for _, option := range refusedOptions {
			if strings.HasPrefix(option.name, name) {
				return refuse(option.why, option.next)
			}
		}
	}
	if strings.HasPrefix("nodes", name) {
		return refuse("it is short for several options", "write the option in full")
	}
	if !valued && !slices.Contains(flagOptions, name) {
		return refuse("it has no value, or one in a word of its own",
			"write it as --sbatch=--"+name+"=VALUE")
	}
	return nil
}

// Nodes is the number of nodes that arguments which CheckArg lets through ask for, 1 by default.
func Nodes(args []string) int {
	nodes := 1
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--nodes="); ok {
			if n, err := strconv.Atoi(value); err == nil {
				nodes = n
			}
		}
	}
	return nodes
}

// CheckPartition refuses what can't be the name of a partition.
func CheckPartition(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+"
	switch {
	case name == "":
		return &ArgError{Arg: `""`, Reason: "no partition is named",
			Advice: "give one: slurm:[LOGIN/]PARTITION; sinfo lists them"}
	case name[0] == '-' || strings.Trim(name, letters) != "":
		return &ArgError{Arg: fmt.Sprintf("%.200q", name), Reason: "no partition is named so",
			Advice: "give one partition: slurm:[LOGIN/]PARTITION; sinfo lists them"}
	}
	return nil
}
