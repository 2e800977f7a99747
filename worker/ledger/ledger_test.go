package ledger

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ledgerfile"
)

// TestWhatWasDoneIsThere ends a process after every operation of random sequences.
func TestWhatWasDoneIsThere(t *testing.T) {
	for seed := range uint64(20) {
		l, mem := newSmall(t)
		a := &actor{tb: t, l: l, rng: rand.New(rand.NewPCG(seed, 1))}
		for i := range 400 {
			a.step()
			next, dropped := cut(t, mem)
			if got, want := read(next), read(l); !equal(got, want) || dropped.Total() > 0 {
				t.Fatalf("seed %d, step %d: dropped %v, found %v, want %v", seed, i, dropped, got, want)
			}
			if i%50 == 0 {
				a.l, mem = next, twinOf(t, next, mem)
				l = a.l
			}
		}
		last, _ := cut(t, mem)
		mustFill(t, last)
	}
}

// twinOf is the memory of a successor, made anew from its predecessor's.
func twinOf(t *testing.T, next *Ledger, mem []byte) []byte {
	t.Helper()
	twin := privateMemory(int64(len(mem)))
	copy(twin, mem)
	l, _, err := open(twin)
	if err != nil {
		t.Fatal(err)
	}
	*next = *l
	return twin
}

func TestUnfinishedIsAbsent(t *testing.T) {
	l, mem := newSmall(t)
	a := &actor{tb: t, l: l, rng: rand.New(rand.NewPCG(1, 1))}
	r, _ := l.Routers.New()
	r.Name.Set("r")
	l.Routers.Commit(r)
	a.makeTransport()
	a.makeProducer()
	a.makeConsumer()
	before := read(l)
	if len(before) != 4 {
		t.Fatalf("made %v", before)
	}

	t.Run("a record without commit", func(t *testing.T) {
		tr, err := l.Transports.New()
		if err != nil {
			t.Fatal(err)
		}
		tr.Name.Set("half")
		tr.Router = r.Ref()
		copy(tr.LocalKey[:], "secret of nobody")
		_ = l.SetBlob(&tr.State, []byte("another secret"))
		next, dropped := cut(t, mem)
		if !equal(read(next), before) || dropped.Total() != 0 {
			t.Fatalf("found %v, dropped %v", read(next), dropped)
		}
		mustFill(t, next)
		l.Transports.Free(tr)
	})
	t.Run("a chain without a head is zeroed", func(t *testing.T) {
		first, err := l.blocks.write(bytes.Repeat([]byte("nobody reaches me "), 100))
		if err != nil {
			t.Fatal(err)
		}
		twin := privateMemory(int64(len(mem)))
		copy(twin, mem)
		if _, _, err := open(twin); err != nil || bytes.Contains(twin, []byte("nobody reaches me")) {
			t.Fatalf("still there, %v", err)
		}
		l.blocks.drop(first)
	})
	t.Run("what hangs on a condemned record goes with it and is not counted", func(t *testing.T) {
		for tr := range l.Transports.All() {
			l.Transports.Condemn(tr)
		}
		next, dropped := cut(t, mem)
		if got := read(next); len(got) != 1 || dropped.Total() != 0 {
			t.Fatalf("found %v, dropped %v", got, dropped)
		}
		mustFill(t, next)
	})
}

func TestFreedIsZero(t *testing.T) {
	l, mem := newSmall(t)
	a := &actor{tb: t, l: l, rng: rand.New(rand.NewPCG(3, 1))}
	clean := bytes.Clone(mem[tablesAt:])
	for range 300 {
		a.step()
	}
	for tr := range l.Transports.All() {
		a.closeTransport(tr)
	}
	for r := range l.Routers.All() {
		l.Routers.Free(r)
	}
	if !bytes.Equal(mem[tablesAt:], clean) {
		t.Fatal("something is left")
	}
	if released, err := l.Release(); !released || err != nil {
		t.Fatalf("released %v, %v", released, err)
	}
}

func TestReleasedMemoryServesAgain(t *testing.T) {
	f, err := ledgerfile.Create(ledgerfile.Size)
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = f.Close() }()
	mem, err := ledgerfile.Map(f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ledgerfile.Unmap(mem) }()
	l, err := Create(mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetBlob(&l.Root().Certificate, []byte("stays")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		a := &actor{tb: t, l: l, rng: rand.New(rand.NewPCG(4, 1))}
		for range 500 {
			a.step()
		}
		if released, _ := l.Release(); released {
			t.Fatal("released what is in use")
		}
		want := read(l)
		next, dropped, err := Open(mem, 1)
		if err != nil || dropped.Total() > 0 || !equal(read(next), want) {
			t.Fatalf("found %v, %v, %v", read(next), dropped, err)
		}
		l, a.l = next, next
		for tr := range l.Transports.All() {
			a.closeTransport(tr)
		}
		for r := range l.Routers.All() {
			l.Routers.Free(r)
		}
		if released, err := l.Release(); !released || err != nil {
			t.Fatalf("released %v, %v", released, err)
		}
		if l.blocks.used.Load() != 1 || string(l.Blob(&l.Root().Certificate)) != "stays" {
			t.Fatalf("%d blocks in use", l.blocks.used.Load())
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	_, mem := newSmall(t)
	if _, err := create(mem, small(), 1); !errors.Is(err, errs.ErrExists) {
		t.Fatalf("created over state: %v", err)
	}
	headerOf(t, mem).SetLayout(Layout + 1)
	if _, _, err := Open(mem, 7); !errors.Is(err, errs.ErrUnsupported) {
		t.Fatalf("another layout: %v", err)
	}
	headerOf(t, mem).SetLayout(Layout)
	if _, _, err := Open(mem, 8); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("another epoch: %v", err)
	}
	if _, _, err := Open(mem, 7); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(mem[:tablesAt], 7); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("cut short: %v", err)
	}
	if _, _, err := Open(nil, 7); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("nothing: %v", err)
	}
}

func TestInconsistentIsDropped(t *testing.T) {
	for name, row := range map[string]struct {
		harm   func(l *Ledger, tr *Transport, p *Producer, c *Consumer)
		reason string
		left   int
	}{
		"chain with an end that is none": {func(l *Ledger, _ *Transport, _ *Producer, c *Consumer) {
			l.blocks.at(Ref(c.Params.first.Load())).next = Ref(c.Params.first.Load())
			l.blocks.at(Ref(c.Params.first.Load())).used.Store(blockUsed | blockData)
		}, reasonBlob, 3},
		"block of another": {func(_ *Ledger, tr *Transport, _ *Producer, c *Consumer) {
			c.Params.first.Store(tr.State.first.Load())
		}, reasonBlob, 3},
		"chain out of bounds": {func(_ *Ledger, _ *Transport, _ *Producer, c *Consumer) {
			c.Params.first.Store(1 << 30)
		}, reasonBlob, 3},
		"length out of bounds":  {func(_ *Ledger, _ *Transport, _ *Producer, c *Consumer) { c.HeaderLen = 200 }, reasonFields, 3},
		"name of no length":     {func(_ *Ledger, _ *Transport, _ *Producer, c *Consumer) { c.Name = Name{} }, reasonName, 3},
		"link to nothing":       {func(_ *Ledger, _ *Transport, _ *Producer, c *Consumer) { c.Producer = 15 }, reasonLink, 3},
		"name of another place": {func(_ *Ledger, _ *Transport, _ *Producer, c *Consumer) { c.ref = 9 }, reasonFields, 3},
		"producer without transport": {func(_ *Ledger, _ *Transport, p *Producer, _ *Consumer) {
			p.Transport = 0
		}, reasonLink, 2},
		"transport in no known state": {func(_ *Ledger, tr *Transport, _ *Producer, _ *Consumer) { tr.Dtls.Store(99) }, reasonFields, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, mem := newSmall(t)
			a := &actor{tb: t, l: l, rng: rand.New(rand.NewPCG(1, 1))}
			r, _ := l.Routers.New()
			r.Name.Set("r")
			l.Routers.Commit(r)
			a.makeTransport()
			a.makeProducer()
			a.makeConsumer()
			row.harm(l, pick(a, &l.Transports), pick(a, &l.Producers), pick(a, &l.Consumers))
			next, dropped := cut(t, mem)
			if dropped[row.reason] != 1 || len(read(next)) != row.left {
				t.Fatalf("dropped %v, left %v", dropped, read(next))
			}
			mustFill(t, next)
		})
	}
}

func TestBlobs(t *testing.T) {
	l, _ := newSmall(t)
	var b Blob
	for _, n := range []int{1, blockData - 1, blockData, blockData + 1, 10 * blockData} {
		data := bytes.Repeat([]byte{byte(n), 1, 2}, n)[:n]
		if err := l.SetBlob(&b, data); err != nil {
			t.Fatal(err)
		}
		if got := l.Blob(&b); !bytes.Equal(got, data) {
			t.Fatalf("%d bytes became %d", n, len(got))
		}
	}
	if err := l.SetBlob(&b, make([]byte, MaxBlob+1)); !errors.Is(err, errs.ErrInvalid) {
		t.Fatalf("too long: %v", err)
	}
	if err := l.SetBlob(&b, make([]byte, MaxBlob)); !errors.Is(err, errs.ErrExhausted) {
		t.Fatalf("no room: %v", err)
	}
	if len(l.Blob(&b)) != 10*blockData {
		t.Fatal("a failure took the former blob away")
	}
	if err := l.SetBlob(&b, nil); err != nil || !b.Empty() {
		t.Fatalf("not none: %v", err)
	}
	mustFill(t, l)
}

// FuzzOpen opens arbitrary memory and then uses what it found.
func FuzzOpen(f *testing.F) {
	_, mem := newSmall(f)
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint32(superblockAt))
	f.Add(bytes.Repeat([]byte{1}, 100), uint32(tablesAt))
	for at := tablesAt; at < len(mem); at += len(mem) / 50 {
		f.Add([]byte{0x4c, 0x49, 0x56, 0x45, 1, 0, 0, 0, 1, 0, 0, 0}, uint32(at))
	}
	f.Fuzz(func(t *testing.T, patch []byte, at uint32) {
		l, mem := newSmall(t)
		a := &actor{tb: t, l: l, rng: rand.New(rand.NewPCG(uint64(at), 1))}
		for range 60 {
			a.step()
		}
		rng := rand.New(rand.NewPCG(uint64(at), uint64(len(patch))))
		for i := 0; i < len(patch); { // the patch in pieces, at places that it chooses
			n := min(1+rng.IntN(16), len(patch)-i)
			copy(mem[ledgerfile.HeaderSize+(int(at)+i*131)%(len(mem)-ledgerfile.HeaderSize):], patch[i:i+n])
			i += n
		}
		next, dropped, err := open(mem)
		if err != nil {
			return
		}
		again, more := cut(t, mem)
		if more.Total() != 0 || !equal(read(again), read(next)) {
			t.Fatalf("the second look drops %v after %v", more, dropped)
		}
		a.l = next
		a.prefix = "not of the patch, which is shorter: " // a patched name may be one that would come next
		for range 60 {
			a.step()
		}
		after, more := cut(t, mem)
		if more.Total() != 0 || !equal(read(after), read(next)) {
			t.Fatalf("dropped %v", more)
		}
		mustFill(t, after)
	})
}
