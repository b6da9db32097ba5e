package ssh

import (
	"maps"
	"os"
	"testing"

	"jobserver/ssh/sshtest"
)

// TestStamp: a stamp differs when a file is another one, and not because more is known of an
// address or less.
func TestStamp(t *testing.T) {
	m := sshtest.Start(t)
	d := dialer(m)
	before := d.Stamp()
	mustDial(t, d, m.Name)
	dialed := d.Stamp()
	if before.Differs(dialed) || len(dialed) <= len(before) {
		t.Errorf("%d names before an address is known and %d after it", len(before), len(dialed))
	}
	fresh := dialer(m).Stamp()
	if dialed.Differs(maps.Clone(fresh)) {
		t.Error("what isn't known any more has changed")
	}
	for _, change := range []func() error{
		func() error { return os.WriteFile(m.KnownHosts, []byte("# none\n"), 0o600) },
		func() error { return os.Rename(m.KeyFile, m.KeyFile+".away") },
		func() error { return os.WriteFile(m.ConfigFile, []byte("User me\n"), 0o600) },
	} {
		was := d.Stamp()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if !was.Differs(d.Stamp()) || !was.Differs(dialer(m).Stamp()) {
			t.Error("a change isn't seen")
		}
	}
}
