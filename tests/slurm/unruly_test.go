package slurm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/slurm/slurmtest"
	"jobserver/ssh/sshtest"
)

// unruly are logins whose start-up files, or environment, get in the way.
var unruly = map[string]struct {
	rc   string // .bashrc
	env  []string
	said string // of what is wrong; "" : nothing is
}{
	"prints": {rc: "echo Welcome; head -c 20000 /dev/urandom; echo; echo jobserver-end submit 1; " +
		"echo jobserver-out 77"},
	"printserrors": {rc: "echo sbatch: error: you are over quota >&2; stty erase '^H'"},
	"setsoptions": {env: []string{"SBATCH_WAIT=1", "SBATCH_ARRAY_INX=1-3", "SBATCH_TIMELIMIT=1",
		"SBATCH_REQUEUE=1", "SBATCH_SIGNAL=B:TERM@36000", "SBATCH_PARTITION=nope",
		"SBATCH_JOB_NAME=x", "SBATCH_OUTPUT=/nowhere/x", "SBATCH_DEBUG=2", "SBATCH_CLUSTERS=x",
		"SQUEUE_FORMAT=%u", "SQUEUE_STATES=pending", "SQUEUE_USERS=nobody",
		"SQUEUE_SORT=x", "SLURM_TIME_FORMAT=relative", "SCANCEL_STATE=PENDING",
		"SCANCEL_INTERACTIVE=1", "SCANCEL_VERBOSE=1", "SINFO_FORMAT=%D", "SRUN_DEBUG=3",
		"SLURM_UNBUFFEREDIO=0", "SLURM_OVERLAP=0", "SLURM_LABELIO=1"}},
	"ends":       {rc: "exit 0", said: "the login gave no answer that could be read"},
	"fails":      {rc: "echo maintenance >&2; exit 3", said: "maintenance"},
	"readsinput": {rc: "cat >/dev/null", said: "the login gave no answer that could be read"},
}

// TestUnrulyLogins: whatever a login's start-up files print, and whatever its environment says to
// Slurm's commands, allocations come, are used and go. Where nothing can be run it is said so.
func TestUnrulyLogins(t *testing.T) {
	t.Parallel()
	c := slurmtest.Start(t, slurmtest.Nodes(2))
	client, err := sshtest.NewClient(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, login := range unruly {
		m := sshtest.Start(t, sshtest.Shared(client), sshtest.Named(name),
			sshtest.Shell("/bin/bash"), sshtest.Env(append(c.Env(), login.env...)...))
		if err := os.WriteFile(filepath.Join(m.Home, ".bashrc"), []byte(login.rc+"\n"),
			0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := beside(t, c, "--ssh-config", client.ConfigFile)
	jobs := map[string]string{}
	for name, login := range unruly {
		addr := "slurm:" + name + "/test"
		stdout, stderr, code, err := p.Daemon.Run(t.Context(), "machine", "check", addr)
		if said := stdout + stderr; err != nil || (code == 0) != (login.said == "") ||
			!strings.Contains(said, login.said) {
			t.Errorf("%s: the check has exit code %d, %v, and says %s", name, code, err, said)
		}
		if login.said == "" {
			p.j("machine", "add", addr, name, "--time", "10m", "--idle", "1s")
			jobs[name] = p.j("add", "-q", name, "echo $SLURM_JOB_NAME", "")
		}
	}
	for name, job := range jobs {
		p.is(job, "done")
		if log := p.log(job); !strings.HasPrefix(log, "js-") {
			t.Errorf("%s: the job says %q", name, log)
		}
	}
	p.empty()
	if all := p.queue("all"); len(all) != len(jobs) {
		t.Errorf("there were allocations %v", all)
	}
}
