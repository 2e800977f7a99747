package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/handoff"
	"github.com/dspeak/sfu/internal/ident"
	"github.com/dspeak/sfu/internal/ledgerfile"
)

// maxSlots bounds the slots of a pool.
const maxSlots = 1024

// heldSocket and heldLedger name held files: "udp4-3", and with the epoch "ledger-3-1".
func heldSocket(kind string, slot ident.Slot) string { return fmt.Sprintf("%s-%d", kind, slot) }

func heldLedger(slot ident.Slot, epoch ident.Epoch) string {
	return fmt.Sprintf("%s-%d-%d", handoff.FileLedger, slot, epoch)
}

// HeldFiles are the files that the pool holds for its slots: the next supervisor
// makes Remains of them with FromHeld. It is called after Run has returned.
func (p *Pool) HeldFiles() map[string]*os.File {
	held := map[string]*os.File{}
	for _, k := range p.keepers {
		sockets := p.cfg.Sockets[k.slot]
		for i, name := range sockets.Names {
			held[heldSocket(name, k.slot)] = sockets.Files[i]
		}
		if k.state.ledger != nil {
			held[heldLedger(k.slot, k.snapshot().Epoch)] = k.state.ledger
		}
	}
	return held
}

// FromHeld completes what Adopt found with files that were held for this process:
// take gives the one of a name. Slots whose worker lives need none of them. Names of
// other files are left alone.
func FromHeld(adopted []*Remains, names []string, take func(name string) *os.File) []*Remains {
	slots := map[ident.Slot]*Remains{}
	for _, r := range adopted {
		slots[r.Slot] = r
	}
	for _, name := range names {
		kind, slot, epoch, ok := parseHeld(name)
		if !ok {
			continue
		}
		f := take(name)
		if f == nil {
			continue
		}
		if slots[slot] == nil {
			slots[slot] = &Remains{Slot: slot}
			adopted = append(adopted, slots[slot])
		}
		slots[slot].add(kind, f, epoch)
	}
	return adopted
}

// add takes a held file, or closes what is of no use.
func (r *Remains) add(kind string, f *os.File, epoch ident.Epoch) {
	switch {
	case r.Alive():
		_ = f.Close() // a copy of what the worker sent
	case kind != handoff.FileLedger:
		r.Sockets.Names, r.Sockets.Files = append(r.Sockets.Names, kind), append(r.Sockets.Files, f)
	default:
		generation, err := lastGeneration(f)
		if err != nil || epoch < r.Epoch {
			_ = f.Close() // nobody has written to it, or its state was given up
			return
		}
		if r.Ledger != nil {
			_ = r.Ledger.Close() // as above
		}
		r.Ledger, r.Epoch, r.Generation = f, epoch, generation
	}
}

// lastGeneration is that of the process that wrote to the ledger last.
func lastGeneration(f *os.File) (ident.Generation, error) {
	view, err := ledgerfile.OpenHeader(f)
	if err != nil {
		return 0, err
	}
	defer func() { _ = view.Close() }() // it is mapped
	if view.Layout() == 0 || view.Generation() == 0 {
		return 0, fmt.Errorf("ledger is empty: %w", errs.ErrNotFound)
	}
	return ident.Generation(view.Generation()), nil
}

// parseHeld reads a name of HeldFiles. False: it is none.
func parseHeld(name string) (kind string, slot ident.Slot, epoch ident.Epoch, ok bool) {
	kind, rest, _ := strings.Cut(name, "-")
	number, last, more := strings.Cut(rest, "-")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n >= maxSlots {
		return "", 0, 0, false
	}
	switch {
	case handoff.SocketKind(kind) != "":
		return kind, ident.Slot(n), 0, !more
	case kind == handoff.FileLedger:
		e, err := strconv.ParseUint(last, 10, 62)
		return kind, ident.Slot(n), ident.Epoch(e), err == nil && e > 0
	default:
		return "", 0, 0, false
	}
}
