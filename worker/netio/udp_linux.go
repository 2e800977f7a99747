package netio

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendSlots is how many messages one sendmmsg takes at most.
const sendSlots = 128

// controlSpace holds a receive timestamp (32 bytes), a drop count (24 bytes) and the
// local address (40 bytes at most).
const controlSpace = 96

// mmsghdr is struct mmsghdr of the kernel; Go pads it alike.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// slot says which packets of which Send a prepared message carries.
type slot struct {
	send, from, count int
}

// udpSocket is the Linux UDP. Its headers point at its own arrays, so it must
// not be copied and always lives on the heap.
type udpSocket struct {
	fd       int
	ipv6     bool
	local    netip.AddrPort
	wildcard bool  // the local address of each datagram matters
	here     Local // of every datagram unless wildcard
	segments int
	counters *Counters
	// sendmmsg is the kernel's; a field, so that a test can play a kernel that refuses.
	sendmmsg func(first, n int) (sent int, errno syscall.Errno)

	recv        [MaxReceive]mmsghdr
	recvVec     [MaxReceive]unix.Iovec
	recvName    [MaxReceive]unix.RawSockaddrInet6
	recvControl [MaxReceive][controlSpace]byte

	send        [sendSlots]mmsghdr
	sendSlot    [sendSlots]slot
	sendVec     [sendSlots][MaxPackets]unix.Iovec
	sendName    [sendSlots]unix.RawSockaddrInet6
	sendControl [sendSlots]sendControl
}

// NewUDP wraps a bound UDP socket. It duplicates fd; the caller keeps its own.
// It probes for UDP_SEGMENT and switches kernel timestamps and drop counts on.
// An unbound or foreign descriptor is an error.
func NewUDP(fd int, opts UDPOptions) (UDP, error) {
	probe := segmentationWorks
	if opts.NoOffload {
		probe = func(int) bool { return false }
	}
	return newUDP(fd, opts, probe)
}

// newUDP is NewUDP with the question for UDP_SEGMENT as a function, so that a test
// can play a kernel without.
func newUDP(fd int, opts UDPOptions, segmentation func(fd int) bool) (UDP, error) {
	local, err := localAddr(fd)
	if err != nil {
		return nil, fmt.Errorf("address of udp socket %d: %w", fd, err)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate udp socket %s: %w", local, err)
	}
	u := &udpSocket{fd: own, ipv6: local.Addr().Is6(), local: local, segments: 1, counters: opts.Counters}
	if u.wildcard = local.Addr().IsUnspecified(); !u.wildcard {
		u.here = LocalOf(local.Addr())
	}
	if u.counters == nil {
		u.counters = &Counters{}
	}
	if segmentation(own) {
		u.segments = MaxPackets
	}
	// Both options may be missing in a sandbox; the socket works without.
	if !opts.NoTimestamps {
		_ = unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	_ = unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	askForLocal(own, local.Addr())
	u.sendmmsg = u.kernelSend
	u.prepareHeaders()
	return u, nil
}

// segmentationWorks asks the kernel whether it knows UDP_SEGMENT.
func segmentationWorks(fd int) bool {
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	return err == nil
}

// prepareHeaders fills in all that is the same for every datagram.
func (u *udpSocket) prepareHeaders() {
	for i := range u.recv {
		h := &u.recv[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&u.recvName[i]))
		h.Iov = &u.recvVec[i]
		h.SetIovlen(1)
		h.Control = &u.recvControl[i][0]
	}
	nameLen := uint32(unix.SizeofSockaddrInet4)
	family := uint16(unix.AF_INET)
	if u.ipv6 {
		nameLen, family = unix.SizeofSockaddrInet6, unix.AF_INET6
	}
	for i := range u.send {
		h := &u.send[i].hdr
		u.sendName[i].Family = family
		h.Name = (*byte)(unsafe.Pointer(&u.sendName[i]))
		h.Namelen = nameLen
		h.Iov = &u.sendVec[i][0]
		c := (*unix.Cmsghdr)(unsafe.Pointer(&u.sendControl[i].segment))
		c.Level, c.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		c.SetLen(unix.CmsgLen(2))
		u.prepareSource(&u.sendControl[i])
	}
}

func (u *udpSocket) FD() int                   { return u.fd }
func (u *udpSocket) LocalAddr() netip.AddrPort { return u.local }
func (u *udpSocket) MaxSegments() int          { return u.segments }

func (u *udpSocket) Close() error {
	if u.fd < 0 {
		return nil
	}
	err := unix.Close(u.fd)
	u.fd = -1
	return err
}

// ReadBatch is one recvmmsg.
func (u *udpSocket) ReadBatch(ms []Message) (int, error) {
	ms = ms[:min(len(ms), MaxReceive)]
	if len(ms) == 0 {
		return 0, nil
	}
	for i := range ms {
		h := &u.recv[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSpace)
		u.recvVec[i].Base = unsafe.SliceData(ms[i].Buf)
		u.recvVec[i].SetLen(len(ms[i].Buf))
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(u.fd), uintptr(unsafe.Pointer(&u.recv[0])),
		uintptr(len(ms)), unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(ms)
	switch errno {
	case 0:
		return u.received(ms[:n]), nil
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED:
		return 0, nil
	default:
		return 0, fmt.Errorf("receive on %s: %w", u.local, errno)
	}
}

// received fills in what the kernel wrote beside the datagrams. A truncated one
// changes places with a later whole one, so that no buffer is lost.
func (u *udpSocket) received(ms []Message) int {
	out := 0
	for i := range ms {
		h := &u.recv[i]
		if h.hdr.Flags&unix.MSG_TRUNC != 0 {
			u.counters.Truncated++
			continue
		}
		if out != i {
			ms[out], ms[i] = ms[i], ms[out]
		}
		m := &ms[out]
		m.N = int(h.n)
		m.Addr = addrOf(&u.recvName[i])
		m.Local = u.here
		m.ArrivalNanos = u.readControl(u.recvControl[i][:h.hdr.Controllen], &m.Local)
		if u.ipv6 {
			m.Local.setScope(&u.recvName[i])
		}
		u.counters.ReceivedPackets++
		u.counters.ReceivedBytes += uint64(h.n)
		out++
	}
	return out
}

// readControl returns the arrival time, 0: none. It notes the drop count, and the local
// address where the kernel tells one.
func (u *udpSocket) readControl(b []byte, local *Local) int64 {
	var arrival int64
	for len(b) >= unix.SizeofCmsghdr {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(c.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			break
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case c.Level != unix.SOL_SOCKET:
			local.read(c, data)
		case c.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			arrival = (*unix.Timespec)(unsafe.Pointer(&data[0])).Nano()
		case c.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			u.counters.KernelDrops = binary.NativeEndian.Uint32(data)
		}
		b = b[min(unix.CmsgSpace(len(data)), len(b)):]
	}
	return arrival
}

// WriteBatch prepares up to sendSlots messages at a time and hands them to sendmmsg.
func (u *udpSocket) WriteBatch(ss []Send) (int, error) {
	next, packet := 0, 0
	for next < len(ss) {
		var n int
		n, next, packet = u.prepare(ss, next, packet)
		for first := 0; first < n; {
			sent, errno := u.sendmmsg(first, n)
			u.countSent(ss, first, first+sent)
			first += sent
			if errno == 0 {
				continue
			}
			at := u.sendSlot[first]
			if errno == unix.EAGAIN {
				return u.stop(ss, at.send, at.from)
			}
			if at.count == 1 {
				u.refuse(at.count, errno)
				first++
				continue
			}
			done, err := u.sendSingly(&ss[at.send], at, errno)
			if err != nil {
				return u.stop(ss, at.send, done)
			}
			// The slots behind were prepared for a kernel that takes segments.
			next, packet = at.send, done
			break
		}
	}
	runtime.KeepAlive(ss)
	return len(ss), nil
}

// stop ends a WriteBatch at a packet that the full socket did not take.
func (u *udpSocket) stop(ss []Send, send, packet int) (int, error) {
	u.counters.WouldBlock++
	ss[send].Packets = ss[send].Packets[packet:]
	return send, ErrWouldBlock
}

func (u *udpSocket) refuse(packets int, errno syscall.Errno) {
	u.counters.Refused += uint64(packets)
	u.counters.LastError = errno
}

func (u *udpSocket) countSent(ss []Send, from, to int) {
	for i := from; i < to; i++ {
		s := u.sendSlot[i]
		u.counters.SentPackets += uint64(s.count)
		for _, p := range ss[s.send].Packets[s.from : s.from+s.count] {
			u.counters.SentBytes += uint64(len(p))
		}
	}
}

// kernelSend sends the prepared messages [first,n) and returns how many are gone;
// an error concerns the message first.
func (u *udpSocket) kernelSend(first, n int) (int, syscall.Errno) {
	for {
		sent, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(u.fd),
			uintptr(unsafe.Pointer(&u.send[first])), uintptr(n-first), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(sent), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// prepare fills slots with packets from ss[next].Packets[packet] on. It returns
// how many slots it filled and where it stopped.
func (u *udpSocket) prepare(ss []Send, next, packet int) (n, nextOut, packetOut int) {
	for next < len(ss) && n < sendSlots {
		s := &ss[next]
		if packet >= len(s.Packets) {
			next, packet = next+1, 0
			continue
		}
		if !u.setName(n, s) {
			// Counted when all before it is gone, or it might be counted twice.
			if n > 0 {
				break
			}
			u.refuse(len(s.Packets)-packet, unix.EAFNOSUPPORT)
			next, packet = next+1, 0
			continue
		}
		count := u.together(s, packet)
		u.fill(n, slot{send: next, from: packet, count: count}, s)
		n++
		packet += count
	}
	return n, next, packet
}

// together is how many packets from the given one on may leave as one message.
func (u *udpSocket) together(s *Send, from int) int {
	size := s.SegmentSize
	if u.segments == 1 || size <= 0 || size > MaxSendBytes {
		return 1
	}
	limit := min(u.segments, len(s.Packets)-from, MaxSendBytes/size)
	for n := range limit {
		length := len(s.Packets[from+n])
		if length == size {
			continue
		}
		if 0 < length && length < size {
			n++
		}
		return max(n, 1)
	}
	return max(limit, 1)
}

// fill writes one message header.
func (u *udpSocket) fill(i int, at slot, s *Send) {
	u.sendSlot[i] = at
	h := &u.send[i].hdr
	for k, p := range s.Packets[at.from : at.from+at.count] {
		u.sendVec[i][k].Base = unsafe.SliceData(p)
		u.sendVec[i][k].SetLen(len(p))
	}
	h.SetIovlen(at.count)
	control := &u.sendControl[i]
	first, size := &control.segment[0], 0
	if at.count > 1 {
		binary.NativeEndian.PutUint16(control.segment[unix.SizeofCmsghdr:], uint16(s.SegmentSize))
		size = unix.CmsgSpace(2)
	}
	if u.wildcard && s.Local.addr != [16]byte{} {
		n := u.sourceSize()
		u.setSource(control.source[sourceSpace-n+unix.SizeofCmsghdr:], &s.Local)
		first, size = &control.source[sourceSpace-n], size+n
	}
	if h.Control = first; size == 0 {
		h.Control = nil
	}
	h.SetControllen(size)
}

// setName writes the destination of a slot; false: of the wrong family.
func (u *udpSocket) setName(i int, s *Send) bool {
	to, addr := s.Addr, s.Addr.Addr()
	if u.ipv6 {
		if !addr.Is6() || addr.Is4In6() {
			return false
		}
		name := &u.sendName[i]
		name.Port = networkOrder(to.Port())
		name.Addr = addr.As16()
		name.Scope_id = s.Local.scope // the kernel looks at it for link-local addresses only
		return true
	}
	if !addr.Is4() {
		return false
	}
	name := (*unix.RawSockaddrInet4)(unsafe.Pointer(&u.sendName[i]))
	name.Port = networkOrder(to.Port())
	name.Addr = addr.As4()
	return true
}

// sendSingly sends the packets of a refused message one by one and returns the
// index of the first packet of the Send that is not dealt with. The offload is
// at fault, and dropped for the socket, if the destination takes a single packet. One
// whose path is gone (EINVAL: the machine lost the source address) takes none, and only
// one is tried.
func (u *udpSocket) sendSingly(s *Send, at slot, cause syscall.Errno) (int, error) {
	u.counters.LastError = cause
	for i := at.from; i < at.from+at.count; i++ {
		u.fill(0, slot{from: i, count: 1}, s)
		u.setName(0, s)
		switch sent, errno := u.sendmmsg(0, 1); {
		case errno == unix.EAGAIN:
			return i, ErrWouldBlock
		case errno == unix.EINVAL && cause == unix.EINVAL:
			u.refuse(at.from+at.count-i, errno)
			return at.from + at.count, nil
		case errno != 0:
			u.refuse(1, errno)
		default:
			u.counters.SentPackets += uint64(sent)
			u.counters.SentBytes += uint64(len(s.Packets[i]))
			// EMSGSIZE concerns one path only: its MTU is below the segment size.
			if u.segments > 1 && (cause == unix.EIO || cause == unix.EINVAL || cause == unix.EOPNOTSUPP) {
				u.segments = 1
				u.counters.OffloadDropped = 1
			}
		}
	}
	return at.from + at.count, nil
}
