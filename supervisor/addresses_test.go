package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/config"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/signaling"
)

const (
	v4 = workerv1.AddressFamily_ADDRESS_FAMILY_IPV4
	v6 = workerv1.AddressFamily_ADDRESS_FAMILY_IPV6
)

// zone answers look-ups of voice.example.org, in both families, and of four.example.org.
func zone(_ context.Context, network, name string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, addr := range map[string][]netip.Addr{
		"voice.example.org": {netip.MustParseAddr("::ffff:192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
		"four.example.org":  {netip.MustParseAddr("192.0.2.4")},
	}[name] {
		if network == "ip" || (network == "ip4") == addr.Unmap().Is4() {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no such host")
	}
	return out, nil
}

func announced(t *testing.T, media config.Media, served ...workerv1.AddressFamily) *addresses {
	t.Helper()
	media.IPv4Port, media.IPv6Port, media.ResolveInterval = 12825, 12826, time.Minute
	families := map[workerv1.AddressFamily]bool{}
	for _, f := range served {
		families[f] = true
	}
	a := newAddresses(config.Config{Environment: config.Production, Media: media}, families, slog.New(slog.DiscardHandler))
	a.lookup = zone
	a.refresh(t.Context())
	return a
}

// TestFamilyOfAClient is the rule that a family is announced only where a socket of it is
// bound and an address of it is meant.
func TestFamilyOfAClient(t *testing.T) {
	const voice = "voice.example.org"
	named := config.Media{IPv4: voice, IPv6: voice}
	preferring := func(m config.Media, family string) config.Media {
		m.PreferredFamily = family
		return m
	}
	for name, row := range map[string]struct {
		media  config.Media
		served []workerv1.AddressFamily
		client signaling.Family
		family workerv1.AddressFamily
		want   []string
	}{
		"IPv4":           {named, []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv4, v4, []string{"192.0.2.7:12828"}},
		"IPv6":           {named, []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv6, v6, []string{"[2001:db8::7]:12829"}},
		"unknown":        {named, []workerv1.AddressFamily{v4, v6}, signaling.FamilyAny, 0, []string{"192.0.2.7:12828", "[2001:db8::7]:12829"}},
		"preferred":      {preferring(named, "ipv6"), []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv4, v6, []string{"[2001:db8::7]:12829"}},
		"IPv6 not bound": {named, []workerv1.AddressFamily{v4}, signaling.FamilyIPv6, v4, []string{"192.0.2.7:12828"}},
		"IPv4 not bound": {named, []workerv1.AddressFamily{v6}, signaling.FamilyIPv4, v6, []string{"[2001:db8::7]:12829"}},
		"only literal":   {config.Media{IPv4: "198.51.100.4"}, []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv6, v4, []string{"198.51.100.4:12828"}},
		"a name of both families for IPv4 alone": {
			config.Media{IPv4: voice}, []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv6, v4, []string{"192.0.2.7:12828"},
		},
		"a name of both families for IPv6 alone": {
			config.Media{IPv6: voice}, []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv4, v6, []string{"[2001:db8::7]:12829"},
		},
		"a name of both families for IPv4 and a client of unknown family": {
			config.Media{IPv4: voice}, []workerv1.AddressFamily{v4, v6}, signaling.FamilyAny, v4, []string{"192.0.2.7:12828"},
		},
		"a name without addresses of its family": {
			config.Media{IPv4: voice, IPv6: "four.example.org"}, []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv6, v4, []string{"192.0.2.7:12828"},
		},
		"preferred, but not bound": {preferring(named, "ipv6"), []workerv1.AddressFamily{v4}, signaling.FamilyIPv6, v4, []string{"192.0.2.7:12828"}},
		"preferred, but not meant": {
			preferring(config.Media{IPv4: voice}, "ipv6"), []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv6, v4, []string{"192.0.2.7:12828"},
		},
		"IPv4 preferred, but not meant": {
			preferring(config.Media{IPv6: voice}, "ipv4"), []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv4, v6, []string{"[2001:db8::7]:12829"},
		},
		"preferred, but not resolved": {
			preferring(config.Media{IPv4: voice, IPv6: "four.example.org"}, "ipv6"), []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv4, v6, nil,
		},
		"bound in the other family alone": {config.Media{IPv4: voice}, []workerv1.AddressFamily{v6}, signaling.FamilyIPv6, v4, nil},
		"unresolvable":                    {config.Media{IPv4: "nowhere.example.org"}, []workerv1.AddressFamily{v4, v6}, signaling.FamilyIPv4, v4, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := announced(t, row.media, row.served...)
			family, list := a.forClient(row.client, 3)
			if got := written(list); family != row.family || !slices.Equal(got, row.want) {
				t.Fatalf("got %v %v, want %v %v", family, got, row.family, row.want)
			}
			if a.isKnown() != (len(row.want) > 0) {
				t.Errorf("something to announce: %v; %s", a.isKnown(), a.missing())
			}
		})
	}
}

func written(list []*workerv1.AnnouncedAddress) []string {
	var out []string
	for _, a := range list {
		out = append(out, netip.AddrPortFrom(netip.MustParseAddr(a.GetAddress()), uint16(a.GetPort())).String())
	}
	return out
}

func TestRunDirectoryIsLocked(t *testing.T) {
	path := t.TempDir() + "/run"
	d, err := openRunDir(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openRunDir(path, nil); err == nil {
		t.Fatal("a second supervisor gets the same run directory")
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openRunDir(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
}
