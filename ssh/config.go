package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A config is what the ssh configuration says about one address, with
// defaults filled in and paths expanded. It is not changed once it is made.
type config struct {
	addr Addr // as the caller, or ProxyJump, named it

	hostName       string
	user           string
	port           int
	family         string // "tcp", "tcp4" or "tcp6"
	bindAddress    string
	timeout        time.Duration // ConnectTimeout; 0 if unset
	proxyJump      []string      // first hop first
	proxyCommand   string
	hostKeyAlias   string
	userHosts      []string // known_hosts files
	globalHosts    []string
	hashHosts      bool
	revokedKeys    string // RevokedHostKeys; empty for none
	checkIP        bool   // the key must not be another one than that of the IP address
	strict         string // StrictHostKeyChecking, where it is less than ask
	minRSA         int    // RequiredRSASize, in bits
	identities     []string
	certificates   []string
	onlyIdentities bool
	agentSocket    string   // empty for none
	env            []string // SetEnv: NAME=VALUE
	sendEnv        []string // SendEnv: patterns of names
	beyond         string   // what this transport refuses of the configuration; empty for nothing

	// Algorithms in the user's order; nil where the configuration leaves
	// OpenSSH's defaults in force.
	ciphers, kexs, macs, hostKeyAlgos []string
	// Likewise, of our keys, and of the signatures of authorities.
	keyAlgos, caAlgos []string
}

// hostPort is where to connect to.
func (c *config) hostPort() string { return net.JoinHostPort(c.hostName, strconv.Itoa(c.port)) }

// hostKeyName is the name under which known_hosts files have the machine.
// As in OpenSSH, an alias stands for itself, whatever the port.
func (c *config) hostKeyName() string {
	if c.hostKeyAlias != "" {
		return c.hostKeyAlias
	}
	return knownName(strings.ToLower(c.hostName), c.port)
}

// plainName is the name without the port, under which OpenSSH also looks for keys of a machine on
// an unusual port; "" if there is no other name. It is also what a certificate of the machine is
// for.
func (c *config) plainName() string {
	if c.hostKeyAlias != "" || c.port == defaultPort {
		return ""
	}
	return strings.ToLower(c.hostName)
}

// principal is the name that a host certificate must be for.
func (c *config) principal() string {
	if c.hostKeyAlias != "" {
		return c.hostKeyAlias
	}
	return strings.ToLower(c.hostName)
}

// defaultPort is sshd's.
const defaultPort = 22

// knownName is how known_hosts files write a host and its port.
func knownName(host string, port int) string {
	if port == defaultPort {
		return host
	}
	return fmt.Sprintf("[%s]:%d", host, port)
}

// configTTL is how long a resolved configuration is used again where more than
// the configuration's files decides about it, such as Match exec; otherwise it
// is, as long as they stay the same. `ssh -G` costs 10 ms, and a network cut
// makes all machines ask for it at once.
const configTTL = 30 * time.Second

type cachedConfig struct {
	cfg   *config
	stamp string    // of the files
	until time.Time // zero if only the stamp counts
	began Stamp     // of the files that it names, when it was resolved
}

func (c cachedConfig) holds(stamp string, now time.Time) bool {
	return c.stamp == stamp && (c.until.IsZero() || now.Before(c.until))
}

// resolve gives the configuration of addr. Its errors are *ConfigError, and *DialError when this
// host could not run ssh at the moment.
func (d *Dialer) resolve(ctx context.Context, addr Addr) (*config, error) {
	key, now := addr.String(), time.Now()
	stamp, lasting := d.configState()
	d.mu.Lock()
	c, ok := d.configs[key]
	d.mu.Unlock()
	if ok && c.holds(stamp, now) {
		return c.cfg, nil
	}
	cfg, err := d.resolveNow(ctx, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, c := range d.configs {
		if !c.holds(stamp, now) {
			delete(d.configs, k)
		}
	}
	c = cachedConfig{cfg: cfg, stamp: stamp, began: stampOf(cfg.files()...)}
	// Without OpenSSH's client, the answer is the best only until there is one.
	if _, err := exec.LookPath(d.opts.SSHProgram); err != nil || !lasting {
		c.until = now.Add(configTTL)
	}
	d.configs[key] = c
	return cfg, nil
}

// fileStamp is a string that changes when one of the files does, or another
// file takes its place: some tools give all they write the same time.
func fileStamp(files ...string) string {
	var b strings.Builder
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "%s %d %d %o", f, st.Size(), st.ModTime().UnixNano(), st.Mode())
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintf(&b, " %d", sys.Ino)
		}
		b.WriteByte(';')
	}
	return b.String()
}

func (d *Dialer) resolveNow(ctx context.Context, addr Addr) (*config, error) {
	program, err := exec.LookPath(d.opts.SSHProgram)
	var cfg *config
	if err != nil {
		d.opts.Logger.Warn("no OpenSSH client to ask for the configuration: reading it without "+
			"Match and tokens in full",
			"machine", addr.String(), "program", d.opts.SSHProgram)
		cfg, err = d.parseConfigFiles(addr)
	} else {
		cfg, err = d.askSSH(ctx, program, addr)
	}
	if err != nil {
		return nil, d.configError(ctx, addr, err)
	}
	if d.opts.KnownHosts != "" {
		cfg.userHosts = []string{d.opts.KnownHosts}
	}
	return cfg, nil
}

// configError is the error of asking for a configuration.
func (d *Dialer) configError(ctx context.Context, addr Addr, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: read the ssh configuration: %w", addr, context.Cause(ctx))
	}
	var notRun *notRunError
	if errors.As(err, &notRun) {
		return &DialError{Addr: addr.String(), Op: "read the ssh configuration", Err: err}
	}
	return &ConfigError{Addr: addr.String(), Err: err}
}

// askSSH has OpenSSH's client resolve addr.
func (d *Dialer) askSSH(ctx context.Context, program string, addr Addr) (*config, error) {
	defaults, err := d.sshDefaults(ctx, program)
	if err != nil {
		return nil, err
	}
	out, err := runG(ctx, program, append(d.askArgs(addr, defaults.unknown), "--", addr.Host)...)
	if err != nil {
		return nil, err
	}
	written := d.writtenLists()
	return newConfig(addr, parseG(out), defaults.settings,
		func(key, printed string, x expander) []string {
			return splitPrinted(printed, written[key], x)
		})
}

// askArgs are the options of `ssh -G`. What wants a command of every call is switched off: there is
// none here.
func (d *Dialer) askArgs(addr Addr, unknown []string) []string {
	args := d.sshArgs(addr)
	for _, o := range switchedOff(func(name string) bool {
		return (name == "SessionType" || name == "ForkAfterAuthentication") &&
			!slices.Contains(unknown, strings.ToLower(name))
	}) {
		args = append(args, "-o", o)
	}
	return args
}

// sshArgs are the options of ssh that stand for addr and the Options.
func (d *Dialer) sshArgs(addr Addr) []string {
	var args []string
	if d.opts.ConfigFile != "" {
		args = append(args, "-F", d.opts.ConfigFile)
	}
	if d.opts.Identity != "" {
		args = append(args, "-i", d.opts.Identity)
	}
	if addr.User != "" {
		args = append(args, "-l", addr.User)
	}
	if addr.Port != 0 {
		args = append(args, "-p", strconv.Itoa(addr.Port))
	}
	return args
}

// An sshDefaults is what this OpenSSH is without any configuration.
type sshDefaults struct {
	// settings tell a list of algorithms that somebody chose from the default, which is not the
	// best for us.
	settings settings
	// of the options that we switch off, in lower case: it is older, or newer, than they are
	unknown []string
}

// sshDefaults asks for them, once.
func (d *Dialer) sshDefaults(ctx context.Context, program string) (*sshDefaults, error) {
	d.mu.Lock()
	defaults := d.defaults
	d.mu.Unlock()
	if defaults != nil {
		return defaults, nil
	}
	out, err := runG(ctx, program, "-F", "none", "--", "localhost")
	if err != nil {
		return nil, err
	}
	defaults = &sshDefaults{settings: parseG(out)}
	if defaults.unknown, err = unknownOptions(ctx, program); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.defaults = defaults
	d.mu.Unlock()
	return defaults, nil
}

// badOption is how ssh names an option that it doesn't know.
var badOption = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`Bad configuration option: (\S+)`)
})

// unknownOptions finds those of the options that we switch off that an ssh doesn't know: it names
// one at a time.
func unknownOptions(ctx context.Context, program string) ([]string, error) {
	var unknown []string
	for {
		args := []string{"-F", "none"}
		for _, o := range switchedOff(func(name string) bool {
			return !slices.Contains(unknown,
				strings.ToLower(name))
		}) {
			args = append(args, "-o", o)
		}
		_, err := runG(ctx, program, append(args, "--", "localhost")...)
		if err == nil {
			return unknown, nil
		}
		bad := badOption().FindStringSubmatch(err.Error())
		if bad == nil || slices.Contains(unknown, strings.ToLower(bad[1])) {
			return nil, err
		}
		unknown = append(unknown, strings.ToLower(bad[1]))
	}
}

// notRunError says that ssh could not be run to its end, which says nothing of
// the configuration: this host is short of processes, memory or time.
type notRunError struct{ err error }

func (e *notRunError) Error() string { return e.err.Error() }
func (e *notRunError) Unwrap() error { return e.err }

// outputDelay is how long what ssh printed may take to arrive after its end.
// Only what a Match exec leaves behind keeps it from arriving at all; a host
// under load takes its time.
const outputDelay = 10 * time.Second

// configTime is how long ssh may take for a configuration: a Match exec in it may hang.
const configTime = time.Minute

func runG(ctx context.Context, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, configTime,
		fmt.Errorf("%s -G gave no answer within %v", program, configTime))
	defer cancel()
	// -T: no complaint about the missing terminal.
	cmd := exec.CommandContext(ctx, program, append([]string{"-T", "-G"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = outputDelay
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, &notRunError{context.Cause(ctx)}
		}
		if msg := stderrText(stderr.String()); msg != "" {
			return nil, errors.New(strings.ReplaceAll(msg, "\n", "; "))
		}
		err = fmt.Errorf("run %s -G: %w", program, err)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !exit.Exited() {
			err = &notRunError{err}
		}
		return nil, err
	}
	return out, nil
}

// settings are keywords in lower case with their values in order, as `ssh -G`
// prints them.
type settings map[string][]string

func (s settings) first(key string) string {
	if v := s[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func parseG(out []byte) settings {
	s := settings{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " "); ok {
			key = strings.ToLower(key)
			s[key] = append(s[key], value)
		}
	}
	return s
}

// newConfig makes a config of what ssh -G printed for addr. split takes the list of file names
// apart that is the value of key.
func newConfig(
	addr Addr, s, defaults settings, split func(key, value string, x expander) []string,
) (*config, error) {
	c := &config{
		addr:           addr,
		hostName:       s.first("hostname"),
		user:           s.first("user"),
		bindAddress:    s.first("bindaddress"),
		hostKeyAlias:   s.first("hostkeyalias"),
		proxyCommand:   unlessNone(s.first("proxycommand")),
		hashHosts:      s.first("hashknownhosts") == "yes",
		onlyIdentities: s.first("identitiesonly") == "yes",
		checkIP:        s.first("checkhostip") == "yes",
		env:            s["setenv"],
		sendEnv:        s["sendenv"],
		beyond:         beyond(s),
	}
	switch v := s.first("stricthostkeychecking"); v {
	case "accept-new":
		c.strict = v
	case "no", "off", "false": // as ssh -G prints it
		c.strict = "no"
	}
	var err error
	if c.port, err = strconv.Atoi(s.first("port")); err != nil {
		return nil, fmt.Errorf("port %q: %w", s.first("port"), err)
	}
	switch s.first("addressfamily") {
	case "inet":
		c.family = "tcp4"
	case "inet6":
		c.family = "tcp6"
	default:
		c.family = "tcp"
	}
	if n, err := strconv.Atoi(s.first("connecttimeout")); err == nil && n > 0 {
		c.timeout = time.Duration(n) * time.Second
	}
	x := newExpander(c)
	if jumps := unlessNone(s.first("proxyjump")); jumps != "" {
		c.proxyJump = strings.Split(x.only("%hnpr").expand(jumps), ",")
	}
	c.userHosts = x.paths(split("userknownhostsfile", s.first("userknownhostsfile"), x))
	c.globalHosts = x.paths(split("globalknownhostsfile", s.first("globalknownhostsfile"), x))
	c.revokedKeys = strings.Join(x.paths(s["revokedhostkeys"]), "")
	c.minRSA, _ = strconv.Atoi(s.first("requiredrsasize")) // 0 where it isn't printed
	c.identities = x.paths(s["identityfile"])
	c.certificates = x.paths(s["certificatefile"])
	c.agentSocket = x.agent(s.first("identityagent"))

	chosen := func(key string) []string {
		v := s.first(key)
		if v == "" || v == defaults.first(key) {
			return nil
		}
		return strings.Split(v, ",")
	}
	c.ciphers, c.kexs = chosen("ciphers"), chosen("kexalgorithms")
	c.macs, c.hostKeyAlgos = chosen("macs"), chosen("hostkeyalgorithms")
	c.keyAlgos, c.caAlgos = chosen("pubkeyacceptedalgorithms"), chosen("casignaturealgorithms")
	return c, nil
}

// beyond names what of the configuration only the system's ssh can do, so that to leave it out
// would reach another machine, or trust or log in where the configuration doesn't want it.
func beyond(s settings) string {
	for _, key := range []string{"ProxyCommand", "KnownHostsCommand", "BindInterface"} {
		if v := unlessNone(s.first(strings.ToLower(key))); v != "" {
			return fmt.Sprintf("%s %q is not supported by this transport", key, v)
		}
	}
	if v := s.first("pubkeyauthentication"); v == "no" || v == "false" {
		return "PubkeyAuthentication is no, and this transport logs in with keys alone"
	}
	if v := s.first("preferredauthentications"); v != "" &&
		!slices.Contains(strings.Split(v, ","), "publickey") {
		return fmt.Sprintf("PreferredAuthentications %s leaves out publickey, and this transport "+
			"logs in with keys alone", v)
	}
	return ""
}

func unlessNone(s string) string {
	if strings.EqualFold(s, "none") {
		return ""
	}
	return s
}

// maxHops bounds a chain of jump hosts.
const maxHops = 8

// route gives the configurations of all hops to addr, the machine's own last.
// It has its place among maxLookUps for all of them: were they to queue one by
// one, a jump host would be looked up after all machines behind it.
func (d *Dialer) route(ctx context.Context, addr Addr) ([]*config, error) {
	done, err := d.beginLookUp(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer done()
	hops, err := d.hops(ctx, addr, nil, 0)
	if err != nil {
		return nil, err
	}
	for i, h := range hops {
		if slices.ContainsFunc(hops[:i],
			func(o *config) bool { return o.hostPort() == h.hostPort() && o.user == h.user }) {
			return nil, &ConfigError{Addr: addr.String(),
				Err: fmt.Errorf("ProxyJump leads in a circle over %s", h.addr)}
		}
	}
	return hops, nil
}

// hops resolves addr and what lies before it. As in OpenSSH, the hops of
// ProxyJump don't look at their own ProxyJump, except the first.
func (d *Dialer) hops(
	ctx context.Context, addr Addr, jumps []string, depth int,
) ([]*config, error) {
	if depth > maxHops {
		return nil, &ConfigError{Addr: addr.String(), Err: errTooManyHops}
	}
	c, err := d.resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	if c.beyond != "" && (len(jumps) == 0 || c.proxyCommand == "") {
		return nil, &ConfigError{Addr: addr.String(), OpenSSH: true, Err: errors.New(c.beyond)}
	}
	if len(jumps) == 0 {
		jumps = c.proxyJump
	}
	if len(jumps) == 0 {
		return []*config{c}, nil
	}
	last := jumps[len(jumps)-1]
	hop, err := parseJump(last)
	if err != nil {
		return nil, &ConfigError{Addr: addr.String(), Err: err}
	}
	before, err := d.hops(ctx, hop, jumps[:len(jumps)-1], depth+1)
	if err != nil {
		return nil, err
	}
	return append(before, c), nil
}
