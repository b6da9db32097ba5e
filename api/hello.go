package api

// The protocols that this build speaks. A method or a field that is merely added needs no new one:
// an older daemon answers a method that it lacks with Incompatible, and an older side ignores a
// field.
const (
	MinProtocol = 1
	MaxProtocol = 1
)

// helloMethod is the first call on every connection, answered by the serving loop itself.
const helloMethod = Service + ".Hello"

// HelloArgs introduces the client.
type HelloArgs struct {
	MinProtocol int
	MaxProtocol int
	Version     string // of the client, as `jobserver version` prints it
	Client      string // what it is, for the daemon's log: "cli", "completion", …
}

// HelloReply introduces the daemon.
type HelloReply struct {
	Protocol   int // the one that both speak from now on
	Version    string
	ServerID   string // of the state directory: the same after a restart
	PID        int
	StateDir   string
	UID        int
	MaxMessage int // bytes a request may have
}

// chooseProtocol takes the highest protocol that both sides speak. The error says which side is to
// be upgraded.
func chooseProtocol(args HelloArgs, daemonVersion string) (int, error) {
	switch {
	case args.MaxProtocol < MinProtocol:
		return 0, Errorf(Incompatible,
			"this client (%s, protocol %d) is too old for the daemon (%s, protocol %d and up)",
			orUnknown(args.Version), args.MaxProtocol, orUnknown(daemonVersion), MinProtocol).
			WithHint("upgrade the client to the daemon's version")
	case args.MinProtocol > MaxProtocol:
		return 0, Errorf(Incompatible,
			"the daemon (%s, protocol %d) is too old for this client (%s, protocol %d and up)",
			orUnknown(daemonVersion), MaxProtocol, orUnknown(args.Version), args.MinProtocol).
			WithHint("upgrade the daemon and restart it: running jobs go on, and are found again")
	case args.MinProtocol > args.MaxProtocol:
		return 0, Errorf(Invalid, "hello: protocols %d to %d", args.MinProtocol, args.MaxProtocol)
	}
	return min(args.MaxProtocol, MaxProtocol), nil
}

func orUnknown(version string) string {
	if version == "" {
		return "unknown version"
	}
	return version
}
