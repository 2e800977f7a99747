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

func announced(t *testing.T, media config.Media, served map[workerv1.AddressFamily]bool) *addresses {
	t.Helper()
	media.IPv4Port, media.IPv6Port, media.ResolveInterval = 12825, 12826, time.Minute
	a := newAddresses(config.Config{Environment: config.Production, Media: media}, served, slog.New(slog.DiscardHandler))
	a.lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
		if name != "voice.example.org" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, nil
	}
	a.refresh(t.Context())
	return a
}

func TestFamilyOfAClient(t *testing.T) {
	both := map[workerv1.AddressFamily]bool{v4: true, v6: true}
	named := config.Media{IPv4: "voice.example.org", IPv6: "voice.example.org"}
	preferred := named
	preferred.PreferredFamily = config.FamilyIPv6
	for name, row := range map[string]struct {
		media  config.Media
		served map[workerv1.AddressFamily]bool
		client signaling.Family
		family workerv1.AddressFamily
		want   []string
	}{
		"IPv4":         {named, both, signaling.FamilyIPv4, v4, []string{"192.0.2.7:12828"}},
		"IPv6":         {named, both, signaling.FamilyIPv6, v6, []string{"[2001:db8::7]:12829"}},
		"unknown":      {named, both, signaling.FamilyAny, 0, []string{"192.0.2.7:12828", "[2001:db8::7]:12829"}},
		"forced":       {preferred, both, signaling.FamilyIPv4, v6, []string{"[2001:db8::7]:12829"}},
		"not served":   {named, map[workerv1.AddressFamily]bool{v4: true}, signaling.FamilyIPv6, v4, []string{"192.0.2.7:12828"}},
		"only literal": {config.Media{IPv4: "198.51.100.4"}, both, signaling.FamilyIPv6, v4, []string{"198.51.100.4:12828"}},
		"unresolvable": {config.Media{IPv4: "nowhere.example.org"}, both, signaling.FamilyIPv4, v4, nil},
	} {
		t.Run(name, func(t *testing.T) {
			family, list := announced(t, row.media, row.served).forClient(row.client, 3)
			var got []string
			for _, a := range list {
				got = append(got, netip.AddrPortFrom(netip.MustParseAddr(a.GetAddress()), uint16(a.GetPort())).String())
			}
			if family != row.family || !slices.Equal(got, row.want) {
				t.Fatalf("got %v %v, want %v %v", family, got, row.family, row.want)
			}
		})
	}
}

func TestLastGoodAnswerStays(t *testing.T) {
	a := announced(t, config.Media{IPv4: "voice.example.org"}, map[workerv1.AddressFamily]bool{v4: true})
	a.lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("resolver away") }
	a.refresh(t.Context())
	if _, list := a.forClient(signaling.FamilyIPv4, 0); len(list) != 1 {
		t.Fatalf("announced %v after a failed look-up", list)
	}
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
