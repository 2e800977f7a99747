package supervisor

import (
	"slices"
	"testing"
	"time"

	"github.com/dspeak/sfu/internal/ledgerfile"
	"github.com/dspeak/sfu/supervisor/process"
)

func TestPoisonGoesToQuarantine(t *testing.T) {
	l := newLab(t, 2)
	l.pool.change(1, func(w *process.WorkerInfo) { w.Reserve, w.State = true, process.StateExited })
	bad, good := l.join("eve", "bad"), l.join("ann", "good")
	bad.transport()
	kept := good.transport()
	l.backend.registry.mu.Lock()
	mark := ledgerfile.Mark(string(l.backend.registry.channels["bad"].router.id))
	l.backend.registry.mu.Unlock()
	w := l.workers[0]
	w.mu.Lock()
	for id := range w.routers { // the worker left it out
		if ledgerfile.Mark(id) == mark {
			w.dropRouter(id)
		}
	}
	w.mu.Unlock()
	l.events(process.Event{Kind: process.EventTakeover, Epoch: 1, Generation: 4, Cause: "exit status 2", Skipped: []uint64{mark}})
	l.backend.background.Wait()
	if all := bad.drain(); !slices.ContainsFunc(all, func(m message) bool { return m.Type == "transport-closed" && m.Reason == poisonReason }) {
		t.Errorf("the channel's user is told %+v", all)
	}
	bad.transport()
	if all := good.drain(); len(all) != 0 {
		t.Errorf("the other channel's user is told %+v", all)
	}
	if got := l.slotOf("bad"); got != 1 {
		t.Errorf("the channel is on worker %d", got)
	}
	l.join("cid", "another").transport()
	if got := l.slotOf("another"); got != 0 {
		t.Errorf("another channel is on worker %d", got)
	}
	good.must("close-transport", `{"transportId":"`+kept+`"}`, "transport-closed")
	l.backend.registry.mu.Lock()
	defer l.backend.registry.mu.Unlock()
	l.backend.registry.releaseLocked(time.Now().Add(2 * quarantineFor))
	if len(l.backend.registry.poisoned) != 0 {
		t.Error("the quarantine never ends")
	}
}
