package slurm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"jobserver/slurm/slurmtest"
	"jobserver/ssh/sshtest"
)

// The other user. It is there only for the processes of these tests.
const (
	otherUser = "sweeper"
	otherUID  = 54321
)

// inNamespace runs the tests again where there is another user: a namespace of mounts, in which
// /etc is a copy. Were only /etc/passwd another file, it would be the host's again as soon as
// somebody adds a user there: whoever replaces a file takes what others have mounted on it away.
// done is false where that has happened, and where it can't.
func inNamespace() (code int, done bool) {
	const entered = "JOBSERVER_TEST_OTHER_USER"
	if os.Getuid() != 0 || os.Getenv(entered) != "" {
		return 0, false
	}
	dir, err := os.MkdirTemp("", "jobserver-users-")
	if err != nil {
		return 0, false
	}
	defer os.RemoveAll(dir)
	etc := filepath.Join(dir, "etc")
	_ = exec.Command("cp", "-a", "/etc", etc).Run() // what vanishes meanwhile isn't missed
	users := filepath.Join(etc, "passwd")
	passwd, err := os.ReadFile(users)
	if err != nil {
		return 0, false
	}
	line := fmt.Sprintf("%s:*:%d:%[2]d::/nonexistent:/bin/sh\n", otherUser, otherUID)
	if err := os.WriteFile(users, append(passwd, line...), 0o644); err != nil {
		return 0, false
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false
	}
	cmd := exec.Command("unshare",
		append([]string{"--mount", "--propagation", "private", "sh", "-c",
			`mount --bind "$0" /etc && exec "$@"`, etc, self}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), entered+"=1")
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return cmd.ProcessState.ExitCode(), true
}

// readable lets other users into a directory.
func readable(t *testing.T, dir string) {
	t.Helper()
	for ; len(dir) > len("/tmp"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// loginNode is a host by way of which a cluster is used, as another user: "login" to the client.
func loginNode(
	t *testing.T, c *slurmtest.Cluster,
) (login *sshtest.Machine, client *sshtest.Client) {
	t.Helper()
	client, err := sshtest.NewClient(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	login = sshtest.Start(t, sshtest.Shared(client), sshtest.Named("login"),
		sshtest.Env(c.Env()...), sshtest.ClientConfig("User "+otherUser),
		sshtest.Banner("Welcome to the cluster!\njobserver-end list 0\n"))
	readable(t, login.Home)
	readable(t, filepath.Dir(client.KeyFile))
	dir := filepath.Dir(login.Home)
	if err := errors.Join(os.Chown(login.Home, otherUID, otherUID),
		os.Chmod(filepath.Join(dir, "login"), 0o755),
		os.Chmod(filepath.Join(dir, "banner"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return login, client
}

// TestLogin: a class has a machine that is reached by SSH, and a partition behind a login node,
// where we are another user. A matrix goes through both, while the login's connections are cut, and
// it is away for a while.
func TestLogin(t *testing.T) {
	t.Parallel()
	c := slurmtest.Start(t, slurmtest.Nodes(2))
	login, client := loginNode(t, c)
	sshtest.Start(t, sshtest.Shared(client), sshtest.Named("box"))
	p := beside(t, c, "--ssh-config", client.ConfigFile)
	p.j("machine", "add", "slurm:login/test", "c", "--time", "10m", "--max", "2", "--slots", "2",
		"--idle", "1s")
	p.j("machine", "add", "--slots", "2", "box", "c")
	const n = 60
	p.j("matrix", "add", "c", "echo {i} $(id -un) ${SLURM_JOB_ID:+slurm}; sleep 1", "", "i=1.."+
		strconv.Itoa(n))
	done := func(k int) func() bool {
		return func() bool { // that no job matches yet is an error
			ids, _, _, err := p.Daemon.Run(t.Context(), "ls", "-q", "%1:done")
			return err == nil && len(strings.Fields(ids)) >= k
		}
	}
	p.until("some have ended", done(6))
	if _, err := login.KillSessions(); err != nil {
		t.Error(err)
	}
	p.until("more have ended", done(18))
	if err := login.Stop(); err != nil {
		t.Error(err)
	}
	p.until("the other machine has gone on", done(24))
	if err := login.Restart(); err != nil {
		t.Error(err)
	}
	p.j("wait", "%1")
	if attempts := p.j("job", "stat", "--json", "%1"); strings.Contains(attempts, `"attempt":2`) {
		t.Errorf("jobs were run more than once: %s", attempts)
	}
	where := map[string]int{}
	for i := 1; i <= n; i++ {
		words := strings.Fields(p.log(fmt.Sprintf("%%1,i=%d", i)))
		if len(words) < 2 || words[0] != strconv.Itoa(i) {
			t.Errorf("cell %d says %q", i, words)
			continue
		}
		where[strings.Join(words[1:], " ")]++
	}
	if where["root"] == 0 || where[otherUser+" slurm"] == 0 || len(where) != 2 {
		t.Errorf("the jobs ran as %v", where)
	}
	p.j("machine", "rm", "box")
	p.empty()
	if owners, err := p.Cluster.Run("squeue", "-h", "-t", "all", "-o", "%u"); err != nil ||
		slices.ContainsFunc(strings.Fields(owners), func(name string) bool {
			return name != otherUser
		}) {
		t.Errorf("the allocations were of %s, %v", owners, err)
	}
}
