package rtc

import (
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/worker/ortc"
)

// router is the media side of one channel: consumers find their producers only
// within it. It belongs to the loop.
type router struct {
	id         ident.RouterID
	caps       ortc.RtpCapabilities
	transports map[ident.TransportID]*transport
}

func (l *Loop) createRouter(id ident.RouterID) (ortc.RtpCapabilities, error) {
	if err := checkID("router", string(id)); err != nil {
		return ortc.RtpCapabilities{}, err
	}
	if l.table.routers[id] != nil {
		return ortc.RtpCapabilities{}, fmt.Errorf("create router %s: %w", id, errs.ErrExists)
	}
	if n := len(l.table.routers); n >= l.cfg.Limits.Routers {
		return ortc.RtpCapabilities{}, fmt.Errorf("create router: %d routers: %w", n, errs.ErrExhausted)
	}
	r := &router{id: id, caps: ortc.RouterRtpCapabilities(), transports: map[ident.TransportID]*transport{}}
	l.table.routers[id] = r
	return r.caps, nil
}

func (l *Loop) closeRouter(id ident.RouterID) error {
	r := l.table.routers[id]
	if r == nil {
		return fmt.Errorf("close router %s: %w", id, errs.ErrNotFound)
	}
	l.destroyRouter(r)
	return nil
}

func (l *Loop) destroyRouter(r *router) {
	for _, t := range r.transports {
		l.destroyTransport(t)
	}
	delete(l.table.routers, r.id)
}
