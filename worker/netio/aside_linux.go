package netio

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Places of the two sockets in the kernel's group.
const (
	groupMain = iota
	groupAside
)

// OpenAside opens a second socket on u's address, which from then on receives instead of
// u what may wait for a moment while nobody speaks: STUN and RTCP (RFC 7983, RFC 5761).
// So one can wait for the rest only. It is for reading; when it is closed, u receives
// everything again. Where the kernel refuses, there is an error and u is as before.
func OpenAside(u UDP, opts UDPOptions) (UDP, error) {
	fd, err := openBeside(u)
	if err != nil {
		return nil, fmt.Errorf("second socket on %s: %w", u.LocalAddr(), err)
	}
	aside, err := newUDP(fd, opts, func(int) bool { return false })
	return aside, errors.Join(err, unix.Close(fd))
}

func openBeside(u UDP) (int, error) {
	local := u.LocalAddr()
	family := unix.AF_INET
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	askForLocal(fd, local.Addr()) // it receives from the bind on
	if err := join(fd, u); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// join binds the socket to u's address and divides what comes.
func join(fd int, u UDP) error {
	if local := u.LocalAddr().Addr(); local.Is6() {
		only, err := unix.GetsockoptInt(u.FD(), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return fmt.Errorf("read IPV6_V6ONLY: %w", err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("set IPV6_V6ONLY: %w", err)
		}
	}
	// What the kernel tells is twice what it was asked for (socket(7)).
	if size, err := unix.GetsockoptInt(u.FD(), unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size/2) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size/2)
		}
	}
	for _, member := range []int{u.FD(), fd} {
		if err := unix.SetsockoptInt(member, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("set SO_REUSEPORT: %w", err)
		}
	}
	name, err := unix.Getsockname(u.FD())
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	if err := unix.Bind(fd, name); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	filter := divide()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &program); err != nil {
		return fmt.Errorf("set SO_ATTACH_REUSEPORT_CBPF: %w", err)
	}
	return nil
}

// divide returns the place in the group of the socket that gets a datagram. The kernel
// numbers the group by age; a place that is vacant means the other one.
func divide() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: 4, Jf: 6}, // STUN: to the aside
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xc0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x80, Jf: 3}, // not of RTP's version
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 1},
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: 192, Jf: 1},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: 223, Jf: 1}, // RTCP: to the aside
		{Code: unix.BPF_RET | unix.BPF_K, K: groupMain},
		{Code: unix.BPF_RET | unix.BPF_K, K: groupAside},
	}
}
