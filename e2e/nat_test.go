package e2e

import (
	"net"
	"net/netip"
	"sync"
	"testing"
)

// nat passes datagrams between clients and a server as a NAT does: each client has a port
// towards the server, which may change.
type nat struct {
	front *net.UDPConn // clients send here

	mu      sync.Mutex
	to      netip.AddrPort                  // the server; guarded by mu
	current map[netip.AddrPort]*net.UDPConn // by client; guarded by mu
	opened  []*net.UDPConn                  // guarded by mu
	closed  bool                            // guarded by mu
	reading sync.WaitGroup
}

func newNAT(t *testing.T, host string) *nat {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Fatal(err)
	}
	n := &nat{front: front, current: map[netip.AddrPort]*net.UDPConn{}}
	t.Cleanup(n.close)
	return n
}

func (n *nat) port() int { return portOfUDP(n.front).Port }

func portOfUDP(conn *net.UDPConn) *net.UDPAddr {
	addr, _ := conn.LocalAddr().(*net.UDPAddr)
	return addr
}

// forward begins to pass datagrams on.
func (n *nat) forward(t *testing.T, host string, port int) {
	t.Helper()
	n.to = netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port))
	n.reading.Go(func() {
		buf := make([]byte, 2048)
		for {
			size, from, err := n.front.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if out := n.portFor(from); out != nil {
				_, _ = out.Write(buf[:size])
			}
		}
	})
}

// portFor is the socket towards the server of a client.
func (n *nat) portFor(client netip.AddrPort) *net.UDPConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if out := n.current[client]; out != nil || n.closed {
		return out
	}
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(n.to))
	if err != nil {
		return nil
	}
	n.current[client] = out
	n.opened = append(n.opened, out)
	n.reading.Go(func() { n.back(client, out) })
	return out
}

// back passes on what the server sends to the client's present port. What it sends to a
// former one is lost without a word.
func (n *nat) back(client netip.AddrPort, out *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		size, err := out.Read(buf)
		n.mu.Lock()
		present, closed := n.current[client] == out, n.closed
		n.mu.Unlock()
		if closed {
			return
		}
		if err == nil && present {
			_, _ = n.front.WriteToUDPAddrPort(buf[:size], client)
		}
	}
}

// changePorts gives every client another port.
func (n *nat) changePorts() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.current)
}

func (n *nat) close() {
	n.mu.Lock()
	n.closed = true
	for _, out := range n.opened {
		_ = out.Close()
	}
	n.mu.Unlock()
	_ = n.front.Close()
	n.reading.Wait()
}
