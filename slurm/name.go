package slurm

import (
	"strconv"
	"strings"
)

// namePrefix begins the names of all allocations of any daemon.
const namePrefix = "js-"

// Name is the job name of a daemon's n-th allocation. server is the daemon's id, of letters,
// digits, _ and - only.
func Name(server string, n uint64) string {
	return namePrefix + server + "-" + strconv.FormatUint(n, 10)
}

// ParseName is the inverse of Name. ok is false for whatever isn't a name of this daemon's.
func ParseName(server, name string) (n uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, namePrefix+server+"-")
	if !ok || digits == "" || digits[0] == '0' && len(digits) > 1 || !isNumber(digits) {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// isNumber tells whether there are digits and nothing else.
func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
