package torture_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mayMakeNamespaces tells whether this user and this kernel can give a machine a network of its
// own.
func mayMakeNamespaces() bool {
	if os.Getuid() != 0 {
		return false
	}
	for _, tool := range []string{"ip", "iptables", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false
		}
	}
	return exec.Command("unshare", "--net", "iptables", "-S").Run() == nil
}

// namespace is a network of its own, joined to ours by a pair of devices. Packets are dropped
// inside it, so that nothing of the host's is touched.
type namespace struct {
	name, device, ip string
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	id := rand.IntN(50 << 14) // other tests, and other processes, have theirs
	n := &namespace{
		name:   fmt.Sprintf("jobserver-%d", id),
		device: fmt.Sprintf("jst%d", id),
		ip:     fmt.Sprintf("10.%d.%d.", 200+id>>14, id>>6&0xff),
	}
	low := id & 0x3f * 4
	ours := fmt.Sprintf("%s%d/30", n.ip, low+1)
	n.ip = fmt.Sprintf("%s%d", n.ip, low+2)
	n.run(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { n.run(t, "ip", "netns", "delete", n.name) })
	n.run(t, "ip", "link", "add", n.device, "type", "veth", "peer", "name", "eth0", "netns", n.name)
	t.Cleanup(func() { n.run(t, "ip", "link", "delete", n.device) })
	n.run(t, "ip", "address", "add", ours, "dev", n.device)
	n.run(t, "ip", "link", "set", n.device, "up")
	n.run(t, "ip", "-n", n.name, "address", "add", n.ip+"/30", "dev", "eth0")
	n.run(t, "ip", "-n", n.name, "link", "set", "eth0", "up")
	n.run(t, "ip", "-n", n.name, "link", "set", "lo", "up")
	return n
}

func (n *namespace) run(t testing.TB, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// do runs a command inside. That a rule is there already, or isn't, is no matter.
func (n *namespace) do(words ...string) {
	_ = exec.Command("ip", append([]string{"netns", "exec", n.name}, words...)...).Run()
}

func (n *namespace) Cut() {
	n.do("iptables", "-A", "INPUT", "-i", "eth0", "-j", "DROP")
	n.do("iptables", "-A", "OUTPUT", "-o", "eth0", "-j", "DROP")
}

// Reset answers everything that arrives with a reset, for a moment.
func (n *namespace) Reset() {
	n.do("iptables", "-A", "INPUT", "-i", "eth0", "-p", "tcp", "-j", "REJECT", "--reject-with",
		"tcp-reset")
	time.Sleep(200 * time.Millisecond)
	n.do("iptables", "-F")
}

func (n *namespace) Slow(on bool) {
	if on {
		n.do("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "4mbit", "burst",
			"32k", "latency", "200ms")
	} else {
		n.do("tc", "qdisc", "delete", "dev", "eth0", "root")
	}
}

func (n *namespace) Heal() {
	n.do("iptables", "-F")
	n.Slow(false)
}

// Inside runs f on a thread that is in the namespace, as are the processes that it starts.
func (n *namespace) Inside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		ns, err := os.Open("/run/netns/" + n.name)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err != nil {
			panic(err) // there is no machine without it
		}
		f()
	}()
	<-done
}

func (n *namespace) Listen() string { return n.ip }
