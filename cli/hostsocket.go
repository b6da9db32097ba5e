package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"jobserver/api"
	"jobserver/ssh"
)

// Whose daemon answers on another host can't be asked of the kernel there through SSH: sshd is what
// connects. So its login is asked who owns the socket, and who may put another one in its place;
// what is connected to is the path without links that it answers for.

// maxSocketPath is how long the path of a socket may be, on any system.
const maxSocketPath = 108

// askSocket prints, each behind its word: the path of the socket, $1 or the default; the user; the
// path without links; how ls -n shows the socket and its directories, from the inside to the root.
// It is one line without single quotes, as it goes through a login shell of any kind.
const askSocket = `p=$1; ` +
	`[ -n "$p" ] || ` +
	`p=${JOBSERVER_SOCKET:-${XDG_STATE_HOME:-$HOME/.local/state}/jobserver/socket}; ` +
	`echo "JOBSERVER $p"; echo "USER $(id -u)"; ` +
	`[ "$(id -un)" != "$(id -gn)" ] || echo "OWNGROUP $(id -g)"; ` +
	`n=0; while [ -h "$p" ] && [ $n -lt 20 ]; do l=$(readlink "$p"); ` +
	`case $l in /*) p=$l ;; *) p=${p%/*}/$l ;; esac; n=$((n + 1)); done; ` +
	`d=$(cd -P "${p%/*}/" && pwd -P) || exit 0; [ "$d" != / ] || d=; ` +
	`echo "REAL $d/${p##*/}"; echo "SOCKET $(ls -ldn "$d/${p##*/}")"; ` +
	`while :; do echo "DIR $(ls -ldn "$d/")"; [ -n "$d" ] || break; d=${d%/*}; done`

// hostSocket is the path of the daemon's socket on a machine, without links: the one that was
// named, or where the login has it, as its home is not ours. The error is api.Denied if another
// user of that machine may be the one who answers there, and if nobody can tell, unless the user
// trusts what was named.
func (e *Env) hostSocket(ctx context.Context, machine ssh.Conn, named string) (string, error) {
	text, err := askMachine(ctx, machine, named)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	said := parseSocket(text.out)
	switch {
	case err == nil && said.path != "":
	case named != "":
		return e.untold(named, named, "the login there doesn't run the command that looks")
	case err != nil:
		return "", fmt.Errorf("ask for its state directory: %w", err)
	default:
		return "", fmt.Errorf("ask for its state directory: no answer that makes sense (stderr: "+
			"%.500s)", text.err)
	}
	switch why, whose := said.judge(); whose {
	case others:
		return "", api.Errorf(api.Denied, "%s on %s: %s: nothing was said to it",
			said.path, e.Globals.Host, why).
			WithHint("name your own daemon's socket with --socket; it belongs in a directory " +
				"that only you may write, as the default is")
	case nobodys:
		return "", errors.New(why)
	case untold:
		return e.untold(named, said.path, why)
	}
	return said.real, nil
}

// untold is for a socket of which nobody can say whose it is: it is used if the user has named it,
// and trusts it.
func (e *Env) untold(named, path, why string) (string, error) {
	if named != "" && e.Globals.TrustSocket {
		return named, nil
	}
	return "", api.Errorf(api.Denied, "can't tell whose daemon %s on %s is: %s: nothing was said "+
		"to it", path, e.Globals.Host, why).
		WithHint("if nobody but you can put a socket there, name it with --socket, and add " +
			"--trust-socket, or set JOBSERVER_TRUST_SOCKET=1")
}

// answer has what a command printed.
type answer struct{ out, err string }

// askMachine asks the machine's login, whatever shell it has.
func askMachine(ctx context.Context, machine ssh.Conn, path string) (answer, error) {
	quoted := "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	stream, err := machine.Exec(ctx, "sh -c '"+askSocket+"' sh "+quoted)
	if err != nil {
		return answer{}, err
	}
	defer stream.Close()
	out, err := io.ReadAll(io.LimitReader(stream, 64<<10))
	if exit := (*ssh.ExitError)(nil); errors.As(err, &exit) {
		err = nil // what it printed says enough
	}
	return answer{string(out), strings.TrimSpace(stream.Stderr())}, err
}

// socketSaid has what a machine has said of a socket.
type socketSaid struct {
	path, real string // as it is called, and without links
	user       string
	group      string   // that has nobody else in it; "" for none
	socket     listed   // zero: there is none
	dirs       []listed // its own first
}

// listed is a line of ls -ldn.
type listed struct{ mode, owner, group string }

func parseSocket(text string) *socketSaid {
	s := &socketSaid{}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		switch word {
		case "JOBSERVER":
			if s.path == "" && filepath.IsAbs(rest) && len(rest) <= maxSocketPath {
				s.path = rest // else nothing that a socket could be called
			}
		case "USER":
			s.user = rest
		case "OWNGROUP":
			s.group = rest
		case "REAL":
			s.real = rest
		case "SOCKET":
			s.socket = parseListed(rest)
		case "DIR":
			s.dirs = append(s.dirs, parseListed(rest))
		}
	}
	return s
}

func parseListed(line string) listed {
	f := strings.Fields(line)
	if len(f) < 4 || len(f[0]) < 10 {
		return listed{}
	}
	return listed{f[0], f[2], f[3]}
}

// owner says who may be the one who answers at a socket.
type owner int

const (
	mine    owner = iota // the user, or root
	others               // another user may
	nobodys              // there is no socket
	untold               // what was said doesn't tell
)

// judge says who may be the one who answers, and if it isn't surely the user, why.
func (s *socketSaid) judge() (why string, whose owner) {
	own := func(l listed) bool { return l.owner == s.user || l.owner == "0" }
	switch {
	case s.user == "":
		return "the login there doesn't say who it is", untold
	case s.socket.mode == "":
		return "there is no " + s.path, nobodys
	case s.socket.mode[0] != 's':
		return s.path + " is no socket", nobodys
	case !own(s.socket):
		return fmt.Sprintf("the socket is user %s's, and you are user %s there", s.socket.owner,
			s.user), others
	case len(s.dirs) == 0:
		return "the login there doesn't show its directories", untold
	case len(s.real) >= maxSocketPath:
		return "its path is too long without the links in it", untold
	}
	for i, d := range s.dirs {
		switch {
		case d.mode == "" || d.mode[0] != 'd':
			return "the login there doesn't show all of its directories", untold
		case strings.ContainsAny(d.mode[9:10], "tT") && (own(d) || i > 0):
			// what is in a sticky directory is its owner's to replace
		case i == 0 && !own(d):
			return fmt.Sprintf("its directory is user %s's, and you are user %s there", d.owner,
				s.user), others
		case d.mode[8] == 'w':
			return "everybody may put another one there, as a directory of its path may be " +
				"written by all", others
		case i == 0 && d.mode[5] == 'w' && d.group != s.group && d.group != "0":
			return "the group that may write its directory may put another one there", others
		}
	}
	return "", mine
}
