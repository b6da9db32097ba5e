package doctor

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/redact"
	"jobserver/ssh"
)

var now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// healthy are the facts of a daemon of which nothing is wrong.
func healthy() *Facts {
	machine := func(addr string) api.Machine {
		return api.Machine{Addr: addr, State: "connected", OS: "linux", Arch: "amd64",
			FreeBytes: 10 << 30}
	}
	return &Facts{
		Now: now, Socket: "/s/socket", Program: "1.1.0", StateDir: "/s",
		Daemon: &api.Status{Version: "1.1.0", PID: 7, StartedAt: now.Add(-time.Hour),
			StateDir: "/s"},
		Machines: []api.Machine{
			machine("red"), machine("green"), machine("blue"), machine("local:a"),
		},
		Saved: SavedState{Text: "/s is sound: 3 jobs, the last is 3"},
		Logs:  Dir{Path: "/s/logs"},
		Disks: []Disk{{Path: "/s", Free: 100 << 30, Files: 1 << 20}},
		Clock: ClockFacts{Known: true, Synced: true, MaxError: time.Millisecond},
		SSH: map[string]ssh.Examination{"red": {
			Keys: []string{"~/.ssh/id_ed25519 ssh-ed25519 SHA256:x"}, Agent: "/run/agent",
			KnownHosts: []string{"~/.ssh/known_hosts"},
		}},
		Process: Process{Files: 1 << 20, AgentEnv: true, AgentSock: "/run/agent"},
		Inotify: 128,
		Service: ServiceFacts{Unit: true, Lingers: true},
	}
}

// TestHealthy: nothing is found where nothing is wrong.
func TestHealthy(t *testing.T) {
	findings := Examine(healthy())
	for _, f := range findings {
		if f.State != OK || f.Do != "" || f.What == "" {
			t.Errorf("%+v", f)
		}
	}
	if len(findings) < 12 {
		t.Errorf("only %d things are looked at", len(findings))
	}
}

// wrong are things that somebody put wrong, and what is found of each: nothing else is.
var wrong = []struct {
	name     string
	put      func(f *Facts)
	check    string
	state    State
	what, do string // that these are part of
}{
	{"the configuration file", func(f *Facts) { f.ConfigErr = errors.New("line 3: what is that") },
		"configuration", Problem, "line 3", "mend the file"},
	{"no daemon", func(f *Facts) {
		f.Daemon, f.DaemonErr = nil,
			api.Errorf(api.Unavailable, "no daemon is running").WithHint("start it")
	}, "daemon", Problem, "no daemon is running", "start it"},
	{"an old daemon", func(f *Facts) { f.Daemon.Version = "1.0.0" }, "version", Warning,
		"the daemon is 1.0.0, this program 1.1.0", "start the daemon again"},
	{"a clock that was set back", func(f *Facts) { f.Daemon.StartedAt = now.Add(time.Hour) },
		"clock", Warning, "set back", "date"},
	{"work is refused", func(f *Facts) { f.Daemon.DiskFull, f.Daemon.HostFreeBytes = true, 5 },
		"disk", Problem, "refuses new work", "--min-free"},
	{"a damaged state", func(f *Facts) {
		f.Saved = SavedState{Err: errors.New("wal-1 is damaged"), Hint: "put back a copy"}
	}, "state", Problem, "wal-1 is damaged", "put back a copy"},
	{"a state that can't be read", func(f *Facts) {
		f.Saved = SavedState{Err: errors.New("open /s/lock: not a directory")}
	}, "state", Problem, "not a directory", "--state-dir DIR"},
	{"a history that was set aside", func(f *Facts) {
		f.Quarantine = []string{"/s/quarantine/1"}
	}, "quarantine", Warning, "/s/quarantine/1", "state check --state-dir /s/quarantine/1"},
	{"logs that others may write to", func(f *Facts) {
		f.Logs.Err = api.Errorf(api.Invalid, "may be written to").WithHint("chmod go-w /s/logs")
	}, "logs", Problem, "may be written to", "chmod go-w"},
	{"little room", func(f *Facts) { f.Disks[0].Free = 500 << 20 }, "disk", Warning,
		"500 MiB left", "prune"},
	{"no room", func(f *Facts) { f.Disks[0].Free = 5 << 20 }, "disk", Problem, "5.0 MiB left",
		"prune"},
	{"a disk that is away", func(f *Facts) { f.Disks[0].Free = -1 }, "disk", Warning,
		"nothing is known", "mounted"},
	{"no inodes", func(f *Facts) { f.Disks[0].Files = 12 }, "disk", Warning, "12 more files",
		"inodes"},
	{"a state on NFS", func(f *Facts) { f.Disks[0].Network = "NFS" }, "disk", Warning, "on NFS",
		"--state-dir"},
	{"a host's clock", func(f *Facts) {
		for i := range 3 { // each of these machines differs, too, and is found
			f.Machines[i].ClockOffsetSeconds = 6
		}
	}, "clock", Warning, "differs from those of most machines", "timedatectl"},
	{"a clock that nobody sets", func(f *Facts) { f.Clock.Synced = false }, "clock", Warning,
		"nothing keeps this host's clock right", "timedatectl"},
	{"the ssh configuration", func(f *Facts) {
		f.SSH["red"] = ssh.Examination{Err: errors.New("Bad configuration option: foo")}
	}, "ssh configuration", Problem, "Bad configuration option", "~/.ssh/config"},
	{"an agent that is gone", func(f *Facts) {
		one := f.SSH["red"]
		one.AgentErr = errors.New("connection refused")
		f.SSH["red"], f.Process.AgentErr = one, one.AgentErr
	}, "ssh agent", Problem, "doesn't answer", "ssh-add"},
	{"an agent that only the daemon has", func(f *Facts) {
		f.Process.AgentErr = errors.New("no such file")
	}, "ssh agent", Problem, "the daemon was started with the agent at /run/agent",
		"start the daemon again"},
	{"no key", func(f *Facts) {
		f.SSH["red"] = ssh.Examination{KnownHosts: []string{"known_hosts"}}
	}, "ssh keys", Problem, "no key", "ssh-keygen"},
	{"a key that others may read", func(f *Facts) {
		one := f.SSH["red"]
		one.Unfit = []string{"id_rsa: others may read it (mode 0644): chmod 600 it"}
		f.SSH["red"] = one
	}, "ssh keys", Warning, "chmod 600 it", "other keys"},
	{"a key with a passphrase", func(f *Facts) {
		one := f.SSH["red"]
		one.Unfit = []string{"id_rsa: has a passphrase, and no agent holds it"}
		one.Locked = []string{"id_rsa"}
		f.SSH["red"] = one
	}, "ssh keys", Warning, "id_rsa has a passphrase", "ssh-add id_rsa"},
	{"a line of known_hosts", func(f *Facts) {
		one := f.SSH["red"]
		one.BadLines = []string{"known_hosts, line 3: it has no key"}
		f.SSH["red"] = one
	}, "known_hosts", Warning, "line 3", "remove that line"},
	{"too few descriptors", func(f *Facts) { f.Process.Files = 256 }, "descriptors", Problem,
		"256 files, and a pool of 4 machines needs up to 332", "ulimit -n 4096"},
	{"too few watches", func(f *Facts) { f.Inotify = 4 }, "inotify", Warning, "4 instances",
		"sysctl fs.inotify.max_user_instances"},
	{"a service that doesn't linger", func(f *Facts) { f.Service.Lingers = false }, "lingering",
		Warning, "ends when you log out", "loginctl enable-linger"},
	{"systemd ends tmux", func(f *Facts) {
		f.Service = ServiceFacts{KillUserProcesses: true}
	}, "lingering", Warning, "also in tmux", "loginctl enable-linger"},
	{"no machines", func(f *Facts) { f.Machines = nil }, "machines", Warning, "there are none",
		"machine add"},
	{"a machine that is refused", func(f *Facts) {
		f.Machines[0].State, f.Machines[0].LastError = "refused", "red: its key is unknown"
		f.Machines[0].Hint = "jobserver machine trust -m red"
	}, "machine red", Problem, "refused: its key is unknown", "machine trust"},
	{"a machine that is away", func(f *Facts) { f.Machines[0].State = "away" }, "machine red",
		Problem, "away", "jobserver machine check -m red"},
	{"a machine's disk", func(f *Facts) { f.Machines[0].FreeBytes = 5 }, "machine red", Warning,
		"only 5 B left", "make room"},
	{"a machine's clock", func(f *Facts) { f.Machines[0].ClockOffsetSeconds = -70 },
		"machine red", Warning, "differs from this host's by 1m10s", "timedatectl"},
	{"runs that nobody knows", func(f *Facts) { f.Machines[0].OrphanCount = 2 }, "machine red",
		Warning, "2 runs", "machine clean"},
	{"runs that can't be removed", func(f *Facts) {
		f.Machines[0].Unremoved = []string{"/run: busy"}
	}, "machine red", Warning, "/run: busy", "machine clean"},
	{"a machine that was set aside", func(f *Facts) {
		f.Daemon.Verdicts = []api.Verdict{{Machine: "red", Text: "set aside", Undo: "undo it"}}
	}, "held back", Warning, "machine red is set aside", "undo it"},
}

// TestWrong puts one thing wrong after the other. A line for each kind of thing.
func TestWrong(t *testing.T) {
	for _, tt := range wrong {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			tt.put(f)
			found := 0
			for _, one := range Examine(f) {
				if one.State == OK {
					continue
				}
				if one.Check != tt.check && tt.name != "a host's clock" {
					t.Errorf("this is found as well: %+v", one)
				}
				if one.Check != tt.check {
					continue
				}
				found++
				if one.State != tt.state || !strings.Contains(one.What, tt.what) ||
					!strings.Contains(one.Do, tt.do) {
					t.Errorf("%+v", one)
				}
			}
			if found != 1 {
				t.Errorf("found %d times", found)
			}
		})
	}
}

// TestRemote: of a daemon elsewhere, only what it says itself is looked at.
func TestRemote(t *testing.T) {
	f := healthy()
	f.Remote = "desktop"
	f.Saved.Err, f.Disks, f.Process = errors.New("not this host's"), nil, Process{Files: 1}
	for _, one := range Examine(f) {
		if one.State != OK || one.Check == "state" {
			t.Errorf("%+v", one)
		}
	}
}

// TestHide takes secrets out of what others get to see.
func TestHide(t *testing.T) {
	known := redact.New("hunter22")
	for text, want := range map[string]string{
		"the password hunter22 is known":  "the password (secret) is known",
		"API_KEY=abc def":                 "API_KEY=(secret) def",
		`"wandb_token": "abc", "x": "y"`:  `"wandb_token": "(secret)", "x": "y"`,
		"Authorization: Bearer abcdefgh":  "Authorization: Bearer (secret)",
		"https://ann:pw@example.org/x":    "https://(secret)@example.org/x",
		"https://hooks.slack.com/a/b/c d": "https://hooks.slack.com/(secret) d",
		"a key of red is unknown":         "a key of red is unknown",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----": "(secret)",
	} {
		if got := Hide(text, known); got != want {
			t.Errorf("%s\nbecomes %s\nwant    %s", text, got, want)
		}
	}
	words := []string{"jobserver", "serve", "--notify-slack", "https://x", "--on=failed=curl x",
		"--keep", "90d"}
	want := "jobserver serve --notify-slack (secret) --on=(secret) --keep 90d"
	if got := CommandLine(words); got != want {
		t.Error(got)
	}
}

// TestWriteBundle writes an archive for this user alone, and over nothing.
func TestWriteBundle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.tar.gz")
	files := []File{{"doctor.json", "[]\n"}, {"server.log", "line\n"}}
	if err := WriteBundle(path, files, now); err != nil {
		t.Fatal(err)
	}
	if err := WriteBundle(path, nil, now); !errors.Is(err, os.ErrExist) {
		t.Errorf("written over: %v", err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in := tar.NewReader(z)
	for _, want := range files {
		h, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil || h.Name != "jobserver-report/"+want.Name || string(text) != want.Text {
			t.Errorf("%s: %q, %v", h.Name, text, err)
		}
	}
}

// TestLook reads of this very process what there is to read; of another one, nothing.
func TestLook(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "/nowhere") // the environment that the kernel shows is the first one
	p := LookAtProcess(t.Context(), os.Getpid())
	if p.Files < 64 || !p.AgentEnv {
		t.Errorf("%+v", p)
	}
	if p := LookAtProcess(t.Context(), 1<<30); p != (Process{}) {
		t.Errorf("of no process: %+v", p)
	}
	if words := Words(os.Getpid()); len(words) == 0 || Words(1<<30) != nil {
		t.Errorf("%q", words)
	}
	if InotifyInstances() < 1 {
		t.Error("no inotify")
	}
	if dialAgent(t.Context(), "/nowhere") == nil {
		t.Error("an agent answers that isn't there")
	}
	_, _ = LookAtClock(), LookAtService(t.Context(), os.Getpid())
}
