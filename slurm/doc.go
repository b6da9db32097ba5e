// Package slurm speaks with Slurm's commands: it makes the command lines that submit, list and
// cancel allocations, and reads what they answer. It starts nothing itself and keeps nothing.
//
// # The name is the token
//
// sbatch isn't idempotent, and an error of its doesn't say that nothing was submitted: the
// controller may have taken the job and been too slow to say so. So each allocation has a name of
// its own (Name), under which it is found, and canceled, whatever was answered. A command that is
// repeated can do no more harm than a second job of the same name.
//
// # Scripts
//
// A script is text for sh on its standard input: the login shell, of whatever kind, is only asked
// for sh. What the script answers begins, line by line, with words of ours: a login may print
// whatever it likes in between. Reading an answer tells "nothing is there" from "nothing was
// answered" by the line that says how Slurm's command ended.
//
// Variables of a login that would hide jobs from squeue or scancel (SQUEUE_PARTITION, …) are taken
// away; those that choose for sbatch (SBATCH_ACCOUNT, …) count, unless a word on the command line
// says something else.
package slurm
