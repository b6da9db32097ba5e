package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/view"
)

// pool looks at the machines, as the daemon sees them.
func (l *list) pool(f *Facts) {
	if f.Daemon == nil {
		return
	}
	if len(f.Machines) == 0 {
		l.add("machines", Warning, "jobserver machine add ADDR CLASS", "there are none")
		return
	}
	kinds, connected := map[string]int{}, 0
	for i := range f.Machines {
		m := &f.Machines[i]
		l.machine(f, m)
		if m.State == "connected" {
			kinds[m.OS+"/"+m.Arch]++
			connected++
		}
	}
	if connected > 0 {
		l.ok("machines", "%d of %d are connected", connected, len(f.Machines))
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[kind], kind))
	}
	if len(parts) > 0 {
		l.ok("agents", "connected machines run the agent of %s: %s", f.Daemon.Version,
			strings.Join(parts, ", "))
	}
	for _, v := range f.Daemon.Verdicts {
		what := "machine " + v.Machine
		if v.Matrix != 0 {
			what = fmt.Sprintf("matrix %d", v.Matrix)
		}
		l.add("held back", Warning, cmp.Or(v.Undo, "jobserver why"), "%s is %s", what, v.Text)
	}
}

// machine looks at one, and says the worst of it.
func (l *list) machine(f *Facts, m *api.Machine) {
	check := "machine " + m.Addr
	switch {
	case m.State != "connected":
		why := cmp.Or(m.LastError, "it is not reached so far")
		state := Problem
		if m.State == "connecting" && m.LastError == "" {
			state = Warning
		}
		l.add(check, state, cmp.Or(m.Hint, "jobserver machine check -m "+m.Addr), "%s: %s", m.State,
			strings.TrimPrefix(why, m.Addr+": "))
	case m.FreeBytes > 0 && m.FreeBytes < fullDisk:
		l.add(check, Warning, "make room in "+cmp.Or(m.Root, "its home"),
			"its disk has only %s left", view.FormatSize(m.FreeBytes))
	case len(m.Unremoved) > 0:
		l.add(check, Warning, "jobserver machine clean -m "+m.Addr,
			"%s can't be removed: %s", view.Counted(len(m.Unremoved), "ended run"), m.Unremoved[0])
	case m.OrphanCount > 0:
		l.add(check, Warning, "jobserver machine clean -m "+m.Addr,
			"there is %s that nothing here knows", view.Counted(m.OrphanCount, "run"))
	case slips(m):
		l.add(check, Warning, "let a time service set it: timedatectl set-ntp true",
			"its clock differs from this host's by %s",
			view.FormatDuration(offset(m).Abs()))
	}
}

func offset(m *api.Machine) time.Duration {
	return time.Duration(m.ClockOffsetSeconds * float64(time.Second))
}

func slips(m *api.Machine) bool { return offset(m).Abs() > clockSlip }
