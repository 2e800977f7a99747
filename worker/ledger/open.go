package ledger

import (
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ledgerfile"
)

// Dropped counts the records that Open dropped, by reason. What belonged to an object
// whose closing was under way is not among them.
type Dropped map[string]int

// Total is the number of records dropped.
func (d Dropped) Total() int {
	n := 0
	for _, more := range d {
		n += more
	}
	return n
}

// Open goes on with the state in mem, a mapping of ledgerfile.Map, of a slot's present
// epoch. A ledger whose creation was never finished begins with nothing. Errors:
// errs.ErrUnsupported for another layout, errs.ErrInvalid for what is no ledger, or
// one of another epoch.
func Open(mem []byte, epoch uint64) (*Ledger, Dropped, error) {
	header, err := ledgerfile.HeaderOf(mem)
	if err != nil {
		return nil, nil, err
	}
	if header.Layout() == 0 {
		l, err := Create(mem, epoch)
		return l, nil, err
	}
	l, dropped, err := open(mem)
	if err != nil {
		return nil, nil, err
	}
	if l.Epoch() != epoch {
		return nil, nil, fmt.Errorf("open ledger: epoch %d, want %d: %w", l.Epoch(), epoch, errs.ErrInvalid)
	}
	return l, dropped, nil
}

func open(mem []byte) (*Ledger, Dropped, error) {
	header, err := ledgerfile.HeaderOf(mem)
	if err != nil {
		return nil, nil, err
	}
	if v := header.Layout(); v != Layout {
		return nil, nil, fmt.Errorf("open ledger: layout %d, this program reads %d: %w", v, Layout, errs.ErrUnsupported)
	}
	super, err := superblockOf(mem)
	if err != nil {
		return nil, nil, err
	}
	l, err := lay(mem, super)
	if err != nil {
		return nil, nil, fmt.Errorf("open ledger: %w", err)
	}
	c := checker{
		ledger: l, dropped: Dropped{}, names: map[string]bool{},
		marks: make(marks, (l.blocks.used.Load()+wordBits-1)/wordBits),
	}
	c.run()
	return l, c.dropped, nil
}

// Reasons of Dropped.
const (
	reasonBlob   = "blob broken"
	reasonName   = "name broken"
	reasonTwice  = "name twice"
	reasonLink   = "link to nothing"
	reasonFields = "fields out of bounds"
	reasonClosed = "its parent was being closed" // not counted
)

// checker is one Open.
type checker struct {
	ledger  *Ledger
	dropped Dropped
	marks   marks
	names   map[string]bool // of the table at hand
}

// run checks parents before their children, and drops what cannot be.
func (c *checker) run() {
	l := c.ledger
	if !l.blocks.mark(c.marks, &l.super.Certificate) {
		c.dropped[reasonBlob]++
		l.super.Certificate.first.Store(0)
	}
	if l.super.CName.n > MaxName {
		l.super.CName = Name{}
	}
	check(c, &l.Routers, nil)
	check(c, &l.Transports, func(t *Transport) string {
		if f := parent(&l.Routers, t.Router); f != "" {
			return f
		}
		return badFields(t.sound())
	})
	check(c, &l.Streams, func(s *Stream) string {
		if f := parent(&l.Transports, s.Transport); f != "" {
			return f
		}
		return badFields(s.RTP.Highest() < 1<<48 && s.RTCP.Highest() < 1<<31)
	})
	check(c, &l.Producers, func(p *Producer) string {
		if f := parent(&l.Transports, p.Transport); f != "" {
			return f
		}
		stream := Ref(p.Stream.Load())
		if s := l.Streams.Get(stream); stream != 0 && (s == nil || s.Transport != p.Transport) {
			return reasonLink
		}
		return badFields(p.sound())
	})
	check(c, &l.Consumers, func(r *Consumer) string {
		if f := parent(&l.Transports, r.Transport); f != "" {
			return f
		}
		if f := parent(&l.Producers, r.Producer); f != "" {
			return f
		}
		mine := l.Transports.Get(r.Transport)
		if l.Transports.Get(l.Producers.Get(r.Producer).Transport).Router != mine.Router {
			return reasonLink
		}
		return badFields(r.sound())
	})
	l.blocks.recover(c.marks)
	l.Routers.recover()
	l.Transports.recover()
	l.Streams.recover()
	l.Producers.recover()
	l.Consumers.recover()
}

func badFields(sound bool) string {
	if sound {
		return ""
	}
	return reasonFields
}

// parent says whether a record that another hangs on is there.
func parent[R any, P record[R]](t *Table[R, P], ref Ref) string {
	switch {
	case t.Get(ref) != nil:
		return ""
	case ref != 0 && uint32(ref) <= t.used.Load() && P(t.records.at(uint32(ref)-1)).header().state.Load() == stateDying:
		return reasonClosed
	default:
		return reasonLink
	}
}

// check condemns the records of a table that cannot be, and marks the blocks of all
// others. Condemned records are freed by recover, their blocks as those that nobody
// reaches; what hangs on them is condemned in its turn.
func check[R any, P record[R]](c *checker, t *Table[R, P], find func(P) string) {
	clear(c.names)
	for i := range t.used.Load() {
		r := P(t.records.at(i))
		h := r.header()
		if h.state.Load() != stateLive {
			continue
		}
		reason := c.headFault(h, Ref(i+1), nameOf(r))
		if reason == "" && find != nil {
			reason = find(r)
		}
		if reason == "" && !c.markAll(r.blobs()) {
			reason = reasonBlob
		}
		if reason != "" {
			h.state.Store(stateDying)
			if reason != reasonClosed {
				c.dropped[reason]++
			}
			continue
		}
		if n := nameOf(r); n != nil {
			c.names[n.String()] = true
		}
	}
}

// headFault is what is wrong with what all records have; name is nil for those
// without.
func (c *checker) headFault(h *head, ref Ref, name *Name) string {
	switch {
	case h.ref != ref:
		return reasonFields
	case name == nil:
		return ""
	case !name.sound():
		return reasonName
	case c.names[name.String()]:
		return reasonTwice
	default:
		return ""
	}
}

// markAll marks the blobs of one record, all or none.
func (c *checker) markAll(blobs [maxBlobs]*Blob) bool {
	for i, b := range blobs {
		if b == nil || c.ledger.blocks.mark(c.marks, b) {
			continue
		}
		for _, marked := range blobs[:i] {
			c.unmark(marked)
		}
		return false
	}
	return true
}

// unmark undoes the marks of a chain that was marked whole.
func (c *checker) unmark(b *Blob) {
	if b == nil {
		return
	}
	for ref := Ref(b.first.Load()); ref != 0; ref = c.ledger.blocks.at(ref).next {
		c.marks.flip(ref)
	}
}

func nameOf(r any) *Name {
	switch r := r.(type) {
	case *Router:
		return &r.Name
	case *Transport:
		return &r.Name
	case *Producer:
		return &r.Name
	case *Consumer:
		return &r.Name
	default:
		return nil // streams have none
	}
}

func (t *Transport) sound() bool {
	if t.Dtls.Load() > DtlsDone {
		return false
	}
	for i := range t.Paths {
		if t.Paths[i].State.Load() > PathSelected {
			return false
		}
	}
	return true
}

func (p *Producer) sound() bool { return p.Mid.n <= MaxName && p.ClockRate > 0 }

func (c *Consumer) sound() bool {
	const fixed = 12 // RFC 3550 section 5.1
	size := int(c.HeaderLen)
	return size >= fixed && size <= TemplateSize && int(c.AbsSendTime)+3 <= max(size, 3) &&
		int(c.LevelElement)+int(c.LevelLen) <= size && (c.LevelElement == 0 || c.LevelLen > 0)
}
