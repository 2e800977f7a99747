//go:build linux

package netio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/netio"
)

// server is a listener under test with its poller.
type server struct {
	*netio.TCPListener
	tb     testing.TB
	poller *netio.Poller
	addr   string
	count  netio.TCPCounters
}

func newServer(tb testing.TB, addr netip.Addr, opts netio.TCPOptions) *server {
	tb.Helper()
	network := "tcp4"
	if addr.Is6() {
		network = "tcp6"
	}
	std, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		if addr.Is6() {
			tb.Skipf("no IPv6 here: %v", err)
		}
		tb.Fatal(err)
	}
	file, err := std.File()
	if err != nil {
		tb.Fatal(err)
	}
	s := &server{tb: tb, poller: newPoller(tb), addr: std.Addr().String()}
	opts.Counters = &s.count
	if s.TCPListener, err = netio.NewTCPListener(int(file.Fd()), opts); err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(file.Close(), std.Close()); err != nil {
		tb.Fatal(err)
	}
	if err := s.poller.AddListener(s.TCPListener); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *server) dial() net.Conn {
	s.tb.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(s.tb.Context(), "tcp", s.addr)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		s.tb.Fatal(err)
	}
	return conn
}

// wait waits for events until handle says that it saw enough.
func (s *server) wait(what string, handle func(netio.TCPEvent) bool) {
	s.tb.Helper()
	waitFor(s.tb, s.poller, what, func(netio.Ready) bool {
		events, err := s.poller.TCPEvents()
		if err != nil {
			s.tb.Fatal(err)
		}
		return slices.ContainsFunc(events, handle)
	})
}

// accept waits for a connection.
func (s *server) accept() *netio.TCPConn {
	s.tb.Helper()
	var c *netio.TCPConn
	s.wait("connection", func(e netio.TCPEvent) bool {
		if e.Listener != s.TCPListener {
			return false
		}
		var err error
		if c, err = s.Accept(1); err != nil {
			s.tb.Fatal(err)
		}
		return c != nil
	})
	if err := s.poller.AddConn(c); err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// read collects frames of one connection until there are n, or an error.
func (s *server) read(c *netio.TCPConn, n int) (got [][]byte, err error) {
	s.tb.Helper()
	s.wait("frames", func(e netio.TCPEvent) bool {
		if e.Conn != c || !e.Readable {
			return false
		}
		err = c.ReadFrames(7, func(_ *netio.TCPConn, frame []byte) { got = append(got, bytes.Clone(frame)) })
		return err != nil || len(got) >= n
	})
	return got, err
}

func TestTCPFramesGoBothWays(t *testing.T) {
	for _, addr := range []netip.Addr{loopback4, loopback6} {
		t.Run(addr.String(), func(t *testing.T) {
			s := newServer(t, addr, netio.TCPOptions{})
			client := s.dial()
			c := s.accept()
			if c.RemoteAddr().String() != client.LocalAddr().String() || c.LocalAddr().String() != s.addr {
				t.Errorf("connection %v -> %v", c.RemoteAddr(), c.LocalAddr())
			}
			if c.LastActive() != 1 {
				t.Errorf("active at %d, want the time of accept", c.LastActive())
			}
			sent := packets(20, 1500, 3, 700)
			if _, err := client.Write(frames(sent...)); err != nil {
				t.Fatal(err)
			}
			got, err := s.read(c, len(sent))
			if err != nil || len(got) != len(sent) {
				t.Fatalf("%d frames, %v", len(got), err)
			}
			for i := range sent {
				if !bytes.Equal(got[i], sent[i]) {
					t.Errorf("frame %d differs", i)
				}
			}
			if c.LastActive() != 7 {
				t.Errorf("active at %d, want the time of the read", c.LastActive())
			}
			if err := c.WriteFrames(sent); err != nil {
				t.Fatal(err)
			}
			if err := c.WriteFrame(sent[0]); err != nil {
				t.Fatal(err)
			}
			want := frames(append(sent, sent[0])...)
			back := make([]byte, len(want))
			if _, err := io.ReadFull(client, back); err != nil || !bytes.Equal(back, want) {
				t.Errorf("client read %d bytes, %v", len(back), err)
			}
			if s.count.ReceivedFrames != 4 || s.count.SentFrames != 5 || s.count.SentBytes != uint64(len(want)) {
				t.Errorf("counters %+v", s.count)
			}
		})
	}
}

func TestTCPPeerCloseIsEOF(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{})
	client := s.dial()
	c := s.accept()
	_ = client.Close()
	if _, err := s.read(c, 1); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want EOF", err)
	}
	if err := c.Close(); err != nil || !c.Closed() || s.Conns() != 0 || s.count.Closed != 1 {
		t.Errorf("after close: %v, %d connections", err, s.Conns())
	}
	for _, err := range []error{c.WriteFrame([]byte("x")), c.Flush(), c.ReadFrames(1, nil)} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("use after close: %v", err)
		}
	}
	if err := c.Close(); err != nil || s.Conns() != 0 {
		t.Errorf("second close: %v, %d connections", err, s.Conns())
	}
}

func TestTCPHostileLengthEndsTheConnection(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{})
	client := s.dial()
	c := s.accept()
	if _, err := client.Write(append(frames([]byte("fine")), 0xff, 0xff, 1)); err != nil {
		t.Fatal(err)
	}
	got, err := s.read(c, 2)
	if !errors.Is(err, errs.ErrInvalid) || len(got) != 1 || s.count.BadFrames != 1 {
		t.Errorf("%q, %v, %d bad", got, err, s.count.BadFrames)
	}
}

func TestTCPCallbackMayClose(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{})
	client := s.dial()
	s.accept()
	if _, err := client.Write(frames([]byte("a"), []byte("b"))); err != nil {
		t.Fatal(err)
	}
	calls := 0
	s.wait("frames", func(e netio.TCPEvent) bool {
		if e.Conn == nil {
			return false
		}
		err := e.Conn.ReadFrames(1, func(c *netio.TCPConn, _ []byte) {
			calls++
			_ = c.Close()
		})
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, want net.ErrClosed", err)
		}
		return true
	})
	if calls != 1 {
		t.Errorf("%d frames after the close", calls-1)
	}
}

// A reader that stands still costs a bounded queue; when it goes on, the stream
// is still whole, with the newest frames in it.
func TestTCPSlowReaderLosesTheOldestFrames(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{QueueBytes: 8 << 10})
	client := s.dial()
	c := s.accept()
	const n = 50_000
	p := make([]byte, 200)
	for i := range n {
		binary.BigEndian.PutUint32(p, uint32(i))
		if err := c.WriteFrame(p); err != nil {
			t.Fatal(err)
		}
		if c.Queued() > 8<<10 {
			t.Fatalf("%d bytes queued", c.Queued())
		}
	}
	if s.count.DroppedFrames == 0 {
		t.Fatal("nothing was dropped")
	}
	seen := make(chan uint64, 1)
	go func() { seen <- checkStream(client, n-1) }()
	s.wait("room", func(e netio.TCPEvent) bool {
		if e.Conn == c && e.Writable {
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		return c.Queued() == 0
	})
	if got := <-seen; got+s.count.DroppedFrames != n || got != s.count.SentFrames {
		t.Errorf("%d frames arrived, %d sent, %d dropped of %d", got, s.count.SentFrames, s.count.DroppedFrames, n)
	}
	if r, err := s.poller.Wait(0); err != nil || r.TCP {
		t.Errorf("an empty queue still asks for room: %+v, %v", r, err)
	}
}

// checkStream counts frames with rising numbers up to the last one; 0: broken.
func checkStream(r io.Reader, last uint32) uint64 {
	var count uint64
	var header [6]byte
	rest := make([]byte, 196)
	for previous := int64(-1); ; {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return 0
		}
		number := binary.BigEndian.Uint32(header[2:])
		if binary.BigEndian.Uint16(header[:]) != 200 || int64(number) <= previous {
			return 0
		}
		previous = int64(number)
		count++
		if _, err := io.ReadFull(r, rest); err != nil {
			return 0
		}
		if number == last {
			return count
		}
	}
}

func TestTCPFrameAboveTheLimitIsDropped(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{MaxFrame: 100})
	client := s.dial()
	c := s.accept()
	if err := c.WriteFrames([][]byte{make([]byte, 101), []byte("ok")}); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "\x00\x02ok" {
		t.Errorf("%q, %v", got, err)
	}
	if s.count.DroppedFrames != 1 || s.count.SentFrames != 1 {
		t.Errorf("counters %+v", s.count)
	}
}

func TestSourceCountsIPv6Prefixes(t *testing.T) {
	for _, row := range []struct{ at, want netip.Addr }{
		{loopback4, loopback4},
		{loopback6, netip.MustParseAddr("::")},
	} {
		s := newServer(t, row.at, netio.TCPOptions{})
		s.dial()
		if got := s.accept().Source(); got != row.want {
			t.Errorf("source of %s is %s, want %s", row.at, got, row.want)
		}
	}
}

// TestRestingListener: a listener that is not watched wakes nobody, and tells of what
// waits once it is watched again.
func TestRestingListener(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{})
	for range 2 { // a second call changes nothing
		if err := s.poller.WatchListener(s.TCPListener, false); err != nil {
			t.Fatal(err)
		}
	}
	s.dial()
	if r, err := s.poller.Wait(50 * time.Millisecond); err != nil || r.TCP {
		t.Errorf("a resting listener woke the poller: %+v, %v", r, err)
	}
	if err := s.poller.WatchListener(s.TCPListener, true); err != nil {
		t.Fatal(err)
	}
	s.accept()
}

func TestTCPAcceptOfNothing(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{})
	if c, err := s.Accept(1); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := s.Accept(1); err == nil {
		t.Error("accepted on a closed listener")
	}
}

// Without a free descriptor a waiting connection is refused; otherwise the
// listener would stay ready and the loop would spin.
func TestTCPWithoutDescriptorsDoesNotSpin(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{})
	client := s.dial()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 300
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }()
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
	}
	s.wait("refusal", func(netio.TCPEvent) bool {
		c, err := s.Accept(1)
		if c != nil || err != nil {
			t.Errorf("%v, %v", c, err)
		}
		return true
	})
	if s.count.Refused != 1 {
		t.Errorf("%d refused", s.count.Refused)
	}
	if r, err := s.poller.Wait(0); err != nil || r.TCP {
		t.Errorf("listener is still ready: %+v, %v", r, err)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the refused connection is open")
	}
}

func TestNewTCPListenerRefusesOtherSockets(t *testing.T) {
	file, err := bind(t, loopback4).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, fd := range []int{int(file.Fd()), -1} {
		if _, err := netio.NewTCPListener(fd, netio.TCPOptions{}); err == nil {
			t.Errorf("no error for descriptor %d", fd)
		}
	}
}

func TestTCPManyConnections(t *testing.T) {
	s := newServer(t, loopback4, netio.TCPOptions{})
	const n = 150 // more than one round of events
	for i := range n {
		client := s.dial()
		if _, err := client.Write(frames(fmt.Appendf(nil, "%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	s.wait("all frames", func(e netio.TCPEvent) bool {
		if e.Listener != nil {
			c, err := s.Accept(1)
			if err != nil {
				t.Fatal(err)
			}
			if c != nil {
				if err := s.poller.AddConn(c); err != nil {
					t.Fatal(err)
				}
			}
			return false
		}
		if err := e.Conn.ReadFrames(1, func(_ *netio.TCPConn, frame []byte) { seen[string(frame)] = true }); err != nil {
			t.Fatal(err)
		}
		_ = e.Conn.Close()
		return len(seen) == n
	})
	if s.Conns() != 0 {
		t.Errorf("%d connections left", s.Conns())
	}
}
