package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
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
		err := fits(r, slots, s.cfg.Media)
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
func fits(r *process.Remains, slots int, cfg config.Media) error {
	if int(r.Slot) > slots { // one more is for the quarantine
		return fmt.Errorf("worker %d of %d: %w", r.Slot, slots, errs.ErrInvalid)
	}
	families := mediaFamilies(cfg)
	for i, f := range r.Sockets.Files {
		if err := placed(r, families, r.Sockets.Names[i], f); err != nil {
			return err
		}
	}
	// A worker that lives gets no further sockets, and would leave an announced address
	// without an answer. The families of the default may be missing.
	for _, family := range families {
		missing, err := family.missing(r.Sockets)
		if err != nil {
			return err
		}
		if r.Alive() && len(missing) > 0 && len(cfg.Bind) > 0 {
			return fmt.Errorf("no socket is bound to %s: %w", missing[0], errs.ErrInvalid)
		}
	}
	return nil
}

// placed says whether the settings have a place for a media socket.
func placed(r *process.Remains, families []mediaFamily, name string, f *os.File) error {
	kind := handoff.SocketKind(name)
	if kind == "" {
		return nil
	}
	at, err := mediasock.BoundAddr(f)
	if err != nil {
		return err
	}
	for _, family := range families {
		if kind != family.udp && kind != family.tcp {
			continue
		}
		if want := family.port + int(r.Slot); int(at.Port()) != want || !slices.Contains(family.addrs, at.Addr()) {
			return fmt.Errorf("%s is bound to %s, want port %d of %v: %w", name, at, want, family.addrs, errs.ErrInvalid)
		}
		return nil
	}
	return fmt.Errorf("%s is of a family that is not served: %w", name, errs.ErrInvalid)
}
