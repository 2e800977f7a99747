package supervisor

import (
	"context"
	"log/slog"
	"time"

	"github.com/dspeak/sfu/internal/errs/status"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling/wire"
)

func (c *call) getRtpCapabilities(ctx context.Context) error {
	_, r, err := c.router(ctx)
	if err != nil {
		return err
	}
	c.session.Send(wire.RtpCapabilitiesMessage{RequestID: c.requestID, Data: r.capabilities})
	return nil
}

func (c *call) clientRtpCapabilities(ctx context.Context, data wire.ClientRtpCapabilities) error {
	caps, err := capabilitiesFrom(data.RtpCapabilities)
	if err != nil {
		return wire.ErrInvalidCapabilities()
	}
	c.registry.mu.Lock()
	u := c.userLocked()
	if u == nil {
		c.registry.mu.Unlock()
		return errSessionClosed
	}
	u.capabilities = caps
	c.registry.mu.Unlock()
	c.keepCapabilities(ctx, u)
	c.session.Send(wire.RtpCapabilitiesAck{RequestID: c.requestID})
	return nil
}

func (c *call) createTransport(ctx context.Context) error {
	u, r, err := c.router(ctx)
	if err != nil {
		return err
	}
	if !c.makeRoom(ctx, u) {
		return wire.ErrLimit("transports")
	}
	family, announced, err := c.announced(ctx, r.slot)
	if err != nil {
		return err
	}
	client, err := c.client(r)
	if err != nil {
		return wire.ErrRouterNotReady()
	}
	t := c.newTransport(u)
	defer c.registry.make(string(t.id))()
	data, err := u.appData(t.created, t.told)
	if err != nil {
		c.log.Warn("transport will not outlive the supervisor", slog.String(obs.KeyTransport, string(t.id)), obs.Err(err))
	}
	resp, err := client.CreateTransport(ctx, &workerv1.CreateTransportRequest{
		RouterId: string(r.id), TransportId: string(t.id), Family: family, Announced: announced, AppData: data,
	})
	if err != nil {
		if uncertain(err) {
			c.carryOut(ctx, cleanup{router: *r, transports: []ident.TransportID{t.id}})
		}
		return refused(err, wire.ErrCreateTransportFailed)
	}
	answer, err := c.transportParams(t.id, resp)
	if err != nil {
		return err
	}
	c.registry.mu.Lock()
	if moved := u.channel.router != r; u.gone || moved || c.ended() {
		c.registry.mu.Unlock()
		c.carryOut(ctx, cleanup{router: *r, transports: []ident.TransportID{t.id}})
		if moved {
			return wire.ErrRouterNotReady()
		}
		return errSessionClosed
	}
	u.transports = append(u.transports, t)
	c.session.Send(answer)
	late := t.told != u.capabilities
	c.registry.mu.Unlock()
	if late {
		c.keepCapabilities(ctx, u)
	}
	return nil
}

// newTransport is a transport that the worker and the user do not have yet.
func (c *call) newTransport(u *user) *transport {
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	return &transport{
		id: ident.TransportID(ident.NewTimed()), session: c.session, created: time.Now(),
		told: u.capabilities, consuming: map[ident.ProducerID]*producer{},
	}
}

// refused turns a worker's refusal into the client's error; a worker that is gone
// or does not answer is "Router not ready".
func refused(err error, as func(error) *wire.Error) error {
	if uncertain(err) {
		return wire.ErrRouterNotReady()
	}
	return as(status.Remote(err))
}

func (c *call) transportParams(id ident.TransportID, resp *workerv1.CreateTransportResponse) (wire.TransportParams, error) {
	m := wire.TransportParams{RequestID: c.requestID, Data: wire.TransportParamsData{ID: id}}
	var err error
	if m.Data.IceParameters, err = toJSON(resp.GetIceParameters()); err != nil {
		return m, err
	}
	if m.Data.DtlsParameters, err = toJSON(resp.GetDtlsParameters()); err != nil {
		return m, err
	}
	list := []byte{'['}
	for i, candidate := range resp.GetIceCandidates() {
		if i > 0 {
			list = append(list, ',')
		}
		one, err := toJSON(candidate)
		if err != nil {
			return m, err
		}
		list = append(list, one...)
	}
	list = append(list, ']')
	m.Data.IceCandidates = list
	if servers := c.iceServers.Load(); servers != nil {
		m.Data.IceServers = *servers
	}
	return m, nil
}

func (c *call) connectTransport(ctx context.Context, data wire.ConnectTransport) error {
	u, targets, r, err := c.toConnect(data.TransportID)
	if err != nil {
		return err
	}
	if data.Fault != nil {
		return data.Fault
	}
	params, err := dtlsParametersFrom(data.DtlsParameters)
	if err != nil {
		return wire.ErrConnectFailed(err)
	}
	client, err := c.client(r)
	if err != nil {
		return wire.ErrConnectFailed(err)
	}
	for _, t := range targets {
		_, err := client.ConnectTransport(ctx, &workerv1.ConnectTransportRequest{TransportId: string(t.id), DtlsParameters: params})
		if err != nil {
			return wire.ErrConnectFailed(status.Remote(err))
		}
		c.registry.mu.Lock()
		t.connected = true
		c.mediaBackLocked(u)
		c.registry.mu.Unlock()
	}
	c.session.Send(wire.TransportConnected{RequestID: c.requestID, ID: data.TransportID})
	return nil
}

// toConnect finds the transport with the id, or all that are not connected yet.
func (c *call) toConnect(id ident.TransportID) (*user, []*transport, *router, error) {
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	u := c.userLocked()
	if u == nil {
		return nil, nil, nil, errSessionClosed
	}
	if id != "" {
		if t := u.transport(id); t != nil {
			return u, []*transport{t}, u.channel.router, nil
		}
		return nil, nil, nil, wire.ErrTransportNotFound()
	}
	if len(u.transports) == 0 {
		return nil, nil, nil, wire.ErrTransportNotFound()
	}
	var targets []*transport
	for _, t := range u.candidates(c.session) {
		if !t.connected {
			targets = append(targets, t)
		}
	}
	return u, targets, u.channel.router, nil
}

func (c *call) closeTransport(ctx context.Context, data wire.CloseTransport) error {
	c.registry.mu.Lock()
	u := c.userLocked()
	if u == nil {
		c.registry.mu.Unlock()
		return errSessionClosed
	}
	t := u.transport(data.TransportID)
	if t == nil {
		c.registry.mu.Unlock()
		return wire.ErrTransportNotFound()
	}
	p := c.registry.dropTransportLocked(u, t)
	if p != nil {
		c.endProducerLocked(p, c.session)
	}
	c.session.Send(wire.TransportCloseAnswer{RequestID: c.requestID, ID: t.id})
	if p != nil {
		c.changedLocked(u.channel, changeProducers)
	}
	todo := cleanup{transports: []ident.TransportID{t.id}}
	if r := u.channel.router; r != nil {
		todo.router = *r
	}
	c.registry.mu.Unlock()
	c.carryOut(ctx, todo)
	return nil
}
