package supervisor

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	adminv1 "github.com/dspeak/sfu/proto/dspeak/admin/v1"
)

// maxDeadline bounds the deadline of a drain.
const maxDeadline = 7 * 24 * time.Hour

// deadlineOf reads a deadline from outside.
func deadlineOf(ms uint64) (time.Duration, error) {
	if ms > uint64(maxDeadline.Milliseconds()) { //nolint:gosec // a constant
		return 0, fmt.Errorf("deadline of %d ms, want at most %v: %w", ms, maxDeadline, errs.ErrInvalid)
	}
	return time.Duration(ms) * time.Millisecond, nil //nolint:gosec // bounded
}

// DrainWorker implements the operators' drain.
func (s *adminService) DrainWorker(ctx context.Context, req *adminv1.DrainWorkerRequest) (*adminv1.DrainWorkerResponse, error) {
	deadline, err := deadlineOf(req.GetDeadlineMs())
	switch {
	case err != nil:
	case req.GetCancel():
		err = s.backend.undrain(ident.Slot(req.GetSlot()))
	default:
		err = s.backend.drain(ident.Slot(req.GetSlot()), deadline) //nolint:contextcheck // its deadline outlasts the call
	}
	if err != nil {
		return nil, err
	}
	w, err := s.worker(ctx, req.GetSlot())
	return &adminv1.DrainWorkerResponse{Worker: w}, err
}

// Upgrade implements the operators' upgrade.
func (s *adminService) Upgrade(ctx context.Context, req *adminv1.UpgradeRequest) (*adminv1.UpgradeResponse, error) {
	deadline, err := deadlineOf(req.GetDrainDeadlineMs())
	if err != nil {
		return nil, err
	}
	done, err := s.upgrade.run(ctx, deadline)
	if err != nil {
		return nil, err
	}
	resp := &adminv1.UpgradeResponse{WorkerVersion: done.version, Replacements: uint32(s.upgrade.self.Replacements)} //nolint:gosec // a count
	for _, slot := range done.drained {
		resp.DrainedSlots = append(resp.DrainedSlots, uint32(slot))
	}
	return resp, nil
}

// GetSupervisor tells of this process.
func (s *adminService) GetSupervisor(context.Context, *adminv1.GetSupervisorRequest) (*adminv1.GetSupervisorResponse, error) {
	self := s.upgrade.self
	return &adminv1.GetSupervisorResponse{
		Pid: uint32(os.Getpid()), Version: handoff.Version(), UptimeMs: uint64(time.Since(s.upgrade.started).Milliseconds()), //nolint:gosec // positive
		Replacements: uint32(self.Replacements), RolledBack: self.RolledBack, //nolint:gosec // a count
	}, nil
}
