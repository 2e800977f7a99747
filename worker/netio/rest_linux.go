package netio

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rest is how a Poller waits on the Go runtime's own poller: an epoll descriptor of the
// sockets that matter, which the runtime watches like any file.
type rest struct {
	file  *os.File
	set   syscall.RawConn
	ready func(set uintptr) bool // whether anything is; made once
	armed bool                   // the sockets are in the set
	one   [1]unix.EpollEvent
}

func newRest() (*rest, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime would not watch it
		return nil, errors.Join(fmt.Errorf("epoll descriptor: %w", err), unix.Close(fd))
	}
	r := &rest{file: os.NewFile(uintptr(fd), "rest")}
	r.ready = func(set uintptr) bool {
		n, err := unix.EpollWait(int(set), r.one[:], 0)
		return n > 0 || err != nil
	}
	if r.set, err = r.file.SyscallConn(); err == nil {
		err = r.file.SetReadDeadline(time.Time{}) // an error: the runtime does not watch it
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("epoll descriptor: %w", err), r.file.Close())
	}
	return r, nil
}

// AddAside is AddUDP for a socket that does not end a Rest.
func (p *Poller) AddAside(u UDP) (index int, err error) {
	if index, err = p.AddUDP(u); err == nil {
		p.aside |= 1 << index
	}
	return index, err
}

// Rest waits like Wait for all but asides, but as goroutines wait: the Go runtime knows
// of it and sleeps as well, instead of looking a hundred times a second whether the loop
// should be interrupted. It ends by EndRest, too. A wake-up costs more than in Wait: it
// is for times when there are few. What is ready, the next Wait tells.
func (p *Poller) Rest(d time.Duration) error {
	if err := p.arm(); err != nil {
		return err
	}
	if err := p.rest.file.SetReadDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("rest: %w", err)
	}
	if err := p.rest.set.Read(p.rest.ready); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("rest: %w", err)
	}
	return nil
}

// EndRest ends a Rest, and nothing else. Any goroutine.
func (p *Poller) EndRest() {
	_ = p.rest.file.SetReadDeadline(time.Unix(0, 1)) // after Close there is nothing to end
}

// arm puts the sockets into the set, disarm takes them out: else each packet of a busy
// time would wake a thread of the runtime.
func (p *Poller) arm() error {
	if p.rest.armed {
		return nil
	}
	p.rest.armed = true
	return p.eachOfRest(func(set, fd int) error {
		return unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	})
}

func (p *Poller) disarm() {
	if !p.rest.armed {
		return
	}
	p.rest.armed = false
	_ = p.eachOfRest(func(set, fd int) error { return unix.EpollCtl(set, unix.EPOLL_CTL_DEL, fd, nil) })
}

func (p *Poller) eachOfRest(do func(set, fd int) error) error {
	var fault error
	err := p.rest.set.Control(func(set uintptr) {
		for i, fd := range p.fds[:p.n] {
			if i >= pollUDP && p.aside&(1<<(i-pollUDP)) != 0 {
				continue
			}
			if err := do(int(set), int(fd.Fd)); err != nil && fault == nil {
				fault = fmt.Errorf("epoll_ctl: %w", err)
			}
		}
	})
	return errors.Join(err, fault)
}
