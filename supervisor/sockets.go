package supervisor

import (
	"errors"
	"fmt"
	"log/slog"

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
	pairs  []*mediasock.Pair
}

// openMediaSockets opens the sockets of every slot, or none. A family that the
// machine lacks is left out, but not both.
func openMediaSockets(cfg config.Media, slots int, log *slog.Logger) (*mediaSockets, error) {
	m := &mediaSockets{slots: make([]process.Sockets, slots), served: map[workerv1.AddressFamily]bool{}}
	families := []struct {
		family   mediasock.Family
		announce workerv1.AddressFamily
		port     int
		udp, tcp string
	}{
		{mediasock.IPv4, workerv1.AddressFamily_ADDRESS_FAMILY_IPV4, cfg.Port, handoff.FileUDP4, handoff.FileTCP4},
		{mediasock.IPv6, workerv1.AddressFamily_ADDRESS_FAMILY_IPV6, cfg.Port + 1, handoff.FileUDP6, handoff.FileTCP6},
	}
	for _, f := range families {
		for slot := range slots {
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
			m.pairs = append(m.pairs, pair)
			m.served[f.announce] = true
			s := &m.slots[slot]
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
	for _, p := range m.pairs {
		faults = append(faults, p.Close())
	}
	return errors.Join(faults...)
}
