package hostile_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"jobserver/api"
)

// squatted is how many names in the shared directory the neighbour takes before jobs come to them.
const squatted = 40

// neighbourMain is this test's program as another user of the host: until its input ends it tries
// what it can on the daemon's socket, state and process, and in a directory that all may write. It
// prints what it got.
func neighbourMain(socket, state, shared, victim string) {
	squat := func(n int) {
		name := filepath.Join(shared, strconv.Itoa(n))
		switch n % 5 {
		case 0:
			_ = os.Symlink(victim, name)
		case 1:
			_ = os.Symlink(filepath.Join(victim, "new"), name)
		case 2:
			_ = os.Mkdir(name, 0o777)
			_ = os.Chmod(name, 0o777)
			_ = os.Symlink(victim, filepath.Join(name, "d"))
		case 3:
			_ = os.WriteFile(name, []byte("mine"), 0o666)
		case 4:
			_ = syscall.Mkfifo(name, 0o666)
		}
	}
	for n := range squatted {
		squat(n)
	}
	fmt.Println("squatted")
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	pid, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(shared), "shared-"))
	var open []net.Conn // at most so many as it may have
	for n := 0; ; n++ {
		select {
		case <-ended:
			return
		default:
		}
		if c, err := net.Dial("unix", socket); err == nil {
			_, _ = c.Write(bytes.Repeat([]byte{0xff}, 100))
			if open = append(open, c); len(open) > 500 {
				open[0].Close()
				open = open[1:]
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			answer := make([]byte, 1<<10)
			got, _ := c.Read(answer)
			if got > 0 && !bytes.Contains(answer[:got], []byte("not user")) {
				fmt.Printf("read from the daemon %q\n", answer[:got])
			}
		}
		_ = filepath.WalkDir(state, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Type().IsRegular() {
				if text, err := os.ReadFile(path); err == nil && n == 0 {
					fmt.Printf("read %s: %d bytes\n", path, len(text))
				}
			}
			return nil
		})
		if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
			fmt.Println("killed the daemon")
		}
		// A name is one thing, and another in the next moment.
		name := filepath.Join(shared, strconv.Itoa(2+5*(n%(squatted/5))))
		if os.RemoveAll(name) == nil && os.Symlink(victim, name) == nil && os.Remove(name) == nil {
			squat(2)
		}
	}
}

// TestHostileNeighbour: another user of the daemon's host, who may reach its socket and write where
// its results go, gets nothing of it, and nothing is written where that user leads.
func TestHostileNeighbour(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	d := honestDaemon(t)
	top, err := os.MkdirTemp("", "jobserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The neighbour is told the daemon's process by the name of the directory that both write.
	shared := filepath.Join(top, fmt.Sprintf("shared-%d", d.PID()))
	victim, program := filepath.Join(top, "victim"), filepath.Join(top, "program")
	must(os.Mkdir(shared, 0o700))
	must(os.Mkdir(victim, 0o755))
	must(os.WriteFile(filepath.Join(victim, "f"), []byte("untouched"), 0o644))
	for _, dir := range []string{top, d.StateDir, filepath.Dir(d.StateDir)} {
		must(os.Chmod(dir, 0o711)) // the neighbour may pass, and not look
	}
	must(os.Chmod(d.Socket, 0o666)) // as an ACL or an odd umask would have it
	must(os.Chmod(shared, 0o777|os.ModeSticky))
	self, err := os.Executable()
	must(err)
	text, err := os.ReadFile(self)
	must(err)
	must(os.WriteFile(program, text, 0o755))

	cmd := exec.Command(program, "neighbour", d.Socket, d.StateDir, shared, victim)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	must(err)
	output, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	said := bufio.NewReader(output)
	if line, err := said.ReadString('\n'); err != nil || line != "squatted\n" {
		t.Errorf("the neighbour says %q, %v", line, err)
	}
	// The ids of these jobs are the names that the neighbour has taken.
	d.J(t, "add", "good", "-x", fmt.Sprint(squatted-1), `mkdir $JOBSERVER_SCRATCH/d; `+
		`echo $JOBSERVER_JID >$JOBSERVER_SCRATCH/d/f; echo "RESULTS: $JOBSERVER_SCRATCH/d"`, shared)
	stop := honest(t, d)
	for range 20 {
		d.J(t, "ping")
	}
	stop()
	must(input.Close())
	rest, err := io.ReadAll(said)
	must(err)
	must(cmd.Wait())
	if len(rest) > 0 {
		t.Errorf("the neighbour got something:\n%s", rest)
	}
	copied := 0
	for line := range strings.Lines(d.J(t, "ls", fmt.Sprintf("1..%d", squatted-1), "-o", "jsonl")) {
		var j api.Job
		must(json.Unmarshal([]byte(line), &j))
		if j.ResultsStatus != "copied" {
			continue
		}
		copied++
		file := filepath.Join(shared, fmt.Sprint(j.JID), "d", "f")
		if real, err := filepath.EvalSymlinks(file); err != nil || real != file {
			t.Errorf("job %d: its results are in %s, %v", j.JID, real, err)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != fmt.Sprintln(j.JID) {
			t.Errorf("job %d: its result is %q, %v", j.JID, text, err)
		}
		info, err := os.Lstat(filepath.Dir(filepath.Dir(file)))
		if must(err); info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("job %d: its results are in another user's directory", j.JID)
		}
	}
	t.Logf("%d of %d results were copied", copied, squatted-1)
	if got, err := os.ReadFile(filepath.Join(victim, "f")); err != nil ||
		string(got) != "untouched" || !slices.Equal(namesIn(t, victim), []string{"f"}) {
		t.Errorf("in another's directory are %q; the file is %q, %v", namesIn(t, victim), got, err)
	}
}
