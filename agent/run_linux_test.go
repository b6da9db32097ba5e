package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRun(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	for name, tt := range map[string]struct {
		spec    Spec
		out     string
		err     string
		exit    Exit
		failing bool
	}{
		"true": {spec: m.command("true"), exit: Exit{Cause: Exited}},
		"output": {spec: m.command("echo out; echo err >&2"), out: "out\n", err: "err\n",
			exit: Exit{Cause: Exited}},
		"exit code": {spec: m.command("exit 17"), exit: Exit{Cause: Exited, Code: 17}},
		"signal": {spec: m.command("kill -9 $$"),
			exit: Exit{Cause: Exited, Code: -1, Signal: 9, SignalName: "SIGKILL"}},
		"stdin": {spec: m.command("cat; echo done"), out: "done\n",
			exit: Exit{Cause: Exited}},
		"binary": {spec: m.command(`printf 'a\0\377\r\n\001'`), out: "a\x00\xff\r\n\x01",
			exit: Exit{Cause: Exited}},
		"not a command": {spec: m.command("/nonexistent 2>/dev/null"),
			exit: Exit{Cause: Exited, Code: 127}},
		"login directory": {spec: m.command("pwd"), out: m.login + "\n", exit: Exit{Cause: Exited}},
		"directory": {spec: with(m.command("pwd"), func(s *Spec) {
			s.Dir = "/usr"
		}), out: "/usr\n", exit: Exit{Cause: Exited}},
		"no directory": {spec: with(m.command("pwd"), func(s *Spec) {
			s.Dir = "/nonexistent"
		}), failing: true,
			exit: Exit{Cause: NotStarted, Code: impossibleCode,
				StartError: "the directory /nonexistent is not there: no run can begin there"}},
		"words": {spec: with(m.command(""), func(s *Spec) {
			s.Argv = [][]byte{[]byte("printf"), []byte("%s|"), []byte("a b"), []byte("$HOME")}
		}),
			out: "a b|$HOME|", exit: Exit{Cause: Exited}},
		"words without program": {spec: with(m.command(""), func(s *Spec) {
			s.Argv = [][]byte{[]byte("no-such-program")}
		}), failing: true,
			exit: Exit{Cause: NotStarted, Code: impossibleCode,
				StartError: `execute "no-such-program": not found in PATH`}},
		"not executable": {spec: with(m.command(""), func(s *Spec) {
			s.Argv = [][]byte{[]byte("/etc/passwd")}
		}), failing: true,
			exit: Exit{Cause: NotStarted, Code: impossibleCode,
				StartError: "execute /etc/passwd in " + m.login + ": permission denied"}},
		"environment": {spec: with(m.command(`echo "$A $JOBSERVER_KEY ${HOME:+home}"`),
			func(s *Spec) {
				s.Env, s.Secrets = []Pair{{"A", "first"}, {"A", "b c"}}, []Pair{{"KEY", "s3cret"}}
			}), out: "b c s3cret home\n", exit: Exit{Cause: Exited}},
		"scratch": {spec: m.command(`cd "$JOBSERVER_SCRATCH" && touch x && ls -A`), out: "x\n",
			exit: Exit{Cause: Exited}},
		"own group, no terminal": {spec: m.command(
			`set -- $(cat /proc/$$/stat); [ $1 = $5 ] && [ $1 != $6 ] && echo $7`,
		), out: "0\n",
			exit: Exit{Cause: Exited}},
		"no descriptors": {spec: m.command(`exec ls /proc/self/fd`), out: "0\n1\n2\n3\n",
			exit: Exit{Cause: Exited}},
		// Signal 32 is the C library's own: a program that has one, as under the race detector, may
		// have it blocked.
		"default signals": {spec: m.command(
			`grep -E 'Sig(Blk|Ign)' /proc/$$/status | cut -f2 | sed 's/8\(.......\)$/0\1/' | sort -u`,
		), out: "0000000000000000\n",
			exit: Exit{Cause: Exited}},
	} {
		t.Run(name, func(t *testing.T) {
			r := startResult(t, c, tt.spec)
			if want := map[bool]StartStatus{false: StartOK,
				true: StartImpossible}[tt.failing]; r.Status != want {
				t.Fatalf("start: %+v", r)
			}
			e := follow(t, c, tt.spec.Run)
			if e.state != Ended || e.exit == nil {
				t.Fatalf("state %v, exit %v", e.state, e.exit)
			}
			if diff := cmp.Diff(tt.out, string(e.out)); diff != "" {
				t.Errorf("out: %s", diff)
			}
			if diff := cmp.Diff(tt.err, string(e.err)); diff != "" {
				t.Errorf("err: %s", diff)
			}
			ignored := cmpopts.IgnoreFields(Exit{}, "StartedAt", "EndedAt", "Duration", "UserCPU",
				"SystemCPU", "MaxRSS", "OutLen", "ErrLen", "OutCRC", "ErrCRC")
			tt.exit.BootID = "boot-1"
			if diff := cmp.Diff(tt.exit, *e.exit, ignored); diff != "" {
				t.Errorf("exit: %s", diff)
			}
			if e.exit.OutLen != int64(len(e.out)) || e.exit.OutCRC != checksum(e.out) ||
				e.exit.ErrCRC != checksum(e.err) {
				t.Errorf("length or checksum of the output: %+v", e.exit)
			}
			if e.exit.EndedAt.Before(e.exit.StartedAt) || time.Since(e.exit.EndedAt) > time.Minute {
				t.Errorf("times: %+v", e.exit)
			}
			if again := startResult(t, c, tt.spec); !again.StartedAt.Equal(r.StartedAt) ||
				again.Status != r.Status {
				t.Errorf("repeated start: %+v, first %+v", again, r)
			}
		})
	}
}

func with(s Spec, change func(*Spec)) Spec {
	change(&s)
	return s
}
