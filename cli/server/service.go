package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"unicode"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/userfile"
)

// Service are the commands that make the daemon a service of the user's systemd.
type Service struct {
	Install   ServiceInstall   `cmd:"" help:"Start the daemon now, and whenever this host starts."`
	Uninstall ServiceUninstall `cmd:"" help:"Stop the daemon, and don't start it any more; its state stays."`
	Status    ServiceStatus    `cmd:"" help:"Show whether the daemon is a service, and runs."`
}

// unitName names the daemon to systemd.
const unitName = "jobserver.service"

// unitMark is how a unit of ours begins: others are not replaced or removed.
const unitMark = "# Written by jobserver service install.\n"

// Unit is the user unit that runs a program as the daemon, with flags of serve.
func Unit(program string, flags []string) string {
	words := []string{unitWord(program), "serve"}
	for _, flag := range flags {
		words = append(words, unitWord(flag))
	}
	return `[Unit]
Description=jobserver, which runs experiments on a pool of machines
Documentation=man:jobserver(1)

[Service]
ExecStart=` + strings.Join(words, " ") + `
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=5
# Running jobs are not the daemon's: they go on while it is stopped, replaced or restarted.
KillMode=process

[Install]
WantedBy=default.target
`
}

// unitWord quotes a word for ExecStart, systemd.service(5): in it, % and $ mean something even in
// quotes.
func unitWord(word string) string {
	plain := strings.NewReplacer("%", "%%", "$", "$$").Replace(word)
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune(`"'\;`, r)
	}) {
		return plain
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`).Replace(plain) + `"`
}

// unitFile is where the user's unit is.
func unitFile(e *cli.Env) (string, error) {
	dir := e.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := e.Getenv("HOME")
		if home == "" {
			return "", api.Errorf(api.Usage, "HOME isn't set: there is no place for a unit")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "systemd", "user", unitName), nil
}

// systemctl calls the user's systemd.
func systemctl(ctx context.Context, words ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"--user"}, words...)...)
	out, err := cmd.CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err == nil {
		return said, nil
	}
	if said != "" {
		err = errors.New(said)
	}
	return said, fmt.Errorf("systemctl --user %s: %w", strings.Join(words, " "), err)
}

// needSystemd says what else there is where the user has no systemd.
func needSystemd(ctx context.Context) error {
	if _, err := systemctl(ctx, "show-environment"); err != nil {
		return api.Errorf(api.Unavailable, "there is no systemd for this user: %w", err).
			WithHint("run `jobserver serve` in tmux, which also stays when you log out")
	}
	return nil
}

// ServiceInstall is `service install [FLAG…]`.
type ServiceInstall struct {
	Flags []string `arg:"" optional:"" name:"FLAG" sep:"none" help:"Flags of serve, after --."`
}

// Run writes the unit and starts it.
func (c *ServiceInstall) Run(ctx context.Context, e *cli.Env) error {
	for _, flag := range c.Flags {
		if strings.ContainsFunc(
			flag,
			func(r rune) bool { return r != '\t' && unicode.IsControl(r) },
		) {
			return api.Errorf(api.Usage, "%q: a unit can't have that", flag)
		}
	}
	values, err := cli.ValuesIn(e, []string{"serve"}, c.Flags)
	if err != nil {
		return err
	}
	if err := needSystemd(ctx); err != nil {
		return err
	}
	file, err := unitFile(e)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program's own path: %w", err)
	}
	text := []byte(unitMark + Unit(program, c.Flags))
	before, err := os.ReadFile(file)
	switch {
	case err == nil && !bytes.HasPrefix(before, []byte(unitMark)) &&
		!bytes.Equal(before, []byte(Unit(program, nil))):
		return api.Errorf(api.Conflict, "%s is not by `service install`: it stays as it is", file).
			WithHint("use it: systemctl --user enable --now %s; or move it away", unitName)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	active, _ := systemctl(ctx, "is-active", unitName) // its exit status says the same
	if active != "active" {
		if status, err := cli.Call[api.Status](ctx, atSocket(e, values), "Status",
			&api.Empty{}); err == nil {
			return api.Errorf(api.Conflict, "a daemon runs already, as process %d", status.PID).
				WithHint("stop it first, running jobs go on: kill %d", status.PID)
		}
	}
	if err := userfile.Replace(file, text, 0o644, 0o755); err != nil {
		return err
	}
	if _, err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	if _, err := systemctl(ctx, "enable", "--now", unitName); err != nil {
		return err
	}
	switch {
	case active != "active":
		e.Note(
			"the daemon runs, and is started with this host; its log: journalctl --user -u %s",
			unitName,
		)
	case bytes.Equal(before, text):
		e.Note("it is installed already, and runs")
	default:
		e.Note(
			"%s is written anew; for the daemon to follow it: systemctl --user restart %s",
			file,
			unitName,
		)
	}
	return linger(ctx, e)
}

// atSocket is where the daemon is that serve's flags make.
func atSocket(e *cli.Env, values map[string]string) *cli.Env {
	socket := values["socket"]
	if dir := values["state-dir"]; socket == "" && dir != "" {
		socket = filepath.Join(dir, "socket")
	}
	if socket == "" {
		return e
	}
	there := *e
	there.Globals.Socket, there.Globals.Host = socket, ""
	return &there
}

// linger lets the user's services run without a login, where the user may say that.
func linger(ctx context.Context, e *cli.Env) error {
	if lingers(ctx) {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "loginctl", "enable-linger").
		CombinedOutput(); err != nil {
		name := "USER"
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
		e.Note(
			"the daemon ends when you log out, and starts when you log in, since lingering isn't "+
				"enabled: %s",
			bytes.TrimSpace(out),
		)
		e.Note("ask for: sudo loginctl enable-linger %s", name)
	}
	return nil
}

// lingers tells whether the user's services run without a login.
func lingers(ctx context.Context) bool {
	u, err := user.Current()
	if err != nil {
		return false
	}
	out, err := exec.CommandContext(ctx, "loginctl", "show-user", "--property=Linger", "--value",
		u.Username).
		Output()
	return err == nil && strings.TrimSpace(string(out)) == "yes"
}

// ServiceUninstall is `service uninstall`.
type ServiceUninstall struct{}

// Run stops the daemon and removes the unit.
func (c *ServiceUninstall) Run(ctx context.Context, e *cli.Env) error {
	file, err := unitFile(e)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.NotFound, "it isn't installed: there is no %s", file)
	case err != nil:
		return err
	case !bytes.HasPrefix(text, []byte(unitMark)):
		return api.Errorf(api.Conflict, "%s is not by `service install`: it stays as it is", file).
			WithHint("stop it: systemctl --user disable --now %s", unitName)
	}
	if err := needSystemd(ctx); err != nil {
		return err
	}
	if _, err := systemctl(ctx, "disable", "--now", unitName); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	if _, err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	e.Note("the daemon is stopped, and no service any more; state and running jobs stay")
	return nil
}

// ServiceStatus is `service status`.
type ServiceStatus struct{}

// Run shows the unit, and whether the daemon answers.
func (c *ServiceStatus) Run(ctx context.Context, e *cli.Env) error {
	if err := e.ForPeople("service status", "`status` has the other formats"); err != nil {
		return err
	}
	file, err := unitFile(e)
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err != nil {
		file = "none"
	}
	active, enabled, lingering := "no systemd for this user", "", ""
	if needSystemd(ctx) == nil {
		active, _ = systemctl(ctx, "is-active", unitName) // inactive is an answer, too
		enabled, _ = systemctl(ctx, "is-enabled", unitName)
		lingering = "no: the daemon ends when you log out (sudo loginctl enable-linger)"
		if lingers(ctx) {
			lingering = "yes"
		}
	}
	answers := "no"
	if status, err := cli.Call[api.Status](ctx, e, "Status", &api.Empty{}); err == nil {
		answers = fmt.Sprintf("yes, process %d", status.PID)
	}
	out := show.Fields{W: e.Stdout, Width: 10}
	out.Add("unit", file)
	out.Add("state", active)
	out.Add("at start", enabled)
	out.Add("lingering", lingering)
	out.Add("answers", answers)
	return nil
}
