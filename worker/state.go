package worker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
)

// openLedger maps the ledger that came with the settings; nil without one. The mapping
// lasts as long as the process. A ledger that cannot be used is no fault of the
// settings: with another one the slot may be served. Layouts of other versions stay
// an errs.ErrUnsupported.
func openLedger(a *handoff.Assign, files []*os.File, log *slog.Logger) (*ledger.Ledger, error) {
	for _, f := range files {
		if f.Name() != handoff.FileLedger {
			continue
		}
		state, err := mapLedger(a, f, log)
		if err != nil {
			return nil, fmt.Errorf("ledger: %w: %s", kindOf(err), err.Error())
		}
		return state, nil
	}
	if a.Takeover {
		return nil, fmt.Errorf("takeover without a ledger: %w", errs.ErrInvalid)
	}
	return nil, nil //nolint:nilnil // the loop then keeps its state to itself
}

func kindOf(err error) error {
	if errors.Is(err, errs.ErrUnsupported) {
		return errs.ErrUnsupported
	}
	return errs.ErrUnavailable
}

func mapLedger(a *handoff.Assign, f *os.File, log *slog.Logger) (*ledger.Ledger, error) {
	mem, err := ledgerfile.Map(f)
	if err != nil {
		return nil, err
	}
	header, err := ledgerfile.HeaderOf(mem)
	if err != nil {
		return nil, err
	}
	header.SetGeneration(uint64(a.Generation))
	header.SetInHand(0)
	if !a.Takeover {
		return ledger.Create(mem, uint64(a.Epoch))
	}
	state, dropped, err := ledger.Open(mem, uint64(a.Epoch))
	if err != nil {
		return nil, err
	}
	for reason, n := range dropped {
		log.Error("ledger: records dropped", slog.String("reason", reason), slog.Int("records", n))
	}
	return state, nil
}

// certificateOf is the only place where the worker's certificate is made. Clients hold
// on to the one that they were told: a successor uses that of the ledger.
func certificateOf(state *ledger.Ledger) (tls.Certificate, error) {
	if state != nil && !state.Root().Certificate.Empty() {
		cert, err := handshake.ParseCertificate(state.Blob(&state.Root().Certificate))
		if err != nil {
			return cert, fmt.Errorf("ledger: %w: %s", errs.ErrUnavailable, err.Error())
		}
		return cert, nil
	}
	cert, _, err := handshake.NewCertificate()
	if err != nil || state == nil {
		return cert, err
	}
	b, err := handshake.MarshalCertificate(cert)
	if err == nil {
		err = state.SetBlob(&state.Root().Certificate, b)
	}
	return cert, err
}
