package cli

import (
	"strings"
	"testing"
)

// TestWhoseSocket: a socket that another user of a host has made, or may put in the place of the
// user's own, is told by what ls shows there.
func TestWhoseSocket(t *testing.T) {
	const mine, home = "SOCKET srw------- 1 1000 1000 0 Dec 1 00:00 /h/s",
		"DIR drwx------ 3 1000 1000 4096 Dec 1 00:00 /h/"
	const root = "DIR drwxr-xr-x 20 0 0 4096 Dec 1 00:00 /"
	for name, tt := range map[string]struct {
		said []string
		why  string // part of it; "" if it is taken
	}{
		"one's own": {[]string{mine, home, root}, ""},
		"root's":    {[]string{"SOCKET srw-rw-rw- 1 0 0 0 /run/s", root, root}, ""},
		"another's": {[]string{"SOCKET srwxrwxrwx 1 1001 1000 0 /h/s", home}, "user 1001's"},
		"another's, in a sticky directory": {[]string{"SOCKET srw------- 1 1001 100 0 /tmp/s",
			"DIR drwxrwxrwt 9 0 0 4096 /tmp/"}, "user 1001's"},
		"one's own in a sticky directory": {[]string{mine, "DIR drwxrwxrwt. 9 0 0 4096 /tmp/"}, ""},
		"in a directory that all may write": {
			[]string{mine, "DIR drwxrwxrwx 9 0 0 4096 /d/", root},
			"everybody"},
		"below one": {[]string{mine, home, "DIR drwxrwxrwx 9 0 0 4096 /d/", root}, "everybody"},
		"in another's directory": {[]string{mine, "DIR drwxr-xr-x 9 1001 0 4096 /d/"},
			"directory is user 1001's"},
		"in another's sticky directory": {[]string{mine, "DIR drwxrwxrwt 9 1001 0 4096 /d/"},
			"directory is user 1001's"},
		"in a group's directory": {
			[]string{mine, "DIR drwxrwsr-x 9 1000 50 4096 /d/"}, "group"},
		"in that of the user's own group": {
			[]string{mine, "DIR drwxrwxr-x 9 1000 1000 4096 /d/"}, ""},
		"below a group's": {
			[]string{mine, home, "DIR drwxrwxr-x 9 0 50 4096 /d/"}, ""},
		"no socket": {[]string{"SOCKET ", home}, ""},
		"nonsense":  {[]string{"SOCKET a b", "DIR", "DIR x", "noise"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := "motd\nJOBSERVER /h/s\r\nUSER 1000\nOWNGROUP 1000\n" +
				strings.Join(tt.said, "\n")
			s := parseSocket(text)
			if s.path != "/h/s" {
				t.Errorf("the path is %q", s.path)
			}
			why := s.others()
			if tt.why == "" && why != "" || !strings.Contains(why, tt.why) {
				t.Errorf("said: %q, want %q", why, tt.why)
			}
		})
	}
}
