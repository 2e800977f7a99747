package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/dspeak/sfu/internal/ledgerfile"
)

// small is a geometry that fills up within a test.
func small() Geometry {
	return Geometry{Routers: 8, Transports: 16, Producers: 16, Consumers: 64, Streams: 16, Blocks: 256}
}

func newSmall(tb testing.TB) (*Ledger, []byte) {
	tb.Helper()
	mem := privateMemory(small().size())
	l, err := create(mem, small(), 7)
	if err != nil {
		tb.Fatal(err)
	}
	return l, mem
}

// cut is what a successor finds if the process is killed now.
func cut(tb testing.TB, mem []byte) (*Ledger, Dropped) {
	tb.Helper()
	twin := privateMemory(int64(len(mem)))
	copy(twin, mem)
	l, dropped, err := open(twin)
	if err != nil {
		tb.Fatal(err)
	}
	return l, dropped
}

// model is the same state in plain maps: names to a text of all that is recorded.
type model map[string]string

// read is what a ledger holds.
func read(l *Ledger) model {
	m := model{}
	for r := range l.Routers.All() {
		m["router "+r.Name.String()] = string(l.Blob(&r.AppData))
	}
	for t := range l.Transports.All() {
		m["transport "+t.Name.String()] = fmt.Sprintf("%s %x %s %s", l.Routers.Get(t.Router).Name.String(), t.LocalKey,
			l.Blob(&t.State), l.Blob(&t.AppData))
	}
	for p := range l.Producers.All() {
		m["producer "+p.Name.String()] = fmt.Sprintf("%s %s", l.Transports.Get(p.Transport).Name.String(), l.Blob(&p.Declared))
	}
	for c := range l.Consumers.All() {
		m["consumer "+c.Name.String()] = fmt.Sprintf("%s %s %s", l.Transports.Get(c.Transport).Name.String(),
			l.Producers.Get(c.Producer).Name.String(), l.Blob(&c.Params))
	}
	return m
}

// actor does random work on a ledger, as package rtc would.
type actor struct {
	tb  testing.TB
	l   *Ledger
	rng *rand.Rand
	n   int
	// prefix begins its names.
	prefix string
}

func (a *actor) blob() []byte {
	return bytes.Repeat([]byte{byte('a' + a.n%26)}, 1+a.rng.IntN(3*blockData))
}

func (a *actor) name() string { a.n++; return fmt.Sprint(a.prefix, "n", a.n) }

// pick is a random live record, nil when there is none.
func pick[R any, P record[R]](a *actor, t *Table[R, P]) P {
	if t.Len() == 0 {
		return nil
	}
	skip := a.rng.IntN(t.Len())
	for r := range t.All() {
		if skip--; skip < 0 {
			return r
		}
	}
	a.tb.Fatal("fewer records than said")
	return nil
}

// step does one thing. Running out of room is part of it.
func (a *actor) step() {
	l := a.l
	switch a.rng.IntN(12) {
	case 0:
		if r, err := l.Routers.New(); err == nil {
			r.Name.Set(a.name())
			l.Routers.Commit(r)
		}
	case 1, 2:
		a.makeTransport()
	case 3, 4:
		a.makeProducer()
	case 5, 6, 7:
		a.makeConsumer()
	case 8:
		if t := pick(a, &l.Transports); t != nil {
			_ = l.SetBlob(&t.AppData, a.blob())
		}
	case 9:
		if r := pick(a, &l.Routers); r != nil {
			_ = l.SetBlob(&r.AppData, a.blob())
		}
	case 10:
		if c := pick(a, &l.Consumers); c != nil {
			l.Consumers.Free(c)
		}
	case 11:
		if t := pick(a, &l.Transports); t != nil && a.rng.IntN(3) == 0 {
			a.closeTransport(t)
		}
	}
}

func (a *actor) makeTransport() {
	r := pick(a, &a.l.Routers)
	if r == nil {
		return
	}
	t, err := a.l.Transports.New()
	if err != nil {
		return
	}
	t.Name.Set(a.name())
	t.Router = r.Ref()
	for i := range t.LocalKey {
		t.LocalKey[i] = byte(a.n)
	}
	if a.l.SetBlob(&t.State, a.blob()) != nil {
		a.l.Transports.Free(t)
		return
	}
	a.l.Transports.Commit(t)
}

func (a *actor) makeProducer() {
	t := pick(a, &a.l.Transports)
	if t == nil {
		return
	}
	p, err := a.l.Producers.New()
	if err != nil {
		return
	}
	p.Name.Set(a.name())
	p.Transport, p.ClockRate = t.Ref(), 48000
	if a.l.SetBlob(&p.Declared, a.blob()) != nil {
		a.l.Producers.Free(p)
		return
	}
	a.l.Producers.Commit(p)
}

func (a *actor) makeConsumer() {
	p, t := pick(a, &a.l.Producers), pick(a, &a.l.Transports)
	if p == nil || a.l.Transports.Get(p.Transport).Router != t.Router {
		return
	}
	c, err := a.l.Consumers.New()
	if err != nil {
		return
	}
	c.Name.Set(a.name())
	c.Transport, c.Producer, c.HeaderLen = t.Ref(), p.Ref(), 20
	if a.l.SetBlob(&c.Params, a.blob()) != nil {
		a.l.Consumers.Free(c)
		return
	}
	a.l.Consumers.Commit(c)
}

// closeTransport closes a transport with all that hangs on it.
func (a *actor) closeTransport(t *Transport) {
	a.l.Transports.Condemn(t)
	for p := range a.l.Producers.All() {
		if p.Transport != t.Ref() {
			continue
		}
		a.l.Producers.Condemn(p)
		for c := range a.l.Consumers.All() {
			if c.Producer == p.Ref() {
				a.l.Consumers.Free(c)
			}
		}
		a.l.Producers.Free(p)
	}
	for c := range a.l.Consumers.All() {
		if c.Transport == t.Ref() {
			a.l.Consumers.Free(c)
		}
	}
	a.l.Transports.Free(t)
}

// equal compares two models.
func equal(a, b model) bool { return maps.Equal(a, b) }

// mustFill takes every record and block that is left, which shows that none is
// lost and none is given out twice.
func mustFill(tb testing.TB, l *Ledger) {
	tb.Helper()
	fill(tb, &l.Routers)
	fill(tb, &l.Transports)
	fill(tb, &l.Producers)
	fill(tb, &l.Consumers)
	fill(tb, &l.Streams)
	inUse := int(l.blocks.used.Load()) - len(l.blocks.free)
	seen := map[Ref]bool{}
	for {
		ref, ok := l.blocks.take()
		if !ok {
			break
		}
		if seen[ref] {
			tb.Fatalf("block %d given out twice", ref)
		}
		seen[ref] = true
	}
	if want := int(l.blocks.array.n) - inUse; len(seen) != want {
		tb.Fatalf("%d blocks left, want %d", len(seen), want)
	}
}

func fill[R any, P record[R]](tb testing.TB, t *Table[R, P]) {
	tb.Helper()
	seen := map[Ref]bool{}
	for r := range t.All() {
		seen[r.header().ref] = true
	}
	for range int(t.records.n) - t.Len() {
		r, err := t.New()
		if err != nil {
			tb.Fatal(err)
		}
		if ref := r.header().ref; seen[ref] {
			tb.Fatalf("record %d given out twice", ref)
		} else {
			seen[ref] = true
		}
	}
	if _, err := t.New(); err == nil {
		tb.Fatal("more records than there are")
	}
}

func headerOf(tb testing.TB, mem []byte) *ledgerfile.Header {
	tb.Helper()
	h, err := ledgerfile.HeaderOf(mem)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}
