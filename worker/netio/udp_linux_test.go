package netio

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// strictKernel plays a kernel: it takes so many messages a call, and answers the
// given errors first, by the number of the call.
type strictKernel struct {
	u       *udpSocket
	perCall int
	errors  map[int]syscall.Errno
	calls   int
	sent    []string // "packets@port" of each message
}

// open wraps a socket of the standard library.
func open(t *testing.T, wrap func(fd int) (UDP, error)) *udpSocket {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	file, err := conn.File()
	if err != nil {
		t.Fatal(err)
	}
	sock, err := wrap(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(sock.Close(), file.Close(), conn.Close()) })
	u, ok := sock.(*udpSocket)
	if !ok {
		t.Fatalf("%T", sock)
	}
	return u
}

func (k *strictKernel) send(first, n int) (int, syscall.Errno) {
	k.calls++
	if errno := k.errors[k.calls]; errno != 0 {
		return 0, errno
	}
	took := min(k.perCall, n-first)
	for i := first; i < first+took; i++ {
		h := &k.u.send[i].hdr
		name := (*unix.RawSockaddrInet4)(unsafe.Pointer(h.Name))
		k.sent = append(k.sent, fmt.Sprintf("%d@%d", h.Iovlen, networkOrder(name.Port)))
	}
	return took, 0
}

func newStrict(t *testing.T, count *Counters, perCall int, faults map[int]syscall.Errno) (*udpSocket, *strictKernel) {
	t.Helper()
	u := open(t, func(fd int) (UDP, error) { return NewUDP(fd, UDPOptions{Counters: count}) })
	u.segments = MaxPackets
	k := &strictKernel{u: u, perCall: perCall, errors: faults}
	u.sendmmsg = k.send
	return u, k
}

// toPort is a Send of n packets of 50 bytes to one port.
func toPort(port uint16, n int) Send {
	s := Send{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), SegmentSize: 50}
	for range n {
		s.Packets = append(s.Packets, make([]byte, 50))
	}
	return s
}

func TestWriteBatchAgainstAStrictKernel(t *testing.T) {
	cases := []struct {
		name     string
		faults   map[int]syscall.Errno
		perCall  int
		sends    []Send
		done     int
		err      error
		left     int // packets of the Send where it stopped
		sent     string
		segments int
		refused  uint64
	}{
		{
			name: "takes one message a call", perCall: 1,
			sends: []Send{toPort(1, 2), toPort(2, 1), toPort(3, 3)}, done: 3,
			sent: "[2@1 1@2 3@3]", segments: MaxPackets,
		},
		{
			name: "full at once", perCall: 1, faults: map[int]syscall.Errno{1: unix.EAGAIN},
			sends: []Send{toPort(1, 2)}, done: 0, err: ErrWouldBlock, left: 2, sent: "[]", segments: MaxPackets,
		},
		{
			name: "full after one", perCall: 1, faults: map[int]syscall.Errno{2: unix.EAGAIN},
			sends: []Send{toPort(1, 2), toPort(2, 2)}, done: 1, err: ErrWouldBlock, left: 2,
			sent: "[2@1]", segments: MaxPackets,
		},
		{
			name: "full in the middle of a long Send", perCall: 1, faults: map[int]syscall.Errno{3: unix.EAGAIN},
			sends: []Send{toPort(1, 2), toPort(2, 20)}, done: 1, err: ErrWouldBlock, left: 4,
			sent: "[2@1 16@2]", segments: MaxPackets,
		},
		{
			name: "refuses segments", perCall: 100, faults: map[int]syscall.Errno{1: unix.EIO},
			sends: []Send{toPort(1, 2), toPort(2, 3)}, done: 2,
			sent: "[1@1 1@1 1@2 1@2 1@2]", segments: 1,
		},
		{
			name: "refuses segments after some went", perCall: 1, faults: map[int]syscall.Errno{3: unix.EIO},
			sends: []Send{toPort(1, 2), toPort(2, 1), toPort(3, 3), toPort(4, 2)}, done: 4,
			sent: "[2@1 1@2 1@3 1@3 1@3 1@4 1@4]", segments: 1,
		},
		{
			name: "refuses the second part of a long Send", perCall: 1, faults: map[int]syscall.Errno{2: unix.EINVAL},
			sends: []Send{toPort(1, 19), toPort(2, 2)}, done: 2,
			sent: "[16@1 1@1 1@1 1@1 1@2 1@2]", segments: 1,
		},
		{
			name: "refuses segments, then is full", perCall: 100, faults: map[int]syscall.Errno{1: unix.EINVAL, 3: unix.EAGAIN},
			sends: []Send{toPort(1, 3), toPort(2, 3)}, done: 0, err: ErrWouldBlock, left: 2,
			sent: "[1@1]", segments: 1,
		},
		{
			name: "segments too large for one path", perCall: 1, faults: map[int]syscall.Errno{1: unix.EMSGSIZE},
			sends: []Send{toPort(1, 2), toPort(2, 3)}, done: 2, sent: "[1@1 1@1 3@2]", segments: MaxPackets,
		},
		{
			name: "refuses the destination, too", perCall: 1,
			faults: map[int]syscall.Errno{1: unix.EINVAL, 2: unix.EPERM, 3: unix.EPERM},
			sends:  []Send{toPort(1, 2), toPort(2, 3)}, done: 2, sent: "[3@2]", segments: MaxPackets, refused: 2,
		},
		{
			name: "single packets to nowhere", perCall: 1,
			faults: map[int]syscall.Errno{1: unix.ENETUNREACH, 3: unix.ECONNREFUSED},
			sends:  []Send{toPort(1, 1), toPort(2, 1), toPort(3, 1), toPort(4, 1)}, done: 4,
			sent: "[1@2 1@4]", segments: MaxPackets, refused: 2,
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var count Counters
			u, k := newStrict(t, &count, tc.perCall, tc.faults)
			done, err := u.WriteBatch(tc.sends)
			if done != tc.done || !errors.Is(err, tc.err) {
				t.Errorf("WriteBatch: %d, %v, want %d, %v", done, err, tc.done, tc.err)
			}
			if got := fmt.Sprint(k.sent); got != tc.sent {
				t.Errorf("sent %s, want %s", got, tc.sent)
			}
			if done < len(tc.sends) && len(tc.sends[done].Packets) != tc.left {
				t.Errorf("%d packets left, want %d", len(tc.sends[done].Packets), tc.left)
			}
			if u.MaxSegments() != tc.segments || count.Refused != tc.refused {
				t.Errorf("%d segments, %d refused, want %d, %d", u.MaxSegments(), count.Refused, tc.segments, tc.refused)
			}
		})
	}
}

// A kernel that takes as much as it likes, is full now and then, and refuses
// segments from some call on, gets each packet once, in order for a destination.
func TestNothingIsLostOrSentTwiceWhenSegmentsAreRefused(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var count Counters
		var sends []Send
		want := map[uint16][]*byte{}
		total := uint64(0)
		for range 1 + rng.IntN(200) {
			s := toPort(uint16(1+rng.IntN(5)), 1+rng.IntN(20))
			for _, p := range s.Packets {
				want[s.Addr.Port()] = append(want[s.Addr.Port()], &p[0])
				total++
			}
			sends = append(sends, s)
		}
		u, _ := newStrict(t, &count, 0, nil)
		got := map[uint16][]*byte{}
		calls, refusesFrom := 0, rng.IntN(12)
		refusal := []syscall.Errno{unix.EIO, unix.EINVAL, unix.EOPNOTSUPP}[rng.IntN(3)]
		u.sendmmsg = func(first, n int) (int, syscall.Errno) {
			if calls++; rng.IntN(4) == 0 {
				return 0, unix.EAGAIN
			}
			for i := first; i < n; i++ {
				h := &u.send[i].hdr
				if h.Control != nil && calls >= refusesFrom {
					if i > first {
						return i - first, 0
					}
					return 0, refusal
				}
				name := (*unix.RawSockaddrInet4)(unsafe.Pointer(h.Name))
				for _, v := range u.sendVec[i][:h.Iovlen] {
					got[networkOrder(name.Port)] = append(got[networkOrder(name.Port)], v.Base)
				}
				if rng.IntN(8) == 0 {
					return i - first + 1, 0
				}
			}
			return n - first, 0
		}
		for rest := sends; len(rest) > 0; {
			n, err := u.WriteBatch(rest)
			if err != nil && !errors.Is(err, ErrWouldBlock) {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if !maps.EqualFunc(got, want, slices.Equal[[]*byte]) || count.SentPackets != total || count.Refused != 0 {
			t.Fatalf("seed %d: %d packets sent and %d refused of %d, or in another order", seed, count.SentPackets, count.Refused, total)
		}
	}
}

// A kernel that does not know UDP_SEGMENT gets single packets from the start.
func TestProbeThatFails(t *testing.T) {
	var count Counters
	u := open(t, func(fd int) (UDP, error) {
		return newUDP(fd, UDPOptions{Counters: &count}, func(int) bool { return false })
	})
	k := &strictKernel{u: u, perCall: 100}
	u.sendmmsg = k.send
	if n, err := u.WriteBatch([]Send{toPort(1, 3), toPort(2, 1)}); n != 2 || err != nil {
		t.Fatalf("WriteBatch: %d, %v", n, err)
	}
	if got := fmt.Sprint(k.sent); got != "[1@1 1@1 1@1 1@2]" || u.MaxSegments() != 1 {
		t.Errorf("sent %s with %d segments", got, u.MaxSegments())
	}
	if count.OffloadDropped != 0 || count.LastError != nil || count.SentPackets != 4 {
		t.Errorf("counters %+v", count)
	}
}

// The probe itself, on a socket whose protocol has no segments.
func TestProbeAsksTheKernel(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if segmentationWorks(fd) {
		t.Error("a TCP socket takes UDP_SEGMENT")
	}
	if segmentationWorks(-1) {
		t.Error("no socket takes UDP_SEGMENT")
	}
}

func TestBadAddressIsCountedOnceWhenTheSocketIsFull(t *testing.T) {
	var count Counters
	u, k := newStrict(t, &count, 1, map[int]syscall.Errno{1: unix.EAGAIN})
	ss := []Send{toPort(1, 1), {Addr: netip.MustParseAddrPort("[::1]:5"), Packets: [][]byte{{1}}}, toPort(2, 1)}
	n, err := u.WriteBatch(ss)
	if n != 0 || !errors.Is(err, ErrWouldBlock) {
		t.Fatalf("WriteBatch: %d, %v", n, err)
	}
	if n, err = u.WriteBatch(ss); n != 3 || err != nil {
		t.Fatalf("WriteBatch: %d, %v", n, err)
	}
	if count.Refused != 1 || fmt.Sprint(k.sent) != "[1@1 1@2]" {
		t.Errorf("refused %d, sent %v", count.Refused, k.sent)
	}
}

func TestBatchesAllocateNothing(t *testing.T) {
	u, _ := newStrict(t, nil, 100, nil)
	u.sendmmsg = u.kernelSend
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	self, ss := u.LocalAddr(), []Send{toPort(0, 1), toPort(0, 8), toPort(0, 16)}
	for i := range ss {
		ss[i].Addr = self
	}
	ms := make([]Message, MaxReceive)
	for i := range ms {
		ms[i].Buf = make([]byte, 1500)
	}
	got := testing.AllocsPerRun(100, func() {
		if n, err := u.WriteBatch(ss); n != len(ss) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
		if n, err := u.ReadBatch(ms); n != 25 || err != nil {
			t.Fatalf("read: %d, %v", n, err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations a batch", got)
	}
}

func TestReadControl(t *testing.T) {
	var count Counters
	u, _ := newStrict(t, &count, 1, nil)
	oob := unix.UnixRights(1, 2) // a control message of another kind
	if at := u.readControl(oob, new(Local)); at != 0 {
		t.Errorf("arrival %d from a foreign message", at)
	}
	for n := range len(oob) {
		u.readControl(oob[:n], new(Local)) // cut anywhere: must not read past the end
	}
	u.readControl(make([]byte, controlSpace), new(Local)) // a length of 0
	if count.KernelDrops != 0 {
		t.Errorf("drops %d", count.KernelDrops)
	}
}

func TestKernelDropsAreReported(t *testing.T) {
	var count Counters
	u, _ := newStrict(t, &count, 1, nil)
	if err := unix.SetsockoptInt(u.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
	u.sendmmsg = u.kernelSend
	s := toPort(0, 1)
	s.Addr = u.LocalAddr()
	ms := []Message{{Buf: make([]byte, 1500)}}
	for deadline := time.Now().Add(10 * time.Second); count.KernelDrops == 0 && time.Now().Before(deadline); {
		for range 50 {
			if _, err := u.WriteBatch([]Send{s}); err != nil {
				t.Fatal(err)
			}
		}
		for n := 1; n > 0; {
			var err error
			if n, err = u.ReadBatch(ms); err != nil {
				t.Fatal(err)
			}
		}
	}
	if count.KernelDrops == 0 {
		t.Error("no drops reported")
	}
}

// TestAsideKnowsTheLocalAddressFromItsFirstDatagram: what comes between the bind and all
// the rest is told apart like everything later.
func TestAsideKnowsTheLocalAddressFromItsFirstDatagram(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{})
	mustNil(t, err)
	defer func() { _ = conn.Close() }()
	file, err := conn.File()
	mustNil(t, err)
	defer func() { _ = file.Close() }()
	u, err := NewUDP(int(file.Fd()), UDPOptions{})
	mustNil(t, err)
	defer func() { _ = u.Close() }()
	fd, err := openBeside(u)
	mustNil(t, err)
	defer func() { _ = unix.Close(fd) }()
	asked := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), u.LocalAddr().Port())
	_, err = conn.WriteToUDPAddrPort([]byte{0, 1}, asked) // STUN
	mustNil(t, err)
	aside, err := newUDP(fd, UDPOptions{}, func(int) bool { return false })
	mustNil(t, err)
	defer func() { _ = aside.Close() }()
	ms := []Message{{Buf: make([]byte, 100)}}
	if n, err := aside.ReadBatch(ms); n != 1 || err != nil || ms[0].Local != LocalOf(asked.Addr()) {
		t.Fatalf("%d datagrams, %v, sent to %v", n, err, ms[0].Local.Addr())
	}
}

func mustNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
