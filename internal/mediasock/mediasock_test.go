//go:build linux

package mediasock_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/mediasock"
)

func open(t *testing.T, cfg mediasock.Config) *mediasock.Pair {
	t.Helper()
	pair, err := mediasock.Open(cfg)
	if err != nil {
		if cfg.Family == mediasock.IPv6 && errors.Is(err, mediasock.ErrFamilyMissing) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pair.Close() })
	return pair
}

func dial(t *testing.T, network string, port uint16, family mediasock.Family) net.Conn {
	t.Helper()
	host := "127.0.0.1"
	if family == mediasock.IPv6 {
		host = "::1"
	}
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), network, netip.AddrPortFrom(netip.MustParseAddr(host), port).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestOpenGivesAWorkingPair(t *testing.T) {
	for _, family := range []mediasock.Family{mediasock.IPv4, mediasock.IPv6} {
		t.Run(family.String(), func(t *testing.T) {
			pair := open(t, mediasock.Config{Family: family})
			if pair.Addr.Port() == 0 || !pair.Addr.Addr().IsUnspecified() {
				t.Errorf("bound to %v", pair.Addr)
			}
			if pair.ReceiveBuffer <= 0 || pair.SendBuffer <= 0 {
				t.Errorf("buffers of %d and %d bytes", pair.ReceiveBuffer, pair.SendBuffer)
			}
			if os.Geteuid() == 0 && pair.ReceiveBuffer < 4<<20 {
				t.Logf("receive buffer is %d bytes", pair.ReceiveBuffer)
			}
			if _, err := dial(t, "udp", pair.Addr.Port(), family).Write([]byte("hello")); err != nil {
				t.Error(err)
			}
			dial(t, "tcp", pair.Addr.Port(), family)
			buf := make([]byte, 10)
			if n, _, err := unix.Recvfrom(int(pair.UDP.Fd()), buf, 0); err != nil || string(buf[:n]) != "hello" {
				t.Errorf("UDP: %q, %v", buf[:n], err)
			}
			conn, _, err := unix.Accept(int(pair.TCP.Fd()))
			if err != nil {
				t.Fatalf("TCP: %v", err)
			}
			_ = unix.Close(conn)
		})
	}
}

func TestSocketsAreReadyToBeHandedOn(t *testing.T) {
	pair := open(t, mediasock.Config{Family: mediasock.IPv4})
	for _, f := range []*os.File{pair.UDP, pair.TCP} {
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("%s blocks, %v", f.Name(), err)
		}
		flags, err = unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s is inherited, %v", f.Name(), err)
		}
		// A file that the runtime polls takes deadlines.
		if err := f.SetReadDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
			t.Errorf("%s is polled by the runtime: %v", f.Name(), err)
		}
	}
}

func TestBothFamiliesMayUseOnePort(t *testing.T) {
	six := open(t, mediasock.Config{Family: mediasock.IPv6})
	four, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv4, Port: six.Addr.Port()})
	if errors.Is(err, errs.ErrExists) {
		t.Skip("another program has the port")
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = four.Close()
}

func TestOccupiedPortIsOneClearError(t *testing.T) {
	pair := open(t, mediasock.Config{Family: mediasock.IPv4, Addr: netip.MustParseAddr("127.0.0.1")})
	port := pair.Addr.Port()
	var lc net.ListenConfig
	for _, tc := range []struct {
		protocol string
		free     *os.File
		other    func() (interface{ Close() error }, error)
	}{
		{"UDP", pair.TCP, func() (interface{ Close() error }, error) {
			return lc.ListenPacket(t.Context(), "udp4", pair.Addr.String())
		}},
		{"TCP", pair.UDP, func() (interface{ Close() error }, error) {
			return lc.Listen(t.Context(), "tcp4", pair.Addr.String())
		}},
	} {
		t.Run(tc.protocol, func(t *testing.T) {
			_ = pair.Close()
			other, err := tc.other()
			if err != nil {
				t.Skipf("another program has the port: %v", err)
			}
			defer func() { _ = other.Close() }()
			_, err = mediasock.Open(mediasock.Config{Family: mediasock.IPv4, Addr: pair.Addr.Addr(), Port: port})
			if !errors.Is(err, errs.ErrExists) {
				t.Fatalf("error %v", err)
			}
			for _, part := range []string{tc.protocol, fmt.Sprintf("127.0.0.1:%d", port), "SFU_PORT"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %s", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q has several lines", err)
			}
		})
	}
}

func TestPortIsFreeAgainAfterClose(t *testing.T) {
	pair := open(t, mediasock.Config{Family: mediasock.IPv4})
	if err := pair.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv4, Port: pair.Addr.Port()})
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

func TestBadConfigurations(t *testing.T) {
	for name, cfg := range map[string]mediasock.Config{
		"no family":                {},
		"a strange family":         {Family: 5},
		"an address of the other":  {Family: mediasock.IPv6, Addr: netip.MustParseAddr("127.0.0.1")},
		"an IPv6 address for IPv4": {Family: mediasock.IPv4, Addr: netip.MustParseAddr("::1")},
		"a negative buffer":        {Family: mediasock.IPv4, BufferBytes: -1},
		"an address of elsewhere":  {Family: mediasock.IPv4, Addr: netip.MustParseAddr("192.0.2.1")},
	} {
		if _, err := mediasock.Open(cfg); !errors.Is(err, errs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReservedPort(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may use every port")
	}
	_, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv4, Port: 1})
	if !errors.Is(err, errs.ErrDenied) || !strings.Contains(err.Error(), "SFU_PORT") {
		t.Errorf("%v", err)
	}
}

// A network namespace without addresses stands for a machine with the family off.
func TestMissingFamily(t *testing.T) {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- nil
			return
		}
		_, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv6})
		if err == nil {
			err = errors.New("opened")
		}
		result <- err
	}()
	err := <-result
	if err == nil {
		t.Skip("no permission for a network namespace")
	}
	if !errors.Is(err, mediasock.ErrFamilyMissing) || !strings.Contains(err.Error(), "IPv6") {
		t.Errorf("%v", err)
	}
}
