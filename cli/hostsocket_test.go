package cli

import (
	"strings"
	"testing"
)

// TestWhoseSocket: a socket that another user of a host has made, or may put in the place of the
// user's own, is told by what ls shows there; what doesn't tell isn't taken for the user's own.
func TestWhoseSocket(t *testing.T) {
	const user = "USER 1000"
	const mySocket, home = "SOCKET srw------- 1 1000 1000 0 Dec 1 00:00 /h/s",
		"DIR drwx------ 3 1000 1000 4096 Dec 1 00:00 /h/"
	const root = "DIR drwxr-xr-x 20 0 0 4096 Dec 1 00:00 /"
	for name, tt := range map[string]struct {
		said []string
		want owner
		why  string // part of it
	}{
		"one's own": {[]string{user, mySocket, home, root}, mine, ""},
		"root's": {
			[]string{user, "SOCKET srw-rw-rw- 1 0 0 0 /run/s", root, root}, mine, ""},
		"another's": {[]string{user, "SOCKET srwxrwxrwx 1 1001 1000 0 /h/s", home}, others,
			"user 1001's"},
		"another's, in a sticky directory": {[]string{user, "SOCKET srw------- 1 1001 100 0 /tmp/s",
			"DIR drwxrwxrwt 9 0 0 4096 /tmp/"}, others, "user 1001's"},
		"one's own in a sticky directory": {
			[]string{user, mySocket, "DIR drwxrwxrwt. 9 0 0 4096 /tmp/"}, mine, ""},
		"in a directory that all may write": {
			[]string{user, mySocket, "DIR drwxrwxrwx 9 0 0 4096 /d/", root}, others,
			"everybody"},
		"below one": {[]string{user, mySocket, home, "DIR drwxrwxrwx 9 0 0 4096 /d/", root}, others,
			"everybody"},
		"in another's directory": {[]string{user, mySocket, "DIR drwxr-xr-x 9 1001 0 4096 /d/"},
			others, "directory is user 1001's"},
		"in another's sticky directory": {
			[]string{user, mySocket, "DIR drwxrwxrwt 9 1001 0 4096 /d/"},
			others, "directory is user 1001's"},
		"in a group's directory": {
			[]string{user, mySocket, "DIR drwxrwsr-x 9 1000 50 4096 /d/"}, others, "group"},
		"in that of the user's own group": {
			[]string{user, mySocket, "DIR drwxrwxr-x 9 1000 1000 4096 /d/"}, mine, ""},
		"below a group's": {
			[]string{user, mySocket, home, "DIR drwxrwxr-x 9 0 50 4096 /d/"}, mine, ""},
		"no socket":    {[]string{user, "SOCKET ", home}, nobodys, "there is no /h/s"},
		"no directory": {[]string{user}, nobodys, "there is no /h/s"},
		"a file": {[]string{user, "SOCKET -rw------- 1 1000 0 0 /h/s"}, nobodys,
			"no socket"},
		"a link": {[]string{user, "SOCKET lrwx------ 1 1000 0 0 /h/s"}, nobodys,
			"no socket"},
		"nonsense":       {[]string{user, "SOCKET a b", "DIR", "DIR x", "noise"}, nobodys, ""},
		"no directories": {[]string{user, mySocket}, untold, "its directories"},
		"a directory that isn't shown": {
			[]string{user, mySocket, home, "DIR ", root}, untold, "all of its directories"},
		"no user":    {[]string{mySocket, home, root}, untold, "who it is"},
		"empty user": {[]string{"USER ", mySocket, home, root}, untold, "who it is"},
		"too long without links": {
			[]string{user, "REAL /" + strings.Repeat("x", 200), mySocket, home}, untold,
			"too long"},
	} {
		t.Run(name, func(t *testing.T) {
			text := "motd\nJOBSERVER /h/s\r\nOWNGROUP 1000\n" + strings.Join(tt.said, "\n")
			s := parseSocket(text)
			if s.path != "/h/s" {
				t.Errorf("the path is %q", s.path)
			}
			why, whose := s.judge()
			if whose != tt.want || (why == "") != (whose == mine) ||
				!strings.Contains(why, tt.why) {
				t.Errorf("it is %d: %q, want %d: %q", whose, why, tt.want, tt.why)
			}
		})
	}
}
