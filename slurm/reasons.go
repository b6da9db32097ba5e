package slurm

import "strings"

// The hints of ReasonHint.
const (
	hintWait     = "wait: others come first, or the nodes are busy"
	hintTime     = "a shorter --time fits: machine rm and add it again"
	hintReserved = "the nodes are reserved, for maintenance perhaps: a shorter --time, or wait"
	hintLimits   = "a limit of your account is reached: a smaller --max, or another " +
		"--sbatch=--account"
	hintNodes = "the nodes are down, drained or others' at present: wait, ask the site, or use " +
		"another partition"
	hintSite      = "ask the site's administrators"
	hintArguments = "no node will ever do: machine rm and add it with other arguments"
	hintAccount   = "machine rm and add it with another --sbatch=--account or --sbatch=--qos"
	hintPartition = "the partition takes no work at present: wait, ask the site, or use another one"
)

// reasons are the words of squeue's Reason, by what helps. A star at the end stands for any rest.
var reasons = []struct{ reason, hint string }{
	{"Resources", hintWait},
	{"Priority", hintWait},
	{"BeginTime", "wait: it was asked to begin later"},
	{"Dependency*", "wait for the jobs that --sbatch=--dependency names"},
	{"Reservation*", hintReserved},
	{"Licenses", hintWait},
	{"PartitionTimeLimit", hintTime},
	{"QOSMaxWallDurationPerJobLimit", hintTime},
	{"AssocMaxWallDurationPerJobLimit", hintTime},
	{"ReqNodeNotAvail*", hintReserved},
	{"AssocGrp*", hintLimits},
	{"AssocMax*", hintLimits},
	{"AssociationJobLimit", hintLimits},
	{"AssociationResourceLimit", hintLimits},
	{"QOSGrp*", hintLimits},
	{"QOSMax*", hintLimits},
	{"QOSMin*", hintArguments},
	{"QOSUsageThreshold", hintLimits},
	{"QOSJobLimit", hintLimits},
	{"QOSResourceLimit", hintLimits},
	{"MaxGRES*", hintLimits},
	{"JobHeldAdmin", hintSite},
	{"JobHeldUser", "scontrol release it, or machine rm"},
	{"launch failed requeued held", hintSite},
	{"JobLaunchFailure", hintSite},
	{"SystemFailure", hintSite},
	{"PartitionDown", hintPartition},
	{"PartitionInactive", hintPartition},
	{"PartitionNodeLimit", hintArguments},
	{"NodeDown", hintPartition},
	// In some versions these are sentences.
	{"Nodes required for job are*", hintNodes},
	{"Job's account not permitted*", hintAccount},
	{"Job's QOS not permitted*", hintAccount},
	{"Job's group not permitted*", hintSite},
	{"BadConstraints", hintArguments},
	{"AccountingPolicy", hintLimits},
	{"AccountNotAllowed", hintAccount},
	{"InvalidAccount", hintAccount},
	{"InvalidQOS", hintAccount},
	{"QOSNotAllowed", hintAccount},
}

// ReasonHint is what helps an allocation that waits for one of Slurm's reasons; "" when none is
// known: then the words alone are shown.
func ReasonHint(reason string) string {
	for _, r := range reasons {
		if start, open := strings.CutSuffix(r.reason, "*"); reason == r.reason ||
			open && strings.HasPrefix(reason, start) {
			return r.hint
		}
	}
	return ""
}
