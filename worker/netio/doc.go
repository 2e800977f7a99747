// Package netio owns the media sockets of a worker: UDP in batches, TCP with
// RFC 4571 framing, and the wait for all of them.
//
// Everything is non-blocking and belongs to one goroutine, the media loop;
// only Poller.Wake may be called from elsewhere. The package starts no
// goroutine, takes no lock and allocates nothing per packet: message headers,
// addresses and control buffers are built once per socket. On Linux it uses
// recvmmsg, sendmmsg, UDP_SEGMENT, ppoll and epoll by raw system calls that
// never block, and a plain fallback elsewhere. Callers never see the platform.
//
// It must not import anything of ours but internal packages.
package netio
