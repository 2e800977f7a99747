package ledger

import (
	"fmt"
	"hash/fnv"
	"reflect"
	"testing"

	"github.com/dspeak/sfu/internal/ledgerfile"
)

// TestLayout fails when a record changes, so that nobody forgets that a successor of
// another version reads it: count Layout up, and put the new value here.
func TestLayout(t *testing.T) {
	h := fnv.New64a()
	for _, v := range []any{superblock{}, Router{}, Transport{}, Producer{}, Consumer{}, Stream{}, block{}} {
		describe(h.Write, reflect.TypeOf(v))
	}
	if got := h.Sum64(); Layout != 3 || got != 0xc81e2769680c61b8 {
		t.Fatalf("layout %d is %#x", Layout, got)
	}
}

// describe writes where each field of a type lies; it fails for pointers.
func describe(write func([]byte) (int, error), typ reflect.Type) {
	_, _ = write(fmt.Appendf(nil, "%s %d\n", typ.Kind(), typ.Size()))
	switch typ.Kind() {
	case reflect.Struct:
		for f := range typ.Fields() {
			_, _ = write(fmt.Appendf(nil, "%s %d ", f.Name, f.Offset))
			describe(write, f.Type)
		}
	case reflect.Array:
		describe(write, typ.Elem())
	case reflect.Pointer, reflect.Slice, reflect.String, reflect.Map, reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer:
		panic("a record holds a " + typ.String())
	default:
	}
}

func TestFileHoldsTheLimits(t *testing.T) {
	g := fileGeometry()
	if g.size() > ledgerfile.Size {
		t.Fatalf("%+v takes %d bytes", g, g.size())
	}
	for name, table := range map[string]int64{
		"routers": int64(g.Routers) * stride[Router](), "transports": int64(g.Transports) * stride[Transport](),
		"producers": int64(g.Producers) * stride[Producer](), "consumers": int64(g.Consumers) * stride[Consumer](),
		"streams": int64(g.Streams) * stride[Stream](), "blocks": int64(g.Blocks) * stride[block](),
	} {
		if table%4096 != 0 { // so that memory can be given back by table
			t.Fatalf("%s take %d bytes, which are no pages", name, table)
		}
	}
}
