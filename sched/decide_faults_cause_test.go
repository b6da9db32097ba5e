package sched

import (
	"fmt"
	"testing"
)

// TestOnlyOwnFailuresCount has five jobs in a row of a pool's only machine not started, alone or on
// one machine of two, for each reason that there is: what no machine could start, or what waits for
// the user, says nothing about the machine, which is given the next job at once.
func TestOnlyOwnFailuresCount(t *testing.T) {
	for _, tt := range []struct {
		name   string
		says   NotStarted
		blamed bool
	}{
		{"the machine has no room", NotStarted{Reason: "no space left on device"}, true},
		{"code is lost", NotStarted{Reason: LostCode + ": submit it again with --code"}, false},
		{"standard input is lost", NotStarted{Reason: LostStdin + ": no such file"}, false},
		{"no program", NotStarted{Reason: "exec format error", JobsFault: true}, false},
		{"an input is missing", NotStarted{Reason: "it is not there", Hold: true}, false},
	} {
		for _, machines := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d machines", tt.name, machines), func(t *testing.T) {
				w := newWorld()
				check(t, w.pool("x", 1, []string{"a", "b"}[:machines]...))
				spec := JobSpec{Class: "x", Machines: machines}
				for i := range 5 {
					spec.Cmd = fmt.Sprint("bad ", i)
					ids, err := w.submit(spec)
					check(t, err)
					if w.s.Status(ids[0]) != Running { // it rests
						break
					}
					says := tt.says
					says.Ref = w.rank(ids[0], 0)
					check(t, w.report(says))
					w.operate(t, OpCancel, ids[0])
				}
				good, err := w.submit(JobSpec{Class: "x", Cmd: "good", Repeat: machines})
				check(t, err)
				m := w.s.machines["a"]
				if blamed := !m.able() || m.suspect() || m.blamed() > 0; blamed != tt.blamed {
					t.Errorf("the machine is blamed: %v, in class %s, %s", blamed, m.Class,
						m.LastError)
				}
				if !tt.blamed {
					for _, id := range good {
						w.wants(t, id, Running)
					}
				}
			})
		}
	}
}
