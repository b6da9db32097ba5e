package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/ssh"
	"jobserver/version"
	"jobserver/view"
)

// Env is what a command may touch of the world outside: the streams, the environment, the clock and
// the daemon. Tests give a command other ones and run it in process.
type Env struct {
	Name   string // that the program was called by: help and errors use it
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Now    func() time.Time
	Dial   func(ctx context.Context) (Daemon, error) // nil: as the flags say

	Grammar reflect.Type // of the whole command line: a struct with a field for each command

	Ssh       ssh.Options // for --host; the zero ones take the user's configuration
	Globals   Globals
	Named     bool     // the command line says where the daemon is
	Words     []string // the command's own flags as they were given, in their order
	Config    config
	configErr error       // why the config file couldn't be read
	Screen    view.Screen // what stdout is; prepare finds it out
	errJSON   bool        // errors are JSON too; known before the flags are parsed, since parsing may fail
}

// Globals are the flags that every command takes. Each may also come from the environment, or from
// the user's config file; the command line wins, then the environment. Those that say where the daemon is
// are settled together, by findDaemon.
type Globals struct {
	Socket  string `name:"socket" env:"JOBSERVER_SOCKET" placeholder:"PATH" predictor:"file" help:"The daemon's Unix socket."`
	Address string `name:"address" env:"JOBSERVER_ADDRESS" placeholder:"PATH" predictor:"file" hidden:"" help:"The same as --socket."`
	Host    string `name:"host" env:"JOBSERVER_HOST" placeholder:"[USER@]HOST" help:"Reach the daemon on another machine, through SSH."`
	Output  string `name:"output" short:"o" env:"JOBSERVER_OUTPUT" suggest:"table,wide,json,jsonl,csv,id" default:"table" placeholder:"FORMAT" help:"How to print: table, wide, json, jsonl, csv or id."`
	Quiet   bool   `name:"quiet" short:"q" env:"JOBSERVER_QUIET" help:"Print only ids."`
	Color   string `name:"color" env:"JOBSERVER_COLOR" enum:"auto,always,never" default:"auto" placeholder:"WHEN" help:"Colours: auto, always or never."`
	Help    bool   `name:"help" short:"h" help:"Explain the command."`
}

// Daemon is what commands need of the connection: api.Client is one, and tests bring their own.
type Daemon interface {
	Call(ctx context.Context, method string, args, reply any) error
	Close() error
}

// Call asks the daemon for one thing on a connection of its own, which is what nearly every command does.
func Call[Reply any](ctx context.Context, e *Env, method string, args any) (*Reply, error) {
	d, err := e.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return Ask[Reply](ctx, d, method, args)
}

// Ask asks on a connection that is there. The reply is a new
// one each time: gob leaves a field alone that isn't sent.
func Ask[Reply any](ctx context.Context, d Daemon, method string, args any) (*Reply, error) {
	reply := new(Reply)
	if err := d.Call(ctx, method, args, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

// findDaemon settles where the daemon is. The command line says it, else the environment, else the config file, and
// whichever does says all of it: a socket of the environment is none of the host that the command line names, and
// the socket that this names is on this host, whatever host the file has.
func (e *Env) findDaemon(words []string) {
	g := &e.Globals
	g.Socket, g.Address, g.Host = "", "", ""
	said := false
	for i, word := range words {
		if word == "--" {
			break
		}
		name, value, ok := strings.Cut(word, "=")
		if !ok && i+1 < len(words) {
			value = words[i+1]
		}
		switch name {
		case "--socket":
			g.Socket, said = value, true
		case "--address":
			g.Address, said = value, true
		case "--host":
			g.Host, said = value, true
		}
	}
	if e.Named = said; !said {
		g.Socket, g.Address, g.Host = e.Getenv("JOBSERVER_SOCKET"), e.Getenv("JOBSERVER_ADDRESS"), e.Getenv("JOBSERVER_HOST")
		said = FirstNonEmpty(g.Socket, g.Address, g.Host) != ""
	}
	if !said {
		g.Socket, g.Host = e.Config.Socket, e.Config.Host
	}
}

// Connect reaches the daemon that the global flags name.
func (e *Env) Connect(ctx context.Context) (Daemon, error) {
	if e.configErr != nil {
		return nil, e.configErr
	}
	if e.Dial != nil {
		return e.Dial(ctx)
	}
	if e.Globals.Host != "" {
		return e.connectHost(ctx)
	}
	path, err := e.socketPath()
	if err != nil {
		return nil, err
	}
	client, err := api.Dial(ctx, path, e.dialOptions())
	if err != nil {
		return nil, err
	}
	return client, nil
}

func (e *Env) dialOptions() api.ClientOptions {
	return api.ClientOptions{Client: "cli", Version: version.String()}
}

// connectHost reaches a daemon on another machine: its Unix socket, through SSH.
func (e *Env) connectHost(ctx context.Context) (Daemon, error) {
	path, err := e.namedSocket()
	if err != nil {
		return nil, err
	}
	machine, err := e.dialHost(ctx)
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "connect to %s: %v", e.Globals.Host, err).WithHint("%s", api.HintOf(err))
	}
	if path == "" {
		path, err = remoteSocket(ctx, machine)
	}
	var conn net.Conn
	if err == nil {
		conn, err = machine.DialUnix(ctx, path)
	}
	if err != nil {
		machine.Close()
		return nil, api.Errorf(api.Unavailable, "reach the daemon on %s: %v", e.Globals.Host, err).
			WithHint("is it running there? `ssh %s jobserver ping` tells", e.Globals.Host)
	}
	client, err := api.NewClient(ctx, conn, e.dialOptions())
	if err != nil {
		machine.Close()
		return nil, err
	}
	return remoteDaemon{client, machine}, nil
}

// remoteDaemon also owns the SSH connection below it.
type remoteDaemon struct {
	Daemon
	machine ssh.Conn
}

// Close ends both.
func (r remoteDaemon) Close() error {
	err := r.Daemon.Close()
	if closeErr := r.machine.Close(); err == nil {
		err = closeErr
	}
	return err
}

// remoteSocket asks the machine's login shell where the default socket is: its home is not ours.
func remoteSocket(ctx context.Context, machine ssh.Conn) (string, error) {
	stream, err := machine.Exec(ctx, `sh -c 'echo "JOBSERVER ${JOBSERVER_SOCKET:-${XDG_STATE_HOME:-$HOME/.local/state}/jobserver/socket}"'`)
	if err != nil {
		return "", fmt.Errorf("ask for its state directory: %w", err)
	}
	defer stream.Close()
	out, err := io.ReadAll(io.LimitReader(stream, 64<<10))
	if err != nil {
		return "", fmt.Errorf("ask for its state directory: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "JOBSERVER "); ok {
			return path, nil
		}
	}
	return "", fmt.Errorf("ask for its state directory: no answer (stderr: %s)", strings.TrimSpace(stream.Stderr()))
}

// dialHost connects by itself, or with the system's ssh where the
// configuration asks for what only that can do, as ProxyCommand.
func (e *Env) dialHost(ctx context.Context) (ssh.Conn, error) {
	machine, err := ssh.NewDialer(e.Ssh).Dial(ctx, e.Globals.Host)
	var config *ssh.ConfigError
	if errors.As(err, &config) && config.OpenSSH {
		options := e.Ssh
		options.OpenSSH = true
		return ssh.NewDialer(options).Dial(ctx, e.Globals.Host)
	}
	return machine, err
}

// namedSocket is the socket that the flags name, if they do. The original had an address in its
// place, which is refused by name.
func (e *Env) namedSocket() (string, error) {
	path, address := e.Globals.Socket, e.Globals.Address
	if path != "" || address == "" {
		return path, nil
	}
	_, _, err := net.SplitHostPort(address)
	if isPort := strings.Trim(address, "0123456789") == ""; isPort || err == nil && !strings.Contains(address, "/") {
		return "", api.Errorf(api.Usage, "the daemon has no TCP address like %s: it listens on a Unix socket", address).
			WithHint("--socket PATH names the socket; --host %s reaches a daemon there through SSH", hostOf(address))
	}
	return address, nil
}

// socketPath is the daemon's socket on this host.
func (e *Env) socketPath() (string, error) {
	path, err := e.namedSocket()
	if err != nil || path != "" {
		return path, err
	}
	dir, err := e.StateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "socket"), nil
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return FirstNonEmpty(host, "HOST")
}

// StateDir is the default state directory, where the daemon keeps its socket.
func (e *Env) StateDir() (string, error) {
	if base := e.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "jobserver"), nil
	}
	home := e.Getenv("HOME")
	if home == "" {
		return "", api.Errorf(api.Usage, "find the daemon's socket: neither HOME nor XDG_STATE_HOME is set").
			WithHint("name it with --socket PATH")
	}
	return filepath.Join(home, ".local", "state", "jobserver"), nil
}

// WorkDir is where the user is: relative paths of a job's results start there, on the daemon's host.
func (e *Env) WorkDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	return dir, nil
}

// peekOutput looks for -o json before anything is parsed, so that even a usage error is JSON.
func (e *Env) peekOutput(args []string) {
	format := e.Getenv("JOBSERVER_OUTPUT")
	for i, word := range args {
		if word == "--" {
			break
		}
		name, value, ok := strings.Cut(word, "=")
		switch {
		case name == "-o" || name == "--output":
			if !ok && i+1 < len(args) {
				value = args[i+1]
			}
			format = value
		case strings.HasPrefix(word, "-o"):
			format = word[len("-o"):]
		}
	}
	e.errJSON = format == string(view.JSON) || format == string(view.JSONL)
}

// ReportError tells the user what went wrong, why, and what to do next.
func (e *Env) ReportError(err error) {
	told := api.AsError(err)
	told = told.WithHint("%s", e.Called(told.Hint))
	if e.errJSON {
		if line, err := json.Marshal(told); err == nil {
			fmt.Fprintf(e.Stderr, "%s\n", line)
			return
		}
	}
	fmt.Fprintf(e.Stderr, "%s: error: %s\n", e.Name, told.Message)
	if told.Hint != "" {
		fmt.Fprintf(e.Stderr, "%s: hint: %s\n", e.Name, told.Hint)
	}
}

// Called puts the name that the program was called by in the place of its own, in commands that the daemon's texts name.
func (e *Env) Called(text string) string {
	return strings.ReplaceAll(text, "`jobserver ", "`"+e.Name+" ")
}

func FirstNonEmpty(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// WaitPoll is how long one call waits at the daemon for news; then it is made again, so that a
// connection that died silently doesn't hold a command for ever.
const WaitPoll = 30 * time.Second

// Remote tells whether the daemon is on another machine: its paths are of no use here.
func (e *Env) Remote() bool { return e.Globals.Host != "" }
