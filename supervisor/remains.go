package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/mediasock"
	"github.com/dspeak/sfu/internal/obs"
	"github.com/dspeak/sfu/supervisor/process"
	"github.com/dspeak/sfu/supervisor/service"
)

// findRemains is what a former supervisor left: workers that live, and files that were
// held for this process. What the settings have no place for is ended.
func (s *supervisor) findRemains(ctx context.Context, slots int, held *service.Files) error {
	adopted, err := process.Adopt(ctx, s.dir.path, s.log)
	if err != nil {
		return err
	}
	s.remains = process.FromHeld(adopted, held.Names(), held.Take)
	s.remains = slices.DeleteFunc(s.remains, func(r *process.Remains) bool {
		err := fits(r, slots, s.cfg.Media.Port)
		if err == nil {
			return false
		}
		s.log.Warn("what a former supervisor left is ended, with its users' media", slog.Any(obs.KeySlot, r.Slot), obs.Err(err))
		if err := r.End(); err != nil {
			s.log.Warn("files of a former supervisor", obs.Err(err))
		}
		return true
	})
	return nil
}

// fits says whether the settings have a place for what is left of a slot.
func fits(r *process.Remains, slots, port int) error {
	if int(r.Slot) > slots { // one more is for the quarantine
		return fmt.Errorf("worker %d of %d: %w", r.Slot, slots, errs.ErrInvalid)
	}
	for i, f := range r.Sockets.Files {
		bound, err := mediasock.BoundPort(f)
		if err != nil {
			return err
		}
		for _, family := range mediaFamilies(port) {
			name, want := r.Sockets.Names[i], family.port+int(r.Slot)
			if (name == family.udp || name == family.tcp) && int(bound) != want {
				return fmt.Errorf("%s is bound to port %d, want %d: %w", name, bound, want, errs.ErrInvalid)
			}
		}
	}
	return nil
}
