package supervisor

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/mediasock"
	"github.com/dspeak/sfu/signaling"
	"github.com/dspeak/sfu/supervisor/process"
)

// bindTo are settings that bind addresses on a port which is free on the first of them.
func bindTo(t *testing.T, addrs ...string) config.Media {
	t.Helper()
	cfg := config.Media{BufferBytes: 64 << 10, IPv4Port: 1, IPv6Port: 2}
	for _, text := range addrs {
		cfg.Bind = append(cfg.Bind, netip.MustParseAddr(text))
	}
	free, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv4, Addr: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Port = int(free.Addr.Port())
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func openBound(t *testing.T, cfg config.Media, remains ...*process.Remains) *mediaSockets {
	t.Helper()
	m, err := openMediaSockets(cfg, 1, remains, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.close() })
	return m
}

func TestBoundAddressesHaveSocketsOfTheirOwn(t *testing.T) {
	cfg := bindTo(t, "127.0.0.2", "127.0.0.3")
	m := openBound(t, cfg)
	want := []string{"udp4", "tcp4", "udp4.1", "tcp4.1"}
	if s := m.slots[0]; !slices.Equal(s.Names, want) || !m.served[v4] || m.served[v6] {
		t.Fatalf("sockets %v, served %v", s.Names, m.served)
	}
	for _, kind := range []string{handoff.FileUDP4, handoff.FileTCP4} {
		if got, err := bound(m.slots[0], kind); err != nil || !slices.Equal(got, cfg.Bind) {
			t.Errorf("%s is bound to %v, %v", kind, got, err)
		}
	}
	// The port is anybody's on the other addresses.
	other, err := mediasock.Open(mediasock.Config{Family: mediasock.IPv4, Addr: netip.MustParseAddr("127.0.0.4"), Port: uint16(cfg.Port)})
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Close()
}

func TestAddressOfElsewhereIsAStartError(t *testing.T) {
	for _, addr := range []string{"192.0.2.1", "2001:db8::1"} {
		m, err := openMediaSockets(bindTo(t, "127.0.0.1", addr), 1, nil, slog.New(slog.DiscardHandler))
		if m != nil || !errors.Is(err, errs.ErrInvalid) && !errors.Is(err, mediasock.ErrFamilyMissing) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// TestRemainsAndBind: sockets that a former supervisor left are gone on with as long as
// the settings name their addresses.
func TestRemainsAndBind(t *testing.T) {
	cfg := bindTo(t, "127.0.0.2", "127.0.0.3")
	m := openBound(t, cfg)
	left := &process.Remains{Sockets: m.slots[0]}
	for name, row := range map[string]struct {
		bind []string
		fit  bool
	}{
		"the same":      {[]string{"127.0.0.2", "127.0.0.3"}, true},
		"other order":   {[]string{"127.0.0.3", "127.0.0.2"}, true},
		"one more":      {[]string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}, true}, // nobody lives that lacks it
		"one less":      {[]string{"127.0.0.2"}, false},
		"all addresses": {nil, false},
	} {
		now := cfg
		now.Bind = nil
		for _, text := range row.bind {
			now.Bind = append(now.Bind, netip.MustParseAddr(text))
		}
		if err := fits(left, 1, now); (err == nil) != row.fit {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg.Bind = append(cfg.Bind, netip.MustParseAddr("127.0.0.4"))
	again := process.Remains{Sockets: process.Sockets{
		Names: []string{"udp4.1", "tcp4.1"}, Files: slices.Clone(m.slots[0].Files[2:]),
	}}
	for _, f := range m.slots[0].Files[:2] {
		_ = f.Close()
	}
	m.slots[0] = process.Sockets{} // the others are again's
	more := openBound(t, cfg, &again)
	if got := more.slots[0].Names; !slices.Equal(got, []string{"udp4.1", "tcp4.1", "udp4", "tcp4", "udp4.2", "tcp4.2"}) {
		t.Errorf("sockets %v", got)
	}
}

// TestOnlyBoundAddressesAreAnnounced: in development, where the machine's own addresses
// are announced.
func TestOnlyBoundAddressesAreAnnounced(t *testing.T) {
	cfg := bindTo(t, "127.0.0.2", "127.0.0.3")
	m := openBound(t, cfg)
	a := newAddresses(config.Config{Environment: config.Development, Media: cfg}, m.served, slog.New(slog.DiscardHandler))
	a.refresh(t.Context())
	_, list := a.forClient(signaling.FamilyAny, 0)
	var got []string
	for _, addr := range list {
		got = append(got, addr.GetAddress())
	}
	if !slices.Equal(got, []string{"127.0.0.2", "127.0.0.3"}) {
		t.Errorf("announced %v", got)
	}
}
