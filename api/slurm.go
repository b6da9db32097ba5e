package api

import (
	"fmt"
	"strings"
	"time"
)

// Provider is what a class is backed by: a partition of Slurm, whose allocations join the class as
// machines.
type Provider struct {
	Seconds int64    `json:"seconds"` // of each allocation
	Max     int      `json:"max"`     // allocations at a time
	Backlog int      `json:"backlog"` // of them, those that wait
	Idle    int64    `json:"idle"`    // seconds after which one is released that has nothing to do
	Jobs    int      `json:"jobs,omitempty"`
	Args    []string `json:"args,omitempty"` // of sbatch
	Resting string   `json:"resting,omitempty"`
	Exclude []string `json:"exclude,omitempty"` // nodes that were set aside
	// Pilots that are there, by how they are: submitted, and what Slurm calls them.
	Submitted int        `json:"submitted,omitempty"` // Slurm hasn't said that it has it
	Pending   int        `json:"pending,omitempty"`
	Running   int        `json:"running,omitempty"`
	Ending    int        `json:"ending,omitempty"`  // given back
	Reasons   []string   `json:"reasons,omitempty"` // of those pending, Slurm's words
	Start     *time.Time `json:"start,omitempty"`   // when the first of them is expected to begin
	// Carries is how many pilots one shared connection to the login carries; 0: any number.
	Carries int `json:"carries,omitempty"`
}

// Pilot is an allocation of Slurm's that is a machine.
type Pilot struct {
	Provider string     `json:"provider"` // its address
	Job      string     `json:"job"`      // Slurm's id of it
	Node     string     `json:"node,omitempty"`
	State    string     `json:"state,omitempty"` // Slurm's word
	Ends     *time.Time `json:"ends,omitempty"`
	Released string     `json:"released,omitempty"` // why it is given back
}

// maxReason is how much of a reason of Slurm's is said in a few words, in bytes.
const maxReason = 32

// shortReason leaves the end out of a reason that is a sentence, between two of its words. All of
// it is said of the jobs that wait for it.
func shortReason(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	if i := strings.LastIndexByte(reason[:maxReason], ' '); i > 0 {
		return strings.TrimRight(reason[:i], " ,;:") + "…"
	}
	return reason
}

// Summary says in a few words how many allocations a provider has: 2 pending: Priority; 5 running.
func (p *Provider) Summary() string {
	var parts []string
	if p.Submitted > 0 {
		parts = append(parts, fmt.Sprintf("%d submitted", p.Submitted))
	}
	if p.Pending > 0 {
		text := fmt.Sprintf("%d pending", p.Pending)
		if len(p.Reasons) > 0 {
			short := make([]string, len(p.Reasons))
			for i, reason := range p.Reasons {
				short[i] = shortReason(reason)
			}
			text += ": " + strings.Join(short, ", ")
		}
		parts = append(parts, text)
	}
	if p.Running > 0 {
		parts = append(parts, fmt.Sprintf("%d running", p.Running))
	}
	if p.Ending > 0 {
		parts = append(parts, fmt.Sprintf("%d ending", p.Ending))
	}
	return strings.Join(parts, "; ")
}
