package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"reflect"
	"time"

	"jobserver/ssh"
	"jobserver/userfile"
	"jobserver/view"
)

// Env is what a command may touch of the world outside: the streams, the environment, the clock and
// the daemon. Tests give a command other ones and run it in process.
type Env struct {
	Name   string // that the program was called by: help and errors use it
	Stdin  io.Reader
	Stdout io.Writer // on a terminal, guarded from what comes from outside
	Stderr io.Writer // likewise, always
	Getenv func(string) string
	Now    func() time.Time
	Dial   func(ctx context.Context) (Daemon, error) // nil: as the flags say

	Grammar reflect.Type // of the whole command line: a struct with a field for each command

	SSH         ssh.Options   // for --host; the zero ones take the user's configuration
	HostAnswers time.Duration // how long the host of --host may take to answer; 0 is 30 s
	Globals     Globals
	Named       bool  // the command line says where the daemon is
	Line        *Line // the command's own words
	Config      config
	configErr   error       // why the config file couldn't be read
	Screen      view.Screen // what stdout is; prepare finds it out
	args        []string    // all words, as they were given
	Raw         Streams     // the streams as they were given, for programs that are started
}

// Streams are where a program writes.
type Streams struct{ Stdout, Stderr io.Writer }

// Globals are the flags that every command takes. Each may also come from the environment, or from
// the user's config file; the command line wins, then the environment. Those that say where the
// daemon is are settled together, by findDaemon.
type Globals struct {
	Socket  string `name:"socket" env:"JOBSERVER_SOCKET" placeholder:"PATH" predictor:"file" help:"The daemon's Unix socket."`
	Address string `name:"address" env:"JOBSERVER_ADDRESS" placeholder:"PATH" predictor:"file" hidden:"" help:"The same as --socket."`
	Host    string `name:"host" env:"JOBSERVER_HOST" placeholder:"[USER@]HOST" help:"Talk to the daemon on another host, through SSH."`
	// TrustSocket takes the socket that is named where nobody can tell whose it is.
	TrustSocket bool `name:"trust-socket" env:"JOBSERVER_TRUST_SOCKET" hidden:"" help:"With --host, take the socket that --socket names also where the login there can't say whose it is."`

	Output  string `name:"output" short:"o" env:"JOBSERVER_OUTPUT" suggest:"table,wide,json,jsonl,csv,id" default:"table" placeholder:"FORMAT" help:"Output format: table, wide, json, jsonl, csv or id."`
	Quiet   bool   `name:"quiet" short:"q" env:"JOBSERVER_QUIET" help:"Print only ids."`
	SafeCSV bool   `name:"safe-csv" env:"JOBSERVER_SAFE_CSV" help:"In CSV, put a quote before cells that a spreadsheet would take for formulas."`
	Color   string `name:"color" env:"JOBSERVER_COLOR" enum:"auto,always,never" default:"auto" placeholder:"WHEN" help:"Use colours: auto, always or never."`
	Help    bool   `name:"help" short:"h" help:"Explain the command."`
}

// Daemon has what commands need of the connection: api.Client is one, and tests bring their own.
type Daemon interface {
	Call(ctx context.Context, method string, args, reply any) error
	Close() error
}

// Call asks the daemon for one thing on a connection of its own, which is what nearly every command
// does.
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

// WorkDir is where the user is: relative paths of a job's results start there, on the daemon's
// host.
func (e *Env) WorkDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	return dir, nil
}

// SecretEnv are the values that this environment gives to secrets of a job, by name; "" where it
// gives none: then the daemon's variable of that name does.
func (e *Env) SecretEnv(names []string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	values := make(map[string]string, len(names))
	for _, name := range names {
		values[name] = e.Getenv(name)
	}
	return values
}

// WaitPoll is how long one call waits at the daemon for news; then it is made again, so that a
// connection that died silently doesn't hold a command for ever.
const WaitPoll = 30 * time.Second

// Path is a path that the user has written, relative to dir; "~" is the user's home.
func (e *Env) Path(dir, path string) string { return userfile.Path(dir, e.Getenv("HOME"), path) }
