package rtc

import (
	"encoding/binary"
	"fmt"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/handshake"
	"github.com/dspeak/sfu/worker/ledger"
	"github.com/dspeak/sfu/worker/srtp"
)

const (
	// maxTag is the longest authentication tag of the profiles in use.
	maxTag = srtp.MaxTag
	// srtcpOverhead is what SRTCP adds at most: tag and index.
	srtcpOverhead = maxTag + 4
	// maxSRTCPIndex ends the use of a key (RFC 3711 section 9.2).
	maxSRTCPIndex = 1<<31 - 1
)

// srtpState is the protection of one transport, both ways: earned state.
//
// The rollover counter of every packet is given to both explicitly, from extended
// sequence numbers kept here and in the producers. So what an index is does not depend
// on what they saw before.
type srtpState struct {
	rec     *ledger.Transport
	in      srtp.Opener // nil before DTLS is connected
	out     srtp.Sealer // alike
	profile handshake.Profile
	// rtcpIndex is the SRTCP index last used, for all SSRCs of the transport
	// together, which keeps (key, SSRC, index) unique. rec holds the end of the block
	// of indexes that may be used; a successor starts beyond it.
	rtcpIndex uint32
	streams   []*inStream // the incoming SSRCs, in the order of their first packets
	room      room[inStream]
	forgotten []forgotten // those that made room, the oldest first
}

// rtcpBlock is how many SRTCP indexes are reserved at once.
const rtcpBlock = 1024

// open makes both out of a handshake's keys. Replay protection is not theirs but ours
// (type ledger.Window): a successor goes on with it.
func (s *srtpState) open(r *handshake.Result) error {
	newContext := srtp.NewGCM
	switch r.Profile {
	case handshake.AEADAES128GCM:
	case handshake.AES128CMHMACSHA180:
		newContext = srtp.NewSHA1
	default:
		return fmt.Errorf("srtp profile %#04x: %w", uint16(r.Profile), errs.ErrUnsupported)
	}
	in, err := newContext(r.RemoteKey, r.RemoteSalt)
	if err != nil {
		return fmt.Errorf("srtp incoming: %w", err)
	}
	out, err := newContext(r.LocalKey, r.LocalSalt)
	if err != nil {
		return fmt.Errorf("srtp outgoing: %w", err)
	}
	s.in, s.out, s.profile = in, out, r.Profile
	return nil
}

// profileName is the profile as the IANA registry of RFC 5764 writes it.
func (s *srtpState) profileName() string {
	switch {
	case s.in == nil:
		return ""
	case s.profile == handshake.AEADAES128GCM:
		return "SRTP_AEAD_AES_128_GCM"
	default:
		return "SRTP_AES128_CM_HMAC_SHA1_80"
	}
}

// protectRTCP protects a compound packet in b, which has srtcpOverhead bytes of
// capacity to spare, in place.
func (s *srtpState) protectRTCP(b []byte) ([]byte, error) {
	if s.rtcpIndex >= maxSRTCPIndex {
		return nil, fmt.Errorf("srtcp indexes: %w", errs.ErrExhausted)
	}
	if reserved := s.rec.RTCPReserved.Load(); s.rtcpIndex >= reserved {
		s.rec.RTCPReserved.Store(min(reserved+rtcpBlock, maxSRTCPIndex))
	}
	s.rtcpIndex++
	return s.out.RTCP(b, s.rtcpIndex), nil
}

// unprotectRTCP authenticates and decrypts a compound packet in place. Each index of
// a source is taken once. newest: it is above all before of its source. Of a new source
// only the transport's very first packet counts as newest: what is known of a source may
// have been forgotten, and then this one may have come before.
func (l *Loop) unprotectRTCP(t *transport, b []byte) (plain []byte, newest bool, err error) {
	s := &t.srtp
	index, ok := s.in.RTCPIndex(b)
	if !ok {
		return nil, false, errNoIndex
	}
	ssrc := binary.BigEndian.Uint32(b[4:])
	source := s.lookup(ssrc)
	if source != nil {
		ok = source.rec.RTCP.Fresh(uint64(index))
	} else {
		f, _ := s.recall(ssrc)
		ok = uint64(index) >= f.rtcp
	}
	if !ok {
		return nil, false, errReplayed
	}
	if plain, err = s.in.OpenRTCP(b); err != nil {
		return nil, false, err
	}
	if source == nil {
		if source, err = l.streamFor(t, ssrc); err != nil {
			return nil, false, fmt.Errorf("rtcp source: %w", err)
		}
	}
	if newest = !t.ice.spoke; source.rec.RTCP.Started() {
		newest = uint64(index) > source.rec.RTCP.Highest()
	}
	source.rec.RTCP.Mark(uint64(index))
	source.heard = l.now
	return plain, newest, nil
}

// Errors of packets are made once: an attacker's packet must not cost memory.
var (
	errNoIndex  = fmt.Errorf("srtcp packet without an index: %w", errs.ErrInvalid)
	errReplayed = fmt.Errorf("srtcp index came before: %w", errs.ErrExists)
)

// claims says whether an SRTCP packet names a source that is known here.
func (s *srtpState) claims(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	known := s.lookup(binary.BigEndian.Uint32(b[4:]))
	return known != nil && known.rec.RTCP.Started()
}
