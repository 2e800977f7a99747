package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/dspeak/sfu/internal/config"
	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/mediasock"
	workerv1 "github.com/dspeak/sfu/proto/dspeak/worker/v1"
	"github.com/dspeak/sfu/supervisor/process"
)

// CheckMachine reports what a start with these settings on this machine would complain of,
// as far as it can be known beside a supervisor that runs with them: an occupied port is no
// fault, since that supervisor may have it. log gets what a start would warn of.
func CheckMachine(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	if err := cfg.CheckPorts(workerCount(cfg, process.PlanCPUs())); err != nil {
		return err // ports that do not exist cannot be tried
	}
	served, err := tryMedia(cfg.Media)
	newAddresses(cfg, served, log)
	return errors.Join(tryHTTP(ctx, cfg.HTTP), err, tryProgram(ctx, cfg))
}

// tryHTTP opens the public port for a moment.
func tryHTTP(ctx context.Context, cfg config.HTTP) error {
	listener, err := listenHTTP(ctx, cfg, nil)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	if err != nil {
		return err
	}
	return listener.Close()
}

// tryMedia opens the first media port of each address for a moment: it is the lowest, so
// when it is not reserved none is. It returns the families that the machine has.
func tryMedia(cfg config.Media) (map[workerv1.AddressFamily]bool, error) {
	var faults []error
	served := map[workerv1.AddressFamily]bool{}
	for _, f := range mediaFamilies(cfg) {
		for _, addr := range f.addrs {
			pair, err := mediasock.Open(mediasock.Config{
				Family: f.family, Addr: addr, Port: uint16(f.port), BufferBytes: cfg.BufferBytes, //nolint:gosec // checked
			})
			missing := errors.Is(err, mediasock.ErrFamilyMissing)
			served[f.announce] = !missing
			switch {
			case err == nil:
				faults = append(faults, pair.Close())
			case missing && len(cfg.Bind) > 0, !missing && !errors.Is(err, errs.ErrExists):
				faults = append(faults, err)
			}
		}
	}
	if len(cfg.Bind) == 0 && !served[workerv1.AddressFamily_ADDRESS_FAMILY_IPV4] && !served[workerv1.AddressFamily_ADDRESS_FAMILY_IPV6] {
		faults = append(faults, fmt.Errorf("media sockets: %w", mediasock.ErrFamilyMissing))
	}
	return served, errors.Join(faults...)
}

// workerCount is the number of slots without the quarantine's.
func workerCount(cfg config.Config, cpus process.CPUPlan) int {
	if cfg.Workers.Count > 0 {
		return cfg.Workers.Count
	}
	return cpus.Workers
}
