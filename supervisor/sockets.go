package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/dspeak/sfu/internal/config"
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
}

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
// but not both.
func openMediaSockets(cfg config.Media, slots int, remains []*process.Remains, log *slog.Logger) (*mediaSockets, error) {
	m := &mediaSockets{slots: make([]process.Sockets, slots), served: map[workerv1.AddressFamily]bool{}}
	for _, r := range remains {
		m.slots[r.Slot] = r.Sockets
	}
	for _, f := range mediaFamilies(cfg.Port) {
		for slot := range slots {
			s := &m.slots[slot]
			if slices.Contains(s.Names, f.udp) && slices.Contains(s.Names, f.tcp) {
				m.served[f.announce] = true
				continue
			}
			pair, err := mediasock.Open(mediasock.Config{
				Family: f.family, Port: uint16(f.port + slot), BufferBytes: cfg.BufferBytes, //nolint:gosec // ports were checked
			})
			if errors.Is(err, mediasock.ErrFamilyMissing) {
				log.Warn("address family left out", obs.Err(err))
				break
			}
			if err != nil {
				return nil, errors.Join(err, m.close())
			}
			m.served[f.announce] = true
			s.Names = append(s.Names, f.udp, f.tcp)
			s.Files = append(s.Files, pair.UDP, pair.TCP)
		}
	}
	if len(m.served) == 0 {
		return nil, fmt.Errorf("media sockets: %w", mediasock.ErrFamilyMissing)
	}
	return m, nil
}

func (m *mediaSockets) close() error {
	var faults []error
	for _, s := range m.slots {
		for _, f := range s.Files {
			faults = append(faults, f.Close())
		}
	}
	return errors.Join(faults...)
}
