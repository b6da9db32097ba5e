package cli

import (
	"fmt"
	"strings"
)

// otherWord says which command does what another program of this field has the word for; "" if it
// is none of them. It is about commands on jobs and those at the top.
func otherWord(group, word string) string {
	if group != "" && group != "job" {
		return ""
	}
	for _, other := range []struct{ words, run, does string }{
		{"kill stop delete remove scancel qdel condor_rm", "job rm JID…",
			"cancels jobs; -f forgets them"},
		{"edit update modify scontrol", "job set JID…", "changes jobs that wait"},
		{"submit run sbatch qsub enqueue exec srun", "add CLASS CMD", "submits a job"},
		{"ps jobs queue squeue qstat", "ls", "lists jobs"},
		{"tail follow watch", "log -t JID", "follows a log until its job ends"},
		{"logs cat less output", "log -c JID", "prints a log; -t follows it"},
		{"cp get fetch download results rsync", "pull JID… [DIR]", "fetches results and logs"},
		{"retry rerun resubmit requeue", "job restart JID…", "runs jobs again"},
		{"suspend", "job pause JID…", "stops jobs that run; job hold keeps those that wait"},
		{"resume", "job continue JID…", "lets paused jobs go on; job unhold releases those held"},
		{"release", "job unhold JID…", "releases jobs that are held"},
		{"info describe inspect", "show JID", "shows everything about a job"},
		{"nodes hosts workers machines sinfo", "machine ls", "lists the machines"},
		{"sweep grid array", "matrix add", "runs a command for every combination of values"},
		{"daemon server up", "serve", "runs the daemon"},
		{"secret secrets env", "var set --secret", "keeps what jobs need and nobody shall read"},
	} {
		for _, w := range strings.Fields(other.words) {
			if w == word {
				return fmt.Sprintf("`jobserver %s` %s", other.run, other.does)
			}
		}
	}
	return ""
}

// otherFlag says which flag of a command does what others have the flag for; "" if it is none of
// them.
func otherFlag(path []string, flag string) string {
	command := path[len(path)-1]
	for _, other := range []struct{ command, flags, hint string }{
		{"log", "-f", "-t follows the log"},
		{"ls", "-a --all", "without a selector the newest are listed; 1..last lists all"},
		{"ls", "--status --state", "a selector picks jobs by status: :failed, or status=failed"},
		{"ls", "--failed --done --waiting --held --lost --canceled -s -t -f",
			"a selector picks jobs by status: :failed, or status=failed"},
		{"ls", "-l", "-o wide shows more columns"},
		{"add", "--name --job-name", "--tag gives jobs a name to find them by"},
		{"add", "--workdir --chdir --working-directory",
			"--cwd DIR says where a job begins on its machine"},
		{"add", "--dependency --depends-on", "--after JID waits for another job"},
		{"add", "--gpus --gres --mem --memory --cpus",
			"--needs NAME=AMOUNT asks for what machines have, see `jobserver add --help`"},
		{"add", "--retries", "--max-failures N tries again after failures"},
		{"add", "--array", "`jobserver matrix add` runs a command for every combination of values"},
	} {
		for _, f := range strings.Fields(other.flags) {
			if f == flag && other.command == command {
				return other.hint
			}
		}
	}
	return ""
}
