package supervisor

import (
	"errors"
	"sync/atomic"

	"github.com/dspeak/sfu/internal/errs"
)

// refusalKind is a kind of refused request, as a metric names it.
type refusalKind struct {
	name string
	err  error // nil: everything else
}

func refusalKinds() [9]refusalKind {
	return [9]refusalKind{
		{"not_found", errs.ErrNotFound},
		{"exists", errs.ErrExists},
		{"invalid", errs.ErrInvalid},
		{"unsupported", errs.ErrUnsupported},
		{"denied", errs.ErrDenied},
		{"exhausted", errs.ErrExhausted},
		{"unavailable", errs.ErrUnavailable},
		{"closed", errs.ErrClosed},
		{"internal", nil},
	}
}

// refusals counts refused requests by kind. Any goroutine may use it.
type refusals struct{ counts [9]atomic.Uint64 }

// note counts an error; nil is none.
func (r *refusals) note(err error) {
	if err == nil {
		return
	}
	for i, kind := range refusalKinds() {
		if kind.err == nil || errors.Is(err, kind.err) {
			r.counts[i].Add(1)
			return
		}
	}
}
