package rtc

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// dtlsPipe is the packet connection under the client's DTLS.
type dtlsPipe struct {
	c        *client
	once     sync.Once
	closed   chan struct{}
	mu       sync.Mutex
	deadline time.Time
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func (p *dtlsPipe) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	deadline := p.deadline
	p.mu.Unlock()
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case d := <-p.c.dtls:
		return copy(b, d), pipeAddr{}, nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (p *dtlsPipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	p.c.send(b)
	return len(b), nil
}

func (p *dtlsPipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *dtlsPipe) LocalAddr() net.Addr { return pipeAddr{} }

func (p *dtlsPipe) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

func (p *dtlsPipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	return nil
}

func (p *dtlsPipe) SetWriteDeadline(time.Time) error { return nil }
