package handshake

import "encoding/binary"

// Content types and sizes of the DTLS record layer (RFC 6347 section 4.1).
const (
	recordHeader   = 13
	fragmentHeader = 12 // of a handshake fragment (RFC 6347 section 4.2.2)

	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeApplicationData  = 23

	typeClientHello = 1 // the first byte of a handshake fragment (RFC 6347 section 4.2.2)
)

// record is a view of one DTLS record.
type record struct {
	kind  byte
	epoch uint16
	body  []byte
}

// nextRecord cuts the first record off a datagram; false: there is none, or it
// is malformed.
func nextRecord(datagram []byte) (r record, rest []byte, ok bool) {
	const (
		versionMajor = 0xfe // both DTLS versions
		epochOffset  = 3
		lengthOffset = 11
	)
	if len(datagram) < recordHeader || datagram[1] != versionMajor {
		return record{}, nil, false
	}
	end := recordHeader + int(binary.BigEndian.Uint16(datagram[lengthOffset:]))
	if end > len(datagram) {
		return record{}, nil, false
	}
	return record{
		kind:  datagram[0],
		epoch: binary.BigEndian.Uint16(datagram[epochOffset:]),
		body:  datagram[recordHeader:end],
	}, datagram[end:], true
}

// allowed reports whether a datagram may go to the handshake: whole records of
// kinds that belong there. Plaintext alerts and data are left out: anybody who
// knows two addresses can forge them, and they would end the handshake.
func allowed(datagram []byte) bool {
	if len(datagram) == 0 {
		return false
	}
	for len(datagram) > 0 {
		r, rest, ok := nextRecord(datagram)
		if !ok || r.epoch > 1 || len(r.body) == 0 {
			return false
		}
		switch r.kind {
		case typeChangeCipherSpec, typeHandshake:
		case typeAlert, typeApplicationData:
			if r.epoch == 0 {
				return false
			}
		default:
			return false
		}
		datagram = rest
	}
	return true
}

// startsHandshake reports whether a datagram begins with a ClientHello or a
// fragment of one.
func startsHandshake(datagram []byte) bool {
	r, _, ok := nextRecord(datagram)
	return ok && r.kind == typeHandshake && r.epoch == 0 && len(r.body) > 0 && r.body[0] == typeClientHello
}

// holds reports whether a datagram has a record of a kind and an epoch.
func holds(datagram []byte, kind byte, epoch uint16) bool {
	for len(datagram) > 0 {
		r, rest, ok := nextRecord(datagram)
		if !ok {
			return false
		}
		if r.kind == kind && r.epoch == epoch {
			return true
		}
		datagram = rest
	}
	return false
}
