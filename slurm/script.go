package slurm

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Shell is the command that a login is given; the script goes to its standard input.
const Shell = "sh"

// MaxTime is after how long a script's command has ended by itself, as far as the login has
// timeout(1): sbatch tries for ever where the controller is full, and squeue waits for one that
// doesn't answer. It is longer than two of Slurm's usual MessageTimeout, 10 s.
const MaxTime = 30 * time.Second

// Words that begin the lines of an answer.
const (
	wordJob = "jobserver-job|"
	wordOut = "jobserver-out "
	wordEnd = "jobserver-end "
	wordNow = "jobserver-now "
)

// prelude begins each script. A login that is no login shell may have no Slurm in its PATH.
const prelude = forgetOptions + `
` + findSlurm + `
me=$(id -u)
echo; echo "jobserver-now $(date +%%s)"
t=; if command -v timeout >/dev/null 2>&1; then t="timeout -k 5 %d"; fi
`

// forgetOptions takes out of the environment what Slurm's commands would take for options: all that
// changes what they list, cancel and do with the streams of a step, and of sbatch's what CheckArg
// refuses. What says where Slurm is stays, as do a user's account and the like.
const forgetOptions = `for v in $(env | sed -n "s/^\(S[A-Z]*_[A-Z0-9_]*\)=.*/\1/p"); do ` +
	`case $v in SLURM_CONF*|SLURM_JWT) ;; ` +
	`SLURM_*|SRUN_*|SQUEUE_*|SCANCEL_*|SINFO_*|` +
	`SBATCH_ARRAY_INX|SBATCH_CLUSTERS|SBATCH_DEBUG|SBATCH_OPEN_MODE|SBATCH_REQUEUE|` +
	`SBATCH_SIGNAL|SBATCH_WAIT) unset $v ;; esac; done`

// findSlurm sources what a login shell sources if there are no commands of Slurm's without.
const findSlurm = `if command -v squeue >/dev/null 2>&1; then :; elif [ -r /etc/profile ]; then ` +
	`. /etc/profile >/dev/null 2>&1; fi`

// script makes a script of functions that answer.
func script(body string) string {
	return "{ " + fmt.Sprintf(prelude, int(MaxTime.Seconds())) +
		// answer KEY COMMAND…: what it printed, and its exit code. The empty line ends one of
		// somebody else's.
		"answer() { k=$1; shift; o=$($t \"$@\" 2>&1 </dev/null); r=$?; said; }\n" +
		"said() { echo; if [ \"$o\" ]; then printf '%s\\n' \"$o\" | sed 's/^/" + wordOut +
		"/'; fi; " +
		"echo \"" + wordEnd + "$k $r\"; }\n" +
		body + "exit 0; }\n"
}

// quote makes one word of sh of any text without a zero byte.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// queue lists jobs: those of us all, or one. All states and all partitions are asked for, hidden
// ones too, so that what isn't listed isn't there. The time zone is nobody's.
const queue = "env SLURM_TIME_FORMAT=%s squeue --noheader --all --states=all " +
	"--format='" + wordJob + "%i|%j|%T|%B|%S|%e|%V|%N|%r' "

// List is the script that lists all jobs of the user. It costs the controller an answer with
// everybody's.
func List() string { return script("answer list " + queue + "--user=\"$me\"\n") }

// Look is the script that lists some jobs by their numbers. Each costs the controller a small
// answer.
func Look(ids []string) string {
	var b strings.Builder
	for _, id := range ids {
		if isNumber(id) {
			fmt.Fprintf(&b, "answer %s %s--jobs=%s\n", id, queue, id)
		}
	}
	return script(b.String())
}

// Cancel is the script that cancels whatever has one of the names. It may be repeated.
func Cancel(names []string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "answer %s scancel --quiet --user=\"$me\" --name=%s\n", name, quote(name))
	}
	return script(b.String())
}

// CancelJob is the script that cancels one job, if it has the name.
func CancelJob(id, name string) string {
	if !isNumber(id) {
		id = "0"
	}
	return script(fmt.Sprintf("answer %s scancel --quiet --user=\"$me\" --name=%s %s\n", id,
		quote(name), id))
}

// Partitions is the script that lists the names of the partitions.
func Partitions() string {
	return script("answer partitions sinfo --noheader --format='%R'\n")
}

// Request is an allocation as sbatch is asked for it.
type Request struct {
	Name      string
	Partition string
	Time      time.Duration // whole minutes; rounded up
	Nodes     int           // 0: 1, or what Args say
	Exclude   []string      // names of nodes
	Args      []string      // of the user, each of which CheckArg lets through
	Script    string        // what the allocation runs: see Keeper
}

// words are the command line of sbatch. Of options that are given twice, the last counts.
func (r Request) words(more ...string) string {
	words := []string{"sbatch"}
	exclude := r.Exclude
	nodes := max(1, r.Nodes, Nodes(r.Args))
	for _, arg := range r.Args {
		if own, ok := strings.CutPrefix(arg, "--exclude="); ok { // both count
			exclude = append(exclude[:len(exclude):len(exclude)], own)
			continue
		}
		words = append(words, quote(arg))
	}
	if len(exclude) > 0 {
		words = append(words, "--exclude="+quote(strings.Join(exclude, ",")))
	}
	words = append(words, "--parsable", "--no-requeue", "--output=/dev/null", "--error=/dev/null",
		"--nodes="+strconv.Itoa(nodes), "--time="+minutes(r.Time),
		"--partition="+quote(r.Partition), "--job-name="+quote(r.Name))
	return strings.Join(append(words, more...), " ")
}

// minutes is a time limit as sbatch takes it.
func minutes(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Minute-1)/time.Minute)), 10)
}

// Submit is the script that submits an allocation.
func Submit(r Request) string { return script(r.ask("submit")) }

// TestOnly is the script that asks whether one would be taken; it submits nothing.
func TestOnly(r Request) string { return script(r.ask("submit", "--test-only")) }

func (r Request) ask(key string, more ...string) string {
	// No line of the allocation's script is the word that ends it here.
	return fmt.Sprintf("k=%s; o=$($t %s 2>&1 "+
		"<<'jobserver-script-ends'\n%s\njobserver-script-ends\n); "+
		"r=$?; said\n", key, r.words(more...), strings.TrimRight(r.Script, "\n"))
}

// Step is what stands before a command that is to run in a step of an allocation, on a node of it,
// beside whatever else runs there: with all the bytes of its standard streams, each as soon as it
// comes. The login shell is given it as it is. Without --unbuffered, srun would hold back what has
// no newline.
func Step(id, node string) string {
	words := "sh -c '" + forgetOptions + "; " + findSlurm + `; exec srun "$@"' srun --jobid=` + id + " --overlap " +
		"--unbuffered --nodes=1 --ntasks=1 --cpu-bind=none --mpi=none --export=ALL --chdir=/ "
	if CheckPartition(node) == nil { // it has no letters but those of a name
		words += "--nodelist=" + node + " "
	}
	return words
}
