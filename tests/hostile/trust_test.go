package hostile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/api"
	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

// TestTrustUnderAttack: only the host key that the user has seen is recorded. A machine that has
// another one when it is to be written, or one of another machine, is refused and told of, and what
// its sshd says of itself does nothing to a terminal.
func TestTrustUnderAttack(t *testing.T) {
	t.Parallel()
	client, err := sshtest.NewClient(filepath.Join(t.TempDir(), "ssh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range [][2]string{{"changes", changingKey}, {"steady", "no channel"},
		{"other", "no channel"}, {"escapes", "algorithms with escapes"},
		{"endless", "too many algorithms"}, {"banner", "escapes for a banner"}} {
		startEvil(t, e[1], e[0], client)
	}
	if err := os.WriteFile(client.KnownHosts, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := daemontest.New(t, "--ssh-config", client.ConfigFile)
	names := []string{"changes", "steady", "other", "escapes", "endless", "banner"}
	d.J(t, append(append([]string{"machine", "add"}, names...), "bad")...)
	c, err := d.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	trust := func(args api.TrustArgs) map[string]api.MachineCheck {
		t.Helper()
		reply, err := api.Call[api.TrustReply](t.Context(), c, "Trust", &args)
		if err != nil {
			t.Fatal(err)
		}
		checks := map[string]api.MachineCheck{}
		for _, check := range reply.Checks {
			checks[check.Addr] = check
		}
		return checks
	}
	recorded := func() string {
		t.Helper()
		b, err := os.ReadFile(client.KnownHosts)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	all := api.MachineSelector{Addrs: names}
	shown := trust(api.TrustArgs{MachineSelector: all})
	prints := map[string]string{
		"changes": shown["changes"].Fingerprint,
		"other":   shown["steady"].Fingerprint, // as if it had answered in the place of the other
		"escapes": "SHA256:x", "endless": "SHA256:x", "banner": "SHA256:x",
	}
	for addr, check := range trust(api.TrustArgs{MachineSelector: all, Record: true,
		Fingerprints: prints}) {
		if _, confirmed := prints[addr]; check.OK || (check.Error != "") != confirmed {
			t.Errorf("%s: %+v", addr, check)
		}
		if addr == "changes" && !strings.Contains(check.Error, "another host key now") {
			t.Errorf("%s: %s", addr, check.Error)
		}
	}
	if got := recorded(); got != "# mine\n" {
		t.Errorf("known_hosts is\n%s", got)
	}
	prints = map[string]string{"steady": shown["steady"].Fingerprint}
	if check := trust(api.TrustArgs{MachineSelector: all, Record: true,
		Fingerprints: prints})["steady"]; !check.OK || check.Known != "known" {
		t.Errorf("steady: %+v", check)
	}
	if got := recorded(); strings.Count(got, "\n") != 2 {
		t.Errorf("known_hosts is\n%s", got)
	}
	out, errs, _, err := d.Run(t.Context(), append([]string{"machine", "trust"}, names...)...)
	if text := out + errs; err != nil || strings.ContainsAny(text, "\x1b\a\u202e") {
		t.Errorf("%v, %q", err, text)
	}
}
