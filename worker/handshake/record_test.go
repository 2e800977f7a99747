package handshake

import (
	"bytes"
	"testing"
)

func FuzzRecords(f *testing.F) {
	for _, b := range strays() {
		f.Add(b)
	}
	f.Add(clientHello(3, 40))
	f.Add(append(clientHello(1, 10), clientHello(2, 20)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var whole []byte
		kinds := map[[2]uint16]bool{}
		rest := b
		for len(rest) > 0 {
			r, next, ok := nextRecord(rest)
			if !ok {
				break
			}
			whole = append(whole, rest[:len(rest)-len(next)]...)
			kinds[[2]uint16{uint16(r.kind), r.epoch}] = true
			rest = next
		}
		if !bytes.HasPrefix(b, whole) || len(whole)+len(rest) != len(b) {
			t.Fatalf("records %x and rest %x of %x", whole, rest, b)
		}
		if allowed(b) && (len(rest) > 0 || len(b) == 0 || kinds[[2]uint16{typeAlert, 0}] || kinds[[2]uint16{typeApplicationData, 0}]) {
			t.Errorf("%x is allowed", b)
		}
		for k := range kinds {
			if !holds(b, byte(k[0]), k[1]) {
				t.Errorf("%x should hold %v", b, k)
			}
		}
		if startsHandshake(b) && !kinds[[2]uint16{typeHandshake, 0}] {
			t.Errorf("%x starts a handshake", b)
		}
	})
}

func TestCapturedFlightsAreAllowed(t *testing.T) {
	for _, role := range []Role{Server, Client} {
		l := newLink(t, newPool(t, Config{}), setup{role: role})
		l.mustFinish()
		l.close()
		for i, b := range append(l.theirs(), l.ours()...) {
			if !allowed(b) {
				t.Errorf("role %d: datagram %d is not allowed: %x", role, i, b)
			}
		}
	}
}
