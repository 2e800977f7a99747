package ledger

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/internal/ledgerfile"
)

// Layout is the version of what the memory holds. It grows with every change of a
// record: TestLayout fails where that was forgotten.
const Layout = 3

// Geometry is how many records of each kind there is room for.
type Geometry struct {
	Routers, Transports, Producers, Consumers, Streams, Blocks uint32
}

// fileGeometry is that of a ledger of ledgerfile.Size. The limits of package rtc fit
// into it; most of the file is never written and costs nothing.
func fileGeometry() Geometry {
	return Geometry{
		Routers: 1 << 12, Transports: 1 << 14, Producers: 1 << 18, Consumers: 1 << 20, Streams: 1 << 19, Blocks: 1 << 24,
	}
}

// geometryFor is the largest that fits into so many bytes.
func geometryFor(size int64) Geometry {
	g := fileGeometry()
	for g.size() > size && g.Routers > 1 {
		g = Geometry{
			Routers: g.Routers / 2, Transports: g.Transports / 2, Producers: g.Producers / 2,
			Consumers: g.Consumers / 2, Streams: g.Streams / 2, Blocks: g.Blocks / 2,
		}
	}
	return g
}

// privateGeometry is that of Private.
func privateGeometry() Geometry {
	return Geometry{
		Routers: 1 << 10, Transports: 1 << 11, Producers: 1 << 12, Consumers: 1 << 13, Streams: 1 << 13, Blocks: 1 << 17,
	}
}

// size is how many bytes a ledger of that geometry takes.
func (g Geometry) size() int64 {
	return tablesAt + int64(g.Routers)*stride[Router]() + int64(g.Transports)*stride[Transport]() +
		int64(g.Producers)*stride[Producer]() + int64(g.Consumers)*stride[Consumer]() +
		int64(g.Streams)*stride[Stream]() + int64(g.Blocks)*stride[block]()
}

// superblock is the second page of a ledger.
type superblock struct {
	geometry Geometry
	// used are how many records of each table were ever in use, in the order of
	// Geometry: what lies beyond was never written.
	used  [6]atomic.Uint32
	epoch uint64
	Root
}

// Root is what the worker as a whole needs.
type Root struct {
	// Certificate is the DTLS certificate with its key.
	Certificate Blob
	// CName names the worker as a receiver of streams (RFC 3550 section 6.5.1).
	CName Name
}

// Ledger is the state of one slot.
type Ledger struct {
	Routers    Table[Router, *Router]
	Transports Table[Transport, *Transport]
	Producers  Table[Producer, *Producer]
	Consumers  Table[Consumer, *Consumer]
	Streams    Table[Stream, *Stream]
	blocks     blockStore
	super      *superblock
	header     *ledgerfile.Header
	mapped     bool // pages can be given back
}

// Create begins a ledger with nothing in mem, a mapping of ledgerfile.Map. Less memory
// than ledgerfile.Size makes one of fewer records.
func Create(mem []byte, epoch uint64) (*Ledger, error) {
	return create(mem, geometryFor(int64(len(mem))), epoch)
}

// Private is a ledger in memory that dies with the process. It is smaller.
func Private() *Ledger {
	g := privateGeometry()
	l, err := create(privateMemory(g.size()), g, 0)
	if err != nil {
		panic(err) //nolint:forbidigo // the geometry is a constant that tests use
	}
	return l
}

func create(mem []byte, g Geometry, epoch uint64) (*Ledger, error) {
	header, err := ledgerfile.HeaderOf(mem)
	if err != nil {
		return nil, err
	}
	if header.Layout() != 0 {
		return nil, fmt.Errorf("create ledger: it holds state: %w", errs.ErrExists)
	}
	super, err := superblockOf(mem)
	if err != nil {
		return nil, err
	}
	super.geometry, super.epoch = g, epoch
	l, err := lay(mem, super)
	if err != nil {
		return nil, err
	}
	header.SetLayout(Layout)
	return l, nil
}

// lay lays the tables over the memory.
func lay(mem []byte, super *superblock) (*Ledger, error) {
	g := super.geometry
	header, err := ledgerfile.HeaderOf(mem)
	if err != nil {
		return nil, err
	}
	if g.size() > int64(len(mem)) {
		return nil, fmt.Errorf("ledger of %d bytes for %+v: %w", len(mem), g, errs.ErrInvalid)
	}
	l := &Ledger{super: super, header: header, mapped: len(mem) == ledgerfile.Size}
	l.blocks.used = &super.used[5]
	at := int64(tablesAt)
	l.Routers, err = newTable[Router](l, mem, &at, g.Routers, &super.used[0])
	if err == nil {
		l.Transports, err = newTable[Transport](l, mem, &at, g.Transports, &super.used[1])
	}
	if err == nil {
		l.Producers, err = newTable[Producer](l, mem, &at, g.Producers, &super.used[2])
	}
	if err == nil {
		l.Consumers, err = newTable[Consumer](l, mem, &at, g.Consumers, &super.used[3])
	}
	if err == nil {
		l.Streams, err = newTable[Stream](l, mem, &at, g.Streams, &super.used[4])
	}
	if err == nil {
		l.blocks.array, err = arrayAt[block](mem, at, g.Blocks)
	}
	if err != nil {
		return nil, err
	}
	for i := range super.used {
		if n := [6]uint32{g.Routers, g.Transports, g.Producers, g.Consumers, g.Streams, g.Blocks}[i]; super.used[i].Load() > n {
			return nil, fmt.Errorf("ledger table %d: %d of %d records in use: %w", i, super.used[i].Load(), n, errs.ErrInvalid)
		}
	}
	return l, nil
}

// Header is the page that the supervisor reads.
func (l *Ledger) Header() *ledgerfile.Header { return l.header }

// Epoch counts how often the slot began with nothing, as the creator said.
func (l *Ledger) Epoch() uint64 { return l.super.epoch }

// Root is what belongs to no record.
func (l *Ledger) Root() *Root { return &l.super.Root }

// Release gives the memory of past records back to the system, if no record is left.
// It says whether none was.
func (l *Ledger) Release() (bool, error) {
	if l.Routers.Len()+l.Transports.Len()+l.Producers.Len()+l.Consumers.Len()+l.Streams.Len() > 0 {
		return false, nil
	}
	if !l.mapped {
		return true, nil
	}
	return true, errors.Join(l.Routers.release(), l.Transports.release(), l.Producers.release(),
		l.Consumers.release(), l.Streams.release(), l.blocks.release())
}
