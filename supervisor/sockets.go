package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
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
}

func mediaFamilies(port int) []mediaFamily {
	return []mediaFamily{
		{mediasock.IPv4, workerv1.AddressFamily_ADDRESS_FAMILY_IPV4, port, handoff.FileUDP4, handoff.FileTCP4},
		{mediasock.IPv6, workerv1.AddressFamily_ADDRESS_FAMILY_IPV6, port + 1, handoff.FileUDP6, handoff.FileTCP6},
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
	families := mediaFamilies(cfg.Port)
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
		if slices.Contains(s.Names, f.udp) && slices.Contains(s.Names, f.tcp) {
			m.served[f.announce] = true
			continue
		}
		if f.port+slot > maxPort {
			return fmt.Errorf("media port %d: %w", f.port+slot, errs.ErrInvalid)
		}
		pair, err := mediasock.Open(mediasock.Config{
			Family: f.family, Port: uint16(f.port + slot), BufferBytes: cfg.BufferBytes, //nolint:gosec // checked
		})
		if errors.Is(err, mediasock.ErrFamilyMissing) {
			log.Warn("address family left out", obs.Err(err))
			*families = slices.DeleteFunc(*families, func(other mediaFamily) bool { return other.family == f.family })
			continue
		}
		if err != nil {
			return err
		}
		m.served[f.announce] = true
		s.Names = append(s.Names, f.udp, f.tcp)
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
