package srtp

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dspeak/sfu/internal/errs"
)

// FuzzOpen: whatever comes is refused in order, and nobody's memory is written to.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3}, 12, uint64(1))
	f.Add([]byte{0x80, 200, 0, 1, 0, 0, 0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, uint64(0))
	f.Fuzz(func(t *testing.T, packet []byte, header int, index uint64) {
		if header < 0 || header > len(packet) {
			return
		}
		for _, p := range profiles() {
			c, err := p.make(make([]byte, keySize), make([]byte, p.salt))
			if err != nil {
				t.Fatal(err)
			}
			behind := []byte("behind")
			b := append(bytes.Clone(packet), behind...)[:len(packet)]
			if _, err := c.OpenRTP(b, header, 7, index); !errors.Is(err, errs.ErrDenied) {
				t.Fatalf("%s: RTP opened: %v", p.name, err)
			}
			if _, err := c.OpenRTCP(b); !errors.Is(err, errs.ErrDenied) {
				t.Fatalf("%s: RTCP opened: %v", p.name, err)
			}
			c.RTCPIndex(b)
			if !bytes.Equal(b[:cap(b)][len(b):len(b)+len(behind)], behind) {
				t.Fatal("written behind the packet")
			}
		}
	})
}
