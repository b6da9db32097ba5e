package ssh

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForgetName(t *testing.T) {
	// 192.168.1.61, of sshd(8)'s kind
	const hashed = "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-rsa AAAA\n"
	in := "# gpu3 comment\n\ngpu3 ssh-rsa AAAA\ngpu3\tssh-rsa AAAA\na,GPU3,b ssh-rsa AAAA " +
		"me\n[gpu3]:22 x y\n*.gpu3,gpu* ssh-rsa AAAA\n" +
		"@revoked gpu3 ssh-rsa AAAA\ngpu33 ssh-rsa AAAA\n" + hashed
	want := "# gpu3 comment\n\na,b ssh-rsa AAAA me\n[gpu3]:22 x y\n*.gpu3,gpu* ssh-rsa AAAA\n" +
		"@revoked gpu3 ssh-rsa AAAA\ngpu33 ssh-rsa AAAA\n" + hashed
	got, lost := forgetName([]byte(in), "gpu3")
	if diff := cmp.Diff(want, string(got)); diff != "" || !lost {
		t.Errorf("lost %v (-want +got):\n%s", lost, diff)
	}
	if got, lost := forgetName([]byte(hashed), "192.168.1.61"); len(got) != 0 || !lost {
		t.Errorf("the hashed name stayed: %q", got)
	}
	if got, lost := forgetName([]byte(want), "gpu3"); string(got) != want || lost {
		t.Errorf("a second time something changed: %q", got)
	}
}
