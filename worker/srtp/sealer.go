package srtp

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/prefetch"
)

// Sealer protects packets under one master key. It belongs to one goroutine.
type Sealer interface {
	// RTP protects the packet b, whose header has the given length, under an extended
	// sequence number, the roll-over counter above the lower 16 bits. b has MaxTag bytes
	// of capacity to spare.
	RTP(b []byte, header int, ssrc uint32, index uint64) []byte
	// RTCP protects the compound packet b of at least eight bytes under an index below
	// 2^31. b has MaxTag and four bytes of capacity to spare.
	RTCP(b []byte, index uint32) []byte
	// Prefetch asks the CPU for the keys that RTP uses. It reads the Sealer itself, which
	// Prefetch of this package can ask for before.
	Prefetch()
}

// Opener authenticates and decrypts packets under one master key, in place. It belongs to
// one goroutine. Errors wrap errs.ErrDenied: the packet is too short, or not the
// peer's. What was seen before is the caller's to know.
type Opener interface {
	// OpenRTP is for a packet whose header has the given length, under an extended
	// sequence number. It returns the header and the payload.
	OpenRTP(b []byte, header int, ssrc uint32, index uint64) ([]byte, error)
	// OpenRTCP is for a compound packet, which must be encrypted.
	OpenRTCP(b []byte) ([]byte, error)
	// RTCPIndex is the index that an SRTCP packet names; false: it is too short to have
	// one. Nothing is authenticated.
	RTCPIndex(b []byte) (index uint32, ok bool)
}

// Context does both, for the key of one direction. The ciphers for RTP are made when
// they are needed first: many transports only send, or only receive.
type Context interface {
	Sealer
	Opener
}

// errNotAuthentic says nothing more: an error a packet must not cost memory.
var errNotAuthentic = fmt.Errorf("srtp packet is not the peer's: %w", errs.ErrDenied)

// rtcpIndex is the word with flag and index that ends before the last n bytes.
func rtcpIndex(b []byte, n int) (index uint32, ok bool) {
	if len(b) < rtcpHeader+rtcpWord+n {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[len(b)-n-rtcpWord:]) &^ encrypted, true
}

// Prefetch asks the CPU for s.
func Prefetch(s Sealer) { prefetch.Lines(pointee(&s), 2) }

// pointee is where the value of an interface lies. It is for Prefetch only: where an
// interface looks otherwise, something useless is asked for.
func pointee[I any](v *I) unsafe.Pointer { return (*[2]unsafe.Pointer)(unsafe.Pointer(v))[1] }

// MaxTag is the longest authentication tag.
const MaxTag = 16

const (
	keySize = 16 // of the ciphers
	// rtcpHeader is the part of an RTCP packet that stays readable.
	rtcpHeader = 8
	rtcpWord   = 4 // flag and index
	// encrypted is the flag E of SRTCP.
	encrypted = 1 << 31
)

// label is what a session key is for (RFC 3711 section 4.3.2).
type label byte

const (
	rtpKey label = iota
	rtpAuth
	rtpSalt
	rtcpKey
	rtcpAuth
	rtcpSalt
)

// derive fills out with the session key for a purpose (RFC 3711 section 4.3.1, RFC 7714
// section 11, key derivation rate 0).
func derive(masterKey, masterSalt []byte, purpose label, out []byte) error {
	block, err := aes.NewCipher(masterKey)
	if err != nil {
		return fmt.Errorf("srtp master key: %w: %w", err, errs.ErrInvalid)
	}
	var counter, stream [aes.BlockSize]byte
	copy(counter[:], masterSalt)
	counter[7] ^= byte(purpose)
	for n := uint16(0); len(out) > 0; n++ {
		binary.BigEndian.PutUint16(counter[aes.BlockSize-2:], n)
		block.Encrypt(stream[:], counter[:])
		out = out[copy(out, stream[:]):]
	}
	return nil
}

// deriveAll derives several keys.
func deriveAll(masterKey, masterSalt []byte, keys map[label][]byte) error {
	for purpose, out := range keys {
		if err := derive(masterKey, masterSalt, purpose, out); err != nil {
			return err
		}
	}
	return nil
}

func checkSizes(masterKey, masterSalt []byte, salt int) error {
	if len(masterKey) != keySize || len(masterSalt) != salt {
		return fmt.Errorf("srtp key of %d and salt of %d bytes, want %d and %d: %w",
			len(masterKey), len(masterSalt), keySize, salt, errs.ErrInvalid)
	}
	return nil
}
