package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/mediasock"
	"github.com/dspeak/sfu/internal/obs"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/supervisor/process"
)

// mediaSockets are the media sockets of all slots. They live as long as the
// supervisor, so that they outlive any worker.
type mediaSockets struct {
	slots  []process.Sockets
	served map[workerv1.AddressFamily]bool
	// reserve: the last slot is for the quarantine.
	reserve bool
}

const maxPort = 65535

// mediaFamily is an IP version as a slot has it.
type mediaFamily struct {
	family   mediasock.Family
	announce workerv1.AddressFamily
	port     int // of slot 0
	udp, tcp string
	addrs    []netip.Addr // each has a pair of sockets in each slot; unspecified: all
}

// mediaFamilies are the families to serve: those of the addresses to bind, or both.
func mediaFamilies(cfg config.Media) []mediaFamily {
	families := []mediaFamily{
		{
			mediasock.IPv4, workerv1.AddressFamily_ADDRESS_FAMILY_IPV4, cfg.Port,
			handoff.FileUDP4, handoff.FileTCP4,
			[]netip.Addr{netip.IPv4Unspecified()},
		},
		{
			mediasock.IPv6, workerv1.AddressFamily_ADDRESS_FAMILY_IPV6, cfg.Port + 1,
			handoff.FileUDP6, handoff.FileTCP6,
			[]netip.Addr{netip.IPv6Unspecified()},
		},
	}
	if len(cfg.Bind) == 0 {
		return families
	}
	for i := range families {
		f := &families[i]
		f.addrs = nil
		for _, addr := range cfg.Bind {
			if addr.Is4() == (f.family == mediasock.IPv4) {
				f.addrs = append(f.addrs, addr)
			}
		}
	}
	return slices.DeleteFunc(families, func(f mediaFamily) bool { return len(f.addrs) == 0 })
}

// bound are the addresses that sockets of a kind have in a slot.
func bound(s process.Sockets, kind string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for i, name := range s.Names {
		if handoff.SocketKind(name) != kind {
			continue
		}
		addr, err := mediasock.BoundAddr(s.Files[i])
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, addr.Addr())
	}
	return addrs, nil
}

// missing are the addresses of a family for which a slot has no sockets.
func (f *mediaFamily) missing(s process.Sockets) ([]netip.Addr, error) {
	udp, err := bound(s, f.udp)
	if err != nil {
		return nil, err
	}
	tcp, err := bound(s, f.tcp)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(f.addrs), func(addr netip.Addr) bool {
		return slices.Contains(udp, addr) && slices.Contains(tcp, addr)
	}), nil
}

// freeName is the first name of a kind that a slot has no socket of.
func freeName(s process.Sockets, kind string) string {
	for number := 0; ; number++ {
		if name := handoff.SocketName(kind, number); !slices.Contains(s.Names, name) {
			return name
		}
	}
}

// openMediaSockets opens the sockets of every slot, or none, but for those that a
// former supervisor left, which it takes. A family that the machine lacks is left out,
// but not both. One more slot is for the quarantine: where its ports are not free there
// is none.
func openMediaSockets(cfg config.Media, slots int, remains []*process.Remains, log *slog.Logger) (*mediaSockets, error) {
	m := &mediaSockets{slots: make([]process.Sockets, slots, slots+1), served: map[workerv1.AddressFamily]bool{}}
	for _, r := range remains {
		if int(r.Slot) == slots {
			m.slots = m.slots[:slots+1]
		}
		m.slots[r.Slot] = r.Sockets
	}
	families := mediaFamilies(cfg)
	for slot := range slots {
		if err := m.openSlot(slot, &families, cfg, log); err != nil {
			return nil, errors.Join(err, m.close())
		}
	}
	if len(m.served) == 0 {
		return nil, fmt.Errorf("media sockets: %w", mediasock.ErrFamilyMissing)
	}
	m.slots = m.slots[:slots+1]
	if err := m.openSlot(slots, &families, cfg, log); err != nil {
		log.Warn("no port for the quarantine: channels that crash their worker again and again will not be served", obs.Err(err))
		err = closeFiles(m.slots[slots].Files)
		m.slots = m.slots[:slots]
		return m, err
	}
	m.reserve = true
	return m, nil
}

// openSlot opens what a slot does not have yet. A family that the machine lacks is
// taken from families.
func (m *mediaSockets) openSlot(slot int, families *[]mediaFamily, cfg config.Media, log *slog.Logger) error {
	s := &m.slots[slot]
	for _, f := range slices.Clone(*families) {
		missing, err := f.missing(*s)
		if err == nil {
			err = openPairs(s, &f, missing, slot, cfg.BufferBytes)
		}
		if errors.Is(err, mediasock.ErrFamilyMissing) && len(cfg.Bind) == 0 {
			log.Warn("address family left out", obs.Err(err))
			*families = slices.DeleteFunc(*families, func(other mediaFamily) bool { return other.family == f.family })
			continue
		}
		if err != nil {
			return err
		}
		m.served[f.announce] = true
	}
	return nil
}

// openPairs opens a slot's sockets of a family on some addresses.
func openPairs(s *process.Sockets, f *mediaFamily, addrs []netip.Addr, slot, bufferBytes int) error {
	for _, addr := range addrs {
		if f.port+slot > maxPort {
			return fmt.Errorf("media port %d: %w", f.port+slot, errs.ErrInvalid)
		}
		pair, err := mediasock.Open(mediasock.Config{
			Family: f.family, Addr: addr, Port: uint16(f.port + slot), BufferBytes: bufferBytes, //nolint:gosec // checked
		})
		if err != nil {
			return err
		}
		s.Names = append(s.Names, freeName(*s, f.udp), freeName(*s, f.tcp))
		s.Files = append(s.Files, pair.UDP, pair.TCP)
	}
	return nil
}

func (m *mediaSockets) close() error {
	var faults []error
	for _, s := range m.slots {
		faults = append(faults, closeFiles(s.Files))
	}
	return errors.Join(faults...)
}

func closeFiles(files []*os.File) error {
	var faults []error
	for _, f := range files {
		faults = append(faults, f.Close())
	}
	return errors.Join(faults...)
}
