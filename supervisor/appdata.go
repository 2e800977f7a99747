package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
)

// App data is what the registry keeps on the workers' objects: enough for the next
// supervisor to know whose they are.

// Bounds of app data, as the worker has them, and of the names in it.
const (
	maxRouterData    = 4 << 10
	maxTransportData = 16 << 10
	maxNameBytes     = 4096
)

// routerData is a router's app data, as JSON. Times are nanoseconds since 1970.
type routerData struct {
	ChannelID ident.ChannelID `json:"channelId"`
	Created   int64           `json:"created"`
}

// transportData is a transport's app data.
type transportData struct {
	UserID ident.UserID `json:"userId"`
	// Joined is when the user came into the channel.
	Joined  int64 `json:"joined"`
	Created int64 `json:"created"`
	// Capabilities are the client's last RTP capabilities, in protobuf form; absent
	// before it sent some.
	Capabilities []byte `json:"capabilities,omitempty"`
}

func (ch *channel) appData() ([]byte, error) {
	return encodeAppData(routerData{ChannelID: ch.id, Created: ch.created.UnixNano()}, maxRouterData)
}

// appData describes a transport of the user. Capabilities that do not fit are left
// out: a client that comes back sends them again.
func (u *user) appData(created time.Time, caps *workerv1.RtpCapabilities) ([]byte, error) {
	data := transportData{UserID: u.id, Joined: u.joined.UnixNano(), Created: created.UnixNano()}
	if caps != nil {
		var err error
		if data.Capabilities, err = proto.Marshal(caps); err != nil {
			return nil, fmt.Errorf("encode capabilities: %w", err)
		}
	}
	b, err := encodeAppData(data, maxTransportData)
	if errors.Is(err, errs.ErrExhausted) && caps != nil {
		data.Capabilities = nil
		b, err = encodeAppData(data, maxTransportData)
	}
	return b, err
}

func encodeAppData(data any, limit int) ([]byte, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode app data: %w", err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%d bytes of app data, want at most %d: %w", len(b), limit, errs.ErrExhausted)
	}
	return b, nil
}

// decodeRouterData reads what a worker says. Faults wrap errs.ErrInvalid.
func decodeRouterData(b []byte) (routerData, error) {
	var data routerData
	if err := decodeAppData(b, maxRouterData, &data); err != nil {
		return routerData{}, err
	}
	if data.ChannelID == "" || len(data.ChannelID) > maxNameBytes {
		return routerData{}, fmt.Errorf("app data with a channel id of %d bytes: %w", len(data.ChannelID), errs.ErrInvalid)
	}
	return data, nil
}

// decodeTransportData reads what a worker says. Faults wrap errs.ErrInvalid.
func decodeTransportData(b []byte) (transportData, error) {
	var data transportData
	if err := decodeAppData(b, maxTransportData, &data); err != nil {
		return transportData{}, err
	}
	if data.UserID == "" || len(data.UserID) > maxNameBytes {
		return transportData{}, fmt.Errorf("app data with a user id of %d bytes: %w", len(data.UserID), errs.ErrInvalid)
	}
	return data, nil
}

func decodeAppData(b []byte, limit int, into any) error {
	if len(b) > limit {
		return fmt.Errorf("%d bytes of app data: %w", len(b), errs.ErrInvalid)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("malformed app data: %w: %w", err, errs.ErrInvalid)
	}
	return nil
}

// capabilities are those of the client, nil without any that can be read.
func (d *transportData) capabilities() *workerv1.RtpCapabilities {
	if len(d.Capabilities) == 0 {
		return nil
	}
	caps := &workerv1.RtpCapabilities{}
	if err := proto.Unmarshal(d.Capabilities, caps); err != nil {
		return nil
	}
	return caps
}

// keepCapabilities writes the user's last capabilities to its transports, where the
// next supervisor finds them. A fault costs no more than that.
func (b *backend) keepCapabilities(ctx context.Context, u *user) {
	for ctx.Err() == nil {
		b.registry.mu.Lock()
		t, caps, r := u.untoldLocked(), u.capabilities, u.channel.router
		b.registry.mu.Unlock()
		if t == nil || r == nil {
			return
		}
		err := b.setAppData(ctx, u, t, caps, r)
		// What was written last counts, here as there: two sockets of the user may
		// come at once.
		b.registry.mu.Lock()
		t.told = caps
		b.registry.mu.Unlock()
		if err != nil && !errors.Is(err, errs.ErrNotFound) {
			b.log.Warn("capabilities not kept", slog.String(obs.KeyTransport, string(t.id)), obs.Err(err))
		}
	}
}

// untoldLocked is a transport whose app data is out of date.
func (u *user) untoldLocked() *transport {
	for _, t := range u.transports {
		if t.told != u.capabilities {
			return t
		}
	}
	return nil
}

func (b *backend) setAppData(ctx context.Context, u *user, t *transport, caps *workerv1.RtpCapabilities, r *router) error {
	client, err := b.client(r)
	if err != nil {
		return err
	}
	data, err := u.appData(t.created, caps)
	if err != nil {
		return err
	}
	_, err = client.SetTransportAppData(ctx, &workerv1.SetTransportAppDataRequest{TransportId: string(t.id), AppData: data})
	return err
}
