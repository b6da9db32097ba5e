package hostile_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/api"
)

// badJobs are what jobs do that don't mean well. $RUN is the directory of the run, $OUT one that is
// none of theirs, and what stays is a sleep of $STAY s, a number that only this test has.
var badJobs = map[string]string{
	"output without end":       `yes | head -c 30000000; yes x | head -c 30000000 >&2`,
	"a line without end":       `head -c 20000000 /dev/zero | tr '\0' x`,
	"marks without end":        `yes 'METRIC: ' | head -c 8000000; yes 'RESULTS: ' | head -c 8000000`,
	"measurements without end": `yes 'METRIC: x=1' | head -c 8000000`,
	"results without end":      `seq 100000 | sed 's|^|RESULTS: /no/such/|'`,
	"a terminal's sequences": `printf 'METRIC: m\033]0;mine\a=1 \033[2J\nRESULTS: \033]0;mine\a\n'; ` +
		`printf '\033]52;c;AA\a\033[2J\302\233m\n'; printf '\033]0;mine\a\n' >&2; exit 3`,
	"links out": `mkdir d; ln -s "$OUT" d/out; ln -s ../../../.. d/up; ln -s /etc/passwd d/p; ` +
		`echo "RESULTS: $PWD/d"; echo "RESULTS: $PWD/d/out/../victim"`,
	"a result that is a link out": `ln -s "$OUT/victim" l; echo "RESULTS: $PWD/l"`,
	"records": `echo '{"complete":true}' >job.json; cp job.json 1.job.json; mkdir .jobserver-x; ` +
		`for f in job.json 1.job.json .jobserver-x; do echo "RESULTS: $PWD/$f"; done`,
	"names of all kinds": `mkdir d; cd d; touch -- "$(printf 'a\nb')" "$(printf '\033[2J')" -rf ` +
		`"$(printf '\377')" '$(touch mine)' '=1+1'; echo "RESULTS: $PWD"`,
	"many files": `mkdir d; cd d; seq 3000 | xargs touch; echo "RESULTS: $PWD"`,
	"a deep directory": `mkdir d; cd d; r=$PWD; n=$(printf %0200d 0); ` +
		`for i in $(seq 30); do mkdir $n && cd ./$n || break; done; echo "RESULTS: $r"`,
	"a sparse result of 2 TB":    `truncate -s 2T big; echo "RESULTS: $PWD/big"`,
	"a pipe and a device":        `mkfifo p; echo "RESULTS: $PWD/p"; echo 'RESULTS: /dev/zero'`,
	"a result that grows":        `(yes >>g & sleep 0.3; kill $!); echo "RESULTS: $PWD/g"`,
	"its directory is gone":      `cd /; rm -rf "$RUN"`,
	"its directory is a link":    `cd /; rm -rf "$RUN"; ln -s "$OUT" "$RUN"`,
	"its directory can't be had": `chmod 0 "$RUN"`,
	"its files are junk": `for f in "$RUN"/*; do [ ! -f "$f" ] || ` +
		`head -c 100000 /dev/urandom >"$f"; done`,
	"its files are pipes": `for f in "$RUN"/*; do [ ! -f "$f" ] || { rm "$f"; mkfifo "$f"; }; done`,
	"its files are endless": `for f in "$RUN"/*; do [ ! -f "$f" ] || ` +
		`{ rm "$f"; ln -s /dev/zero "$f"; }; done`,
	"its files are huge":    `for f in "$RUN"/*; do [ ! -f "$f" ] || truncate -s 1T "$f"; done`,
	"kills its supervisor":  `kill -9 $PPID; sleep $STAY`,
	"stops its supervisor":  `kill -STOP $PPID; sleep $STAY`,
	"outlives itself":       `env -i setsid sh -c "trap '' TERM HUP INT; sleep $STAY" & exit 0`,
	"leaves its group":      `setsid -f setsid sleep $STAY`,
	"ends without a word":   `exec >&- 2>&- <&-; kill -9 $$`,
	"an exit code of 10^30": `exit 1000000000000000000000000000000`,
}

// TestHostileJobs: jobs that do everything wrong that a job can do, on a machine of their own,
// beside two honest machines. All of them come to an end, nothing that isn't theirs is changed, and
// nothing of them stays.
func TestHostileJobs(t *testing.T) {
	t.Parallel()
	d := honestDaemon(t, "--max-log", "1M")
	d.J(t, "machine", "add", "local:bad", "bad", "--slots", "8")
	dir := t.TempDir()
	out := filepath.Join(dir, "outside")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(out, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	stay := fmt.Sprintf("98765%08d", os.Getpid())
	stop := honest(t, d)
	client, err := d.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var args api.AddJobsArgs
	names := slices.Sorted(maps.Keys(badJobs))
	for _, name := range names {
		args.Jobs = append(args.Jobs, api.JobSpec{
			Class: "bad", CpPath: filepath.Join(dir, "results"),
			Cmd: fmt.Sprintf("OUT='%s'; STAY=%s; RUN=${JOBSERVER_SCRATCH%%/*}; "+
				"cd $JOBSERVER_SCRATCH; %s", out, stay, badJobs[name]),
		})
	}
	added, err := api.Call[api.AddJobsReply](t.Context(), client, "AddJobs", &args)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	awhile := func() {
		wait, cancel := context.WithTimeout(ctx, during(t)/5)
		defer cancel()
		_, _, _, _ = d.Run(wait, "wait", "class=bad")
	}
	awhile()
	_, _, _, _ = d.Run(ctx, "rm", "--yes", "class=bad") // most have ended
	awhile()
	// What has spoiled its own files can't be canceled: its user gives it up, and it is killed.
	_, _, _, _ = d.Run(ctx, "job", "lost", "--yes", "class=bad")
	if out, errs, code, err := d.Run(ctx, "wait", "class=bad"); err != nil || code > 1 {
		t.Errorf("the hostile jobs: code %d, %v\n%s%s", code, err, out, errs)
	}
	stop()
	awaitNoProcess(ctx, t, stay)
	lines := [][]string{{"ls", "class=bad"}, {"ls", "class=bad", "-o", "wide"}, {"machine", "ls"}}
	for _, id := range added.JIDs {
		lines = append(lines, []string{"show", fmt.Sprint(id)})
	}
	for _, words := range lines {
		text, errs, _, err := d.Run(ctx, words...)
		if err != nil || len(text) > 8<<20 || // up to 4 MiB are names of results
			strings.ContainsAny(text+errs, "\x1b\a\u009b") {
			t.Errorf("j %s: %v, %d bytes: %.2000q", strings.Join(words, " "), err, len(text),
				text+errs)
		}
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "untouched" {
		t.Errorf("a file outside is %q, %v", got, err)
	}
	for where, want := range map[string][]string{out: {"victim"}, dir: {"outside", "results"}} {
		if got := namesIn(t, where); !slices.Equal(got, want) {
			t.Errorf("in %s are %q", where, got)
		}
	}
	if got := resident(t, d.PID()); got > maxResident {
		t.Errorf("the daemon took %d MiB", got>>20)
	}
}

// awaitNoProcess waits until no process has a text in its command line, or what it sleeps for.
func awaitNoProcess(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var left []string
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range lines {
			if line, _ := os.ReadFile(name); strings.Contains(string(line), text) {
				left = append(left, strings.ReplaceAll(string(line), "\x00", " "))
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Errorf("there still run %q", left)
			return
		}
	}
}

// namesIn lists a directory.
func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
