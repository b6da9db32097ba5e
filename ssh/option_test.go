package ssh

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"jobserver/ssh/sshtest"
)

var update = flag.Bool("update", false, "write the table of options into docs/machines.md")

// TestOptionTable: docs/machines.md has the table of the options as the code has it.
func TestOptionTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| Option | | `--transport openssh` | |\n|---|---|---|---|\n")
	options := sshOptions()
	slices.SortFunc(options, func(a, b option) int {
		return strings.Compare(strings.ToLower(a.name), strings.ToLower(b.name))
	})
	for _, o := range options {
		switch o.own {
		case honoured, off, refused, noEffect:
		default:
			t.Errorf("%s: what becomes of it?", o.name)
		}
		value := ""
		if o.off != "" {
			value = ", `" + o.off + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s%s | %s |\n", o.name, o.own, o.openSSH(), value, o.note)
	}
	file := filepath.Join("..", "docs", "machines.md")
	text := read(t, file)
	const from, to = "<!-- options: begin -->\n", "<!-- options: end -->\n"
	before, rest, ok := strings.Cut(text, from)
	table, after, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if *update {
		write(t, file, before+from+b.String()+to+after)
		return
	}
	if table != b.String() {
		t.Error("the table of docs/machines.md isn't that of option.go: go test ./ssh -run " +
			"TestOptionTable -update")
	}
}

// TestOptionsAreKnown: the table has each option that the installed ssh knows. It is given each
// word of its own as an option, and names those that are none.
func TestOptionsAreKnown(t *testing.T) {
	sshtest.Require(t)
	program, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, o := range sshOptions() {
		ours[strings.ToLower(o.name)] = true
	}
	for _, name := range obsoleteOptions() {
		ours[strings.ToLower(name)] = true
	}
	for key := range parseG(mustG(t, program)) {
		if !ours[strings.ToLower(key)] {
			t.Errorf("ssh -G prints %s, which the table hasn't", key)
		}
	}
	known := 0
	for _, word := range knownWords(t, program) {
		known++
		if !ours[word] {
			t.Errorf("this ssh has the option %s, which the table hasn't", word)
		}
	}
	if known < 80 {
		t.Errorf("only %d options were found in %s", known, program)
	}
}

func mustG(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	out, err := runG(t.Context(), program, append(args, "-F", "none", "localhost")...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// knownWords gives those words of a program of OpenSSH's that it takes for options.
func knownWords(t *testing.T, program string) []string {
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, w := range regexp.MustCompile(
		`\x00[a-z][a-z0-9]{2,40}\x00`,
	).FindAll(bytes.ReplaceAll(binary, []byte{0}, []byte{0, 0}), -1) {
		word := string(bytes.Trim(w, "\x00"))
		// What begins a block, or reads other files.
		if word != "host" && word != "match" && word != "include" && word != "ignoreunknown" {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	words = slices.Compact(words)
	bad := regexp.MustCompile(`line (\d+)(: Bad configuration option)?`)
	var known []string
	for len(words) > 0 {
		file := filepath.Join(t.TempDir(), "config")
		write(t, file, strings.Join(words, " x\n")+" x\n")
		cmd := exec.Command(program, "-G", "-F", file, "localhost")
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, _ := cmd.CombinedOutput()
		unknown, last := map[int]bool{}, 0
		for _, m := range bad.FindAllSubmatch(out, -1) {
			n, err := strconv.Atoi(string(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			last = max(last, n)
			unknown[n] = unknown[n] || len(m[2]) > 0
		}
		if bytes.Contains(out, []byte("terminating")) { // it came to the end
			last = len(words)
		}
		if last == 0 {
			t.Fatalf("ssh -G: %s", out)
		}
		for i, word := range words[:last] {
			if !unknown[i+1] {
				known = append(known, word)
			}
		}
		words = words[last:]
	}
	return known
}

// TestSwitchedOff: ssh takes our values for what is switched off, whatever the configuration has.
func TestSwitchedOff(t *testing.T) {
	sshtest.Require(t)
	program, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := unknownOptions(t.Context(), program)
	if err != nil {
		t.Fatal(err)
	}
	if len(unknown) > 10 {
		t.Errorf("this ssh doesn't know %q", unknown)
	}
	file := filepath.Join(t.TempDir(), "config")
	write(t, file, strings.Join(sessionChanges(), "\n"))
	d := NewDialer(Options{ConfigFile: file, KnownHosts: `/a "b" c/100%`})
	args := d.opensshArgs(Addr{Host: "gpu1"}, time.Second, unknown)
	out, err := runG(t.Context(), program, append(args, "gpu1")...)
	if err != nil {
		t.Fatal(err)
	}
	got := parseG(out)
	for key, want := range map[string]string{"remotecommand": "", "sessiontype": "default",
		"stdinnull": "no", "forkafterauthentication": "no",
		"forwardagent": "no", "forwardx11": "no", "tunnel": "false", "clearallforwardings": "yes",
		"permitlocalcommand": "no", "requesttty": "false",
		"stricthostkeychecking": "true", "updatehostkeys": "false",
		"userknownhostsfile": `/a "b" c/100%`, "batchmode": "yes"} {
		if v := unlessNone(got.first(key)); v != want {
			t.Errorf("%s %q, want %q", key, v, want)
		}
	}
}

// sessionChanges are lines of a configuration, each of which changes what a session is, or what it
// may do.
func sessionChanges() []string {
	return []string{"RemoteCommand tmux", "SessionType none", "StdinNull yes",
		"ForkAfterAuthentication yes", "ForwardAgent yes",
		"ForwardX11 yes", "ForwardX11Trusted yes", "RequestTTY force", "PermitLocalCommand yes",
		"LocalCommand echo mess; sleep 1000",
		"ControlMaster auto", "ControlPersist 1h", "ControlPath /nonexistent/%C", "EscapeChar x",
		"LogLevel DEBUG3", "VisualHostKey yes",
		"AddKeysToAgent confirm", "UpdateHostKeys yes", "ExitOnForwardFailure yes",
		"GatewayPorts yes", "BatchMode no", "LogVerbose *:*:*",
		"SendEnv *", "Compression yes", "StrictHostKeyChecking no", "ConnectionAttempts 100",
		"StreamLocalBindUnlink yes", "TCPKeepAlive no"}
}

// TestSessionIsOurs: commands and sockets are reached with every configuration of sessions, by both
// transports.
func TestSessionIsOurs(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	lines := append(sessionChanges(), fmt.Sprintf("LocalForward %d localhost:1", port),
		fmt.Sprintf("DynamicForward %d", port),
		fmt.Sprintf("RemoteForward 127.0.0.1:%d localhost:1", port))
	m := sshtest.Start(t, sshtest.ClientConfig(lines...))
	for name, d := range map[string]*Dialer{"own": dialer(m), "openssh": dialer(m, openSSH)} {
		c := mustDial(t, d, m.Name)
		out, err := output(t, c, `echo "<$SSH_AUTH_SOCK$DISPLAY>"; tty; cat`)
		if want := "<>\nnot a tty\n"; out != want || err != nil {
			var exit *ExitError
			if !errors.As(err, &exit) || out != want {
				t.Errorf("%s: got %q, %v; want %q", name, out, err, want)
			}
		}
		testOpenSSHUnix(t, c)
	}
}

// TestEachSessionOption: what wants a command, a terminal or a port shows only when no other option
// hides it.
func TestEachSessionOption(t *testing.T) {
	t.Parallel()
	m := sshtest.Start(t, sshtest.ServerConfig("MaxStartups 100"))
	var few errgroup.Group
	few.SetLimit(fewLogins)
	lines := append(sessionChanges(), "SessionType subsystem",
		"SessionType subsystem\nRemoteCommand sftp", "Tunnel yes\nTunnelDevice any:any")
	for i, line := range lines {
		alias := fmt.Sprintf("x%d", i)
		m.AddHost(alias, m.User, m.Host, m.Port, strings.Split(line, "\n")...)
		for name, d := range map[string]*Dialer{"own": dialer(m), "openssh": dialer(m, openSSH)} {
			few.Go(func() error {
				c, err := d.Dial(t.Context(), alias)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", name, line, err)
				}
				defer c.Close()
				if out, err := output(t, c, "echo in"); out != "in\n" || err != nil {
					return fmt.Errorf("%s: %s: got %q, %w", name, line, out, err)
				}
				return nil
			})
		}
	}
	if err := few.Wait(); err != nil {
		t.Error(err)
	}
}

// fewLogins is how many tests log in side by side: on a busy host many would reach the limits of
// one.
const fewLogins = 4

// TestSetEnv: variables that the configuration sets come through, as far as sshd accepts them, and
// those of this program don't.
func TestSetEnv(t *testing.T) {
	t.Setenv("NOT_SENT", "x")
	m := sshtest.Start(t, sshtest.ServerConfig("AcceptEnv FROM_* NOT_SENT"),
		sshtest.ClientConfig(`SetEnv FROM_CONFIG="a b" REFUSED=1`, "SendEnv NOT_*"))
	for name, d := range map[string]*Dialer{"own": dialer(m), "openssh": dialer(m, openSSH),
		"parser": dialer(m, func(o *Options) { o.SSHProgram = "/nonexistent/ssh" })} {
		out, err := output(t, mustDial(t, d, m.Name), `echo "<$FROM_CONFIG><$REFUSED><$NOT_SENT>"`)
		if out != "<a b><><>\n" || err != nil {
			t.Errorf("%s: got %q, %v", name, out, err)
		}
	}
}

// TestRefusedByName: what only the system's ssh can do is refused, with its name and the way out.
func TestRefusedByName(t *testing.T) {
	for line, want := range map[string]string{
		"ProxyCommand nc %h %p":                    "ProxyCommand",
		"KnownHostsCommand /bin/echo %H":           "KnownHostsCommand",
		"BindInterface lo":                         "BindInterface",
		"PubkeyAuthentication no":                  "PubkeyAuthentication",
		"PreferredAuthentications gssapi-with-mic": "PreferredAuthentications",
		"BindAddress localhost":                    "BindAddress",
	} {
		file := filepath.Join(t.TempDir(), "config")
		write(t, file, line+"\nHostName 127.0.0.1\nPort 1\n")
		e := wantError[*ConfigError](t, NewDialer(Options{ConfigFile: file}), "gpu1", true)
		if !strings.Contains(e.Error(), want) ||
			!strings.Contains(e.Hint(), "--transport openssh") {
			t.Errorf("%s: %v (%s)", line, e, e.Hint())
		}
	}
}

// openSSH says what becomes of it with Options.OpenSSH.
func (o option) openSSH() use {
	if o.off != "" {
		return off
	}
	return honoured
}

// obsoleteOptions are names that OpenSSH still takes, without effect or as another name of an
// option.
func obsoleteOptions() []string {
	return strings.Fields("AFSTokenPassing ChallengeResponseAuthentication Cipher " +
		"CompressionLevel DSAAuthentication " +
		"FallBackToRsh GlobalKnownHostsFile2 HostbasedKeyTypes IdentityFile2 " +
		"KerberosAuthentication KerberosTgtPassing " +
		"KeepAlive Protocol ProtocolKeepAlives PubkeyAcceptedKeyTypes RhostsAuthentication " +
		"RhostsRSAAuthentication " +
		"RSAAuthentication SetupTimeOut SkeyAuthentication SmartcardDevice TISAuthentication " +
		"UseBlacklistedKeys " +
		"UsePrivilegedPort UseRoaming UserKnownHostsFile2 UseRsh")
}
