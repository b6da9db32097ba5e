package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/ssh"
	"jobserver/userfile"
	"jobserver/version"
)

// findDaemon settles where the daemon is. The command line says it, else the environment, else the
// config file, and whichever does says all of it: a socket of the environment is none of the host
// that the command line names, and the socket that this names is on this host, whatever host the
// file has.
func (e *Env) findDaemon(line *Line) {
	g := &e.Globals
	g.Socket, _ = line.value("socket")
	g.Address, _ = line.value("address")
	g.Host, _ = line.value("host")
	said := line.Has("socket") || line.Has("address") || line.Has("host")
	if e.Named = said; !said {
		g.Socket, g.Address = e.Getenv("JOBSERVER_SOCKET"), e.Getenv("JOBSERVER_ADDRESS")
		g.Host = e.Getenv("JOBSERVER_HOST")
		said = cmp.Or(g.Socket, g.Address, g.Host) != ""
	}
	if !said {
		g.Socket, g.Host = e.Config.Socket, e.Config.Host
	}
	if !e.Remote() {
		home := e.Getenv("HOME")
		g.Socket, g.Address = userfile.Home(home, g.Socket), userfile.Home(home, g.Address)
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
		return nil, api.Errorf(api.Unavailable, "connect to %s: %v", e.Globals.Host, err).
			WithHint("%s", loginHint(err))
	}
	conn, err := e.dialDaemon(ctx, machine, path)
	if err != nil {
		machine.Close()
		if told := (*api.Error)(nil); errors.As(err, &told) {
			return nil, err
		}
		return nil, api.Errorf(api.Unavailable, "reach the daemon on %s: %v", e.Globals.Host, err).
			WithHint("is it running there? `ssh %s jobserver ping` tells", e.Globals.Host)
	}
	options := e.dialOptions()
	options.HelloTimeout = e.HostAnswers
	client, err := api.NewClient(ctx, conn, options)
	if err != nil {
		machine.Close()
		return nil, err
	}
	return remoteDaemon{client, machine, e.Globals.Host}, nil
}

// hostAnswers is how long a host may take to say where its socket is, and to connect to it.
const hostAnswers = 30 * time.Second

// dialDaemon connects to the daemon's socket on a machine: at the path, or where it says.
func (e *Env) dialDaemon(ctx context.Context, machine ssh.Conn, path string) (net.Conn, error) {
	limit := cmp.Or(e.HostAnswers, hostAnswers)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	// Reading what a command prints heeds no context.
	stop := context.AfterFunc(ctx, func() { _ = machine.Close() })
	defer stop()
	var conn net.Conn
	path, err := e.hostSocket(ctx, machine, path)
	if err == nil {
		conn, err = machine.DialUnix(ctx, path)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return conn, err
}

// loginHint is what helps somebody at this computer: the daemon, which could record a key, isn't
// reached yet.
func loginHint(err error) string {
	var hand interface{ ByHand() string }
	if errors.As(err, &hand) {
		return hand.ByHand()
	}
	return api.HintOf(err)
}

// remoteDaemon also owns the SSH connection below it.
type remoteDaemon struct {
	Daemon
	machine ssh.Conn
	host    string
}

// Call also says on which host a path is that an error names.
func (r remoteDaemon) Call(ctx context.Context, method string, args, reply any) error {
	err := r.Daemon.Call(ctx, method, args, reply)
	var told *api.Error
	if errors.As(err, &told) && strings.Contains(told.Message, "/") &&
		!strings.Contains(told.Message, r.host) {
		told.Message += " (on " + r.host + ")"
	}
	return err
}

// Close ends both.
func (r remoteDaemon) Close() error {
	err := r.Daemon.Close()
	if closeErr := r.machine.Close(); err == nil {
		err = closeErr
	}
	return err
}

// dialHost connects by itself, or with the system's ssh where the
// configuration asks for what only that can do, as ProxyCommand.
func (e *Env) dialHost(ctx context.Context) (ssh.Conn, error) {
	machine, err := ssh.NewDialer(e.SSH).Dial(ctx, e.Globals.Host)
	var config *ssh.ConfigError
	if errors.As(err, &config) && config.OpenSSH {
		options := e.SSH
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
	if isPort := strings.Trim(address, "0123456789") == ""; isPort || err == nil &&
		!strings.Contains(address, "/") {
		return "", api.Errorf(api.Usage,
			"the daemon has no TCP address like %s: it listens on a Unix socket", address).
			WithHint("--socket PATH names the socket; --host %s reaches a daemon there through SSH",
				hostOf(address))
	}
	return address, nil
}

// ConfigErr is why the configuration file can't be used; nil when it can, or there is none.
func (e *Env) ConfigErr() error { return e.configErr }

// SocketPath is the daemon's socket on this host, as far as that can be told.
func (e *Env) SocketPath() string {
	path, _ := e.socketPath() // who connects is told why it can't be
	return path
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
	return cmp.Or(host, "HOST")
}

// StateDir is the default state directory, where the daemon keeps its socket.
func (e *Env) StateDir() (string, error) {
	if base := e.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "jobserver"), nil
	}
	home := e.Getenv("HOME")
	if home == "" {
		return "", api.Errorf(api.Usage,
			"find the daemon's socket: neither HOME nor XDG_STATE_HOME is set").
			WithHint("name it with --socket PATH")
	}
	return filepath.Join(home, ".local", "state", "jobserver"), nil
}

// HostPath is a path that the daemon is to take, as it was given. Where the daemon is on another
// host, a relative one can't begin in the directory where the user is: it begins in the home
// directory there, and that is said.
func (e *Env) HostPath(path string) string {
	if !e.Remote() || path == "" || filepath.IsAbs(path) || path == "~" ||
		strings.HasPrefix(path, "~/") {
		return path
	}
	path = "~/" + path
	e.Note("the results will be in %s on %s: a relative path begins in the home directory there; "+
		"`%s pull` fetches them",
		path, e.Globals.Host, e.Name)
	return path
}

// InputPath is a path of the daemon's host as it is to be asked for: likewise, but that one which
// begins with a variable may be absolute.
func (e *Env) InputPath(path string) string {
	if !e.Remote() || path == "" || filepath.IsAbs(path) || strings.HasPrefix(path, "{") ||
		path == "~" || strings.HasPrefix(path, "~/") {
		return path
	}
	path = "~/" + path
	e.Note("the input %s is looked for on %s: a relative path begins in the home directory there",
		path, e.Globals.Host)
	return path
}

// Remote tells whether the daemon is on another machine: its paths are of no use here.
func (e *Env) Remote() bool { return e.Globals.Host != "" }
