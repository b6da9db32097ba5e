package fleet

import (
	"os"
	"os/user"
	"path"
	"slices"
	"strings"

	"jobserver/failpoint"
)

// loginPath is PATH of a login without files of its own.
const loginPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// loginEnv is the environment that jobs of local machines begin with: that of a login, as on any
// other machine, rather than the daemon's, which may hold secrets and whatever the shell had from
// which it was started. pass are names of variables of the daemon's that they are given as well, or
// patterns of names.
func loginEnv(daemon, pass []string) []string {
	env := []string{"PATH=" + loginPath}
	if u, err := user.Current(); err == nil {
		env = append(env, "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username, "SHELL="+
			shellOf(u.Uid))
	}
	pass = append(slices.Clone(pass), "HOME", "LANG", "LC_*", "TZ")
	pass = append(pass, failpoint.Variables()...)
	for _, v := range daemon {
		name, _, _ := strings.Cut(v, "=")
		if slices.ContainsFunc(pass,
			func(p string) bool { ok, err := path.Match(p, name); return ok && err == nil }) {
			env = slices.DeleteFunc(env, func(o string) bool {
				return strings.HasPrefix(o, name+"=")
			})
			env = append(env, v)
		}
	}
	return env
}

// shellOf is the login shell of a user, as /etc/passwd has it.
func shellOf(uid string) string {
	b, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return "/bin/sh"
	}
	for line := range strings.Lines(string(b)) {
		field := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(field) == 7 && field[2] == uid && field[6] != "" {
			return field[6]
		}
	}
	return "/bin/sh"
}
