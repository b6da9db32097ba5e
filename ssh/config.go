package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
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
	identities     []string
	certificates   []string
	onlyIdentities bool
	agentSocket    string // empty for none

	// Algorithms in the user's order; nil where the configuration leaves
	// OpenSSH's defaults in force.
	ciphers, kexs, macs, hostKeyAlgos []string
}

// hostPort is where to connect to.
func (c *config) hostPort() string { return net.JoinHostPort(c.hostName, strconv.Itoa(c.port)) }

// hostKeyName is the name under which known_hosts files have the machine.
// As in OpenSSH, an alias stands for itself, whatever the port.
func (c *config) hostKeyName() string {
	if c.hostKeyAlias != "" {
		return net.JoinHostPort(c.hostKeyAlias, "22")
	}
	return net.JoinHostPort(strings.ToLower(c.hostName), strconv.Itoa(c.port))
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
}

func (c cachedConfig) holds(stamp string, now time.Time) bool {
	return c.stamp == stamp && (c.until.IsZero() || now.Before(c.until))
}

// resolve gives the configuration of addr. Its errors are *ConfigError, and *DialError when this host could not run ssh at the moment.
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
	c = cachedConfig{cfg: cfg, stamp: stamp}
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
		d.opts.Logger.Warn("no OpenSSH client to ask for the configuration: reading it without Match and tokens in full",
			"machine", addr.String(), "program", d.opts.SSHProgram)
		cfg, err = d.parseConfigFiles(addr)
	} else {
		cfg, err = d.askSSH(ctx, program, addr)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: read the ssh configuration: %w", addr, context.Cause(ctx))
		}
		var notRun *notRunError
		if errors.As(err, &notRun) {
			return nil, &DialError{Addr: addr.String(), Op: "read the ssh configuration", Err: err}
		}
		return nil, &ConfigError{Addr: addr.String(), Err: err}
	}
	if d.opts.KnownHosts != "" {
		cfg.userHosts = []string{d.opts.KnownHosts}
	}
	return cfg, nil
}

// askSSH has OpenSSH's client resolve addr.
func (d *Dialer) askSSH(ctx context.Context, program string, addr Addr) (*config, error) {
	out, err := runG(ctx, program, append(d.sshArgs(addr), "--", addr.Host)...)
	if err != nil {
		return nil, err
	}
	defaults, err := d.sshDefaults(ctx, program)
	if err != nil {
		return nil, err
	}
	return newConfig(addr, parseG(out), defaults)
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

// sshDefaults are the settings of this OpenSSH without any configuration:
// only by them can a list of algorithms that somebody chose be told from the
// default, which is not the best for us.
func (d *Dialer) sshDefaults(ctx context.Context, program string) (settings, error) {
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
	defaults = parseG(out)
	d.mu.Lock()
	d.defaults = defaults
	d.mu.Unlock()
	return defaults, nil
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

func runG(ctx context.Context, program string, args ...string) ([]byte, error) {
	// -T: no complaint about the missing terminal.
	cmd := exec.CommandContext(ctx, program, append([]string{"-T", "-G"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = outputDelay
	out, err := cmd.Output()
	if err != nil {
		if msg := strings.TrimSpace(stderr.String()); msg != "" {
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

// newConfig makes a config of what ssh -G printed for addr.
func newConfig(addr Addr, s, defaults settings) (*config, error) {
	c := &config{
		addr:           addr,
		hostName:       s.first("hostname"),
		user:           s.first("user"),
		bindAddress:    s.first("bindaddress"),
		hostKeyAlias:   s.first("hostkeyalias"),
		proxyCommand:   unlessNone(s.first("proxycommand")),
		hashHosts:      s.first("hashknownhosts") == "yes",
		onlyIdentities: s.first("identitiesonly") == "yes",
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
		c.proxyJump = strings.Split(x.expand(jumps), ",")
	}
	c.userHosts = x.paths(strings.Fields(s.first("userknownhostsfile")))
	c.globalHosts = x.paths(strings.Fields(s.first("globalknownhostsfile")))
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
	return c, nil
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
		if slices.ContainsFunc(hops[:i], func(o *config) bool { return o.hostPort() == h.hostPort() && o.user == h.user }) {
			return nil, &ConfigError{Addr: addr.String(), Err: fmt.Errorf("ProxyJump leads in a circle over %s", h.addr)}
		}
	}
	return hops, nil
}

// hops resolves addr and what lies before it. As in OpenSSH, the hops of
// ProxyJump don't look at their own ProxyJump, except the first.
func (d *Dialer) hops(ctx context.Context, addr Addr, jumps []string, depth int) ([]*config, error) {
	if depth > maxHops {
		return nil, &ConfigError{Addr: addr.String(), Err: fmt.Errorf("ProxyJump leads over more than %d hosts", maxHops)}
	}
	c, err := d.resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	if len(jumps) == 0 {
		if c.proxyCommand != "" {
			return nil, &ConfigError{Addr: addr.String(), OpenSSH: true,
				Err: fmt.Errorf("ProxyCommand %q is not supported by this transport", c.proxyCommand)}
		}
		jumps = c.proxyJump
	}
	if len(jumps) == 0 {
		return []*config{c}, nil
	}
	last := jumps[len(jumps)-1]
	hop, err := ParseAddr(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(last), "ssh://"), "/"))
	if err != nil {
		return nil, &ConfigError{Addr: addr.String(), Err: fmt.Errorf("ProxyJump: %w", err)}
	}
	before, err := d.hops(ctx, hop, jumps[:len(jumps)-1], depth+1)
	if err != nil {
		return nil, err
	}
	return append(before, c), nil
}
