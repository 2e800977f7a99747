package rtc

import (
	"fmt"
	"slices"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/ortc"
)

// Bounds of app data, in bytes.
const (
	maxRouterAppData    = 4 << 10
	maxTransportAppData = 16 << 10
)

// router is the media side of one channel: consumers find their producers only
// within it. It belongs to the loop.
type router struct {
	id         ident.RouterID
	rec        *ledger.Router
	mark       uint64 // names it in the ledger's header
	caps       ortc.RtpCapabilities
	transports []*transport // in no order
}

func (l *Loop) createRouter(id ident.RouterID, appData []byte, request ledger.Digest) (ortc.RtpCapabilities, error) {
	var none ortc.RtpCapabilities
	if err := checkID("router", string(id)); err != nil {
		return none, err
	}
	if err := checkAppData(appData, maxRouterAppData); err != nil {
		return none, fmt.Errorf("create router %s: %w", id, err)
	}
	if r := l.table.routers[id]; r != nil {
		if r.rec.Request == request {
			return r.caps, nil
		}
		return none, fmt.Errorf("create router %s: %w", id, errs.ErrExists)
	}
	if n := len(l.table.routers); n >= l.cfg.Limits.Routers {
		return none, fmt.Errorf("create router: %d routers: %w", n, errs.ErrExhausted)
	}
	rec, err := l.ledger.Routers.New()
	if err != nil {
		return none, fmt.Errorf("create router: %w", err)
	}
	if err := l.ledger.SetBlob(&rec.AppData, appData); err != nil {
		l.ledger.Routers.Free(rec)
		return none, fmt.Errorf("create router: %w", err)
	}
	rec.Name.Set(string(id))
	rec.Request = request
	l.ledger.Routers.Commit(rec)
	return l.addRouter(rec).caps, nil
}

// addRouter puts a router of the ledger in its place.
func (l *Loop) addRouter(rec *ledger.Router) *router {
	id := rec.Name.String()
	r := &router{
		id: ident.RouterID(id), rec: rec, mark: ledgerfile.Mark(id),
		caps: l.table.caps,
	}
	l.table.routers[r.id] = r
	return r
}

func checkAppData(b []byte, limit int) error {
	if len(b) > limit {
		return fmt.Errorf("%d bytes of app data, want at most %d: %w", len(b), limit, errs.ErrInvalid)
	}
	return nil
}

func (l *Loop) setRouterAppData(id ident.RouterID, appData []byte) error {
	r, err := l.routerByID(id)
	if err == nil {
		err = checkAppData(appData, maxRouterAppData)
	}
	if err == nil {
		err = l.ledger.SetBlob(&r.rec.AppData, appData)
	}
	if err != nil {
		return fmt.Errorf("set app data: %w", err)
	}
	return nil
}

func (l *Loop) routerByID(id ident.RouterID) (*router, error) {
	if r := l.table.routers[id]; r != nil {
		l.take(r)
		return r, nil
	}
	return nil, fmt.Errorf("router %s: %w", id, errs.ErrNotFound)
}

func (l *Loop) closeRouter(id ident.RouterID) error {
	r, err := l.routerByID(id)
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	l.destroyRouter(r)
	return nil
}

func (l *Loop) destroyRouter(r *router) {
	l.ledger.Routers.Condemn(r.rec) // a successor goes on with all of it, or with nothing
	for len(r.transports) > 0 {
		l.destroyTransport(r.transports[len(r.transports)-1])
	}
	delete(l.table.routers, r.id)
	l.ledger.Routers.Free(r.rec)
}

// remove takes a transport out of its router.
func (r *router) remove(t *transport) {
	i, last := slices.Index(r.transports, t), len(r.transports)-1
	r.transports[i], r.transports[last] = r.transports[last], nil
	r.transports = r.transports[:last]
}

// take notes in the ledger's header whose packet or call the loop works on: if it
// crashes the worker, the supervisor knows whose it was.
func (l *Loop) take(r *router) {
	if l.inHand != r.mark {
		l.inHand = r.mark
		l.ledger.Header().SetInHand(r.mark)
	}
}

// putDown ends take.
func (l *Loop) putDown() {
	if l.inHand != 0 {
		l.inHand = 0
		l.ledger.Header().SetInHand(0)
	}
}
