package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Addresses of a namespace's only interface beside loopback.
const (
	spaceIPv4 = "10.77.0.1"
	spaceIPv6 = "fd77::1"

	secondIPv4 = "10.77.0.3" // of a test that adds it, like the next ones
	thirdIPv4  = "10.77.0.4"
	secondIPv6 = "fd77::3"

	spaceMedia = 12825 // the media port in a namespace, where no other program is
)

// namespace is a network of its own, with loopback and one interface, in which
// firewall rules hurt nobody else. A nil namespace is the machine's network.
type namespace struct{ name string }

// newNamespace skips the test where namespaces are not allowed.
func newNamespace(t *testing.T, families string, rules ...string) *namespace {
	t.Helper()
	n := &namespace{name: fmt.Sprintf("dspeak-%d-%d", os.Getpid(), lab.next())}
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: no network namespace here (root and iproute2 are needed): %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "ip", "netns", "delete", n.name).Run() })
	n.ip(t, "link set lo up")
	n.ip(t, "link add v0 type veth peer name v1")
	n.ip(t, "link set v0 up")
	n.ip(t, "link set v1 up")
	if strings.Contains(families, "4") {
		n.ip(t, "addr add "+spaceIPv4+"/24 dev v0")
		n.ip(t, "route add default via 10.77.0.2 dev v0")
	}
	if strings.Contains(families, "6") {
		n.ip(t, "addr add "+spaceIPv6+"/64 dev v0 nodad")
		n.ip(t, "-6 route add default via fd77::2 dev v0")
	}
	n.filter(t, rules...)
	return n
}

// filter makes these the rules for what comes in, instead of those before.
func (n *namespace) filter(t *testing.T, rules ...string) {
	t.Helper()
	script := "flush ruleset\nadd table inet t\nadd chain inet t in { type filter hook input priority 0; }\n"
	for _, rule := range rules {
		script += "add rule inet t in " + rule + "\n"
	}
	cmd := n.command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

func (n *namespace) ip(t *testing.T, args string) {
	t.Helper()
	all := append([]string{"-n", n.name}, strings.Fields(args)...)
	if out, err := exec.CommandContext(t.Context(), "ip", all...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

// command runs in the namespace. It replaces itself, so its process id is the
// program's.
func (n *namespace) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if n == nil {
		return exec.CommandContext(ctx, program, args...)
	}
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.name, program}, args...)...)
}

// dial opens a connection in the namespace.
func (n *namespace) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	var dialer net.Dialer
	n.inside(func() error {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	}, &err)
	return conn, err
}

// listen opens a listening socket in the namespace.
func (n *namespace) listen(ctx context.Context, address string) (listener net.Listener, err error) {
	var config net.ListenConfig
	n.inside(func() error {
		listener, err = config.Listen(ctx, "tcp", address)
		return err
	}, &err)
	return listener, err
}

// inside runs f on a thread in the namespace. A socket stays in the namespace
// it was made in, whoever uses it later.
func (n *namespace) inside(f func() error, err *error) {
	if n == nil {
		*err = f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		space, openErr := os.Open("/var/run/netns/" + n.name)
		if openErr != nil {
			*err = openErr
			return
		}
		defer func() { _ = space.Close() }()
		if *err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); *err == nil {
			*err = f()
		}
	}()
	<-done
}
