package rtc

import (
	"encoding/binary"
	"fmt"

	pionrtp "github.com/pion/rtp"
	pionsrtp "github.com/pion/srtp/v3"

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
	// maxRTCPSources bounds the SSRCs that a client may send RTCP from beside those of
	// its producers: each keeps a replay window.
	maxRTCPSources = 64
)

// srtpState is the protection of one transport, both ways: earned state.
//
// The rollover counter of every packet is given to both explicitly, from extended
// sequence numbers kept here and in the producers. So what an index is does not depend
// on what they saw before.
type srtpState struct {
	rec     *ledger.Transport
	in      *pionsrtp.Context // nil before DTLS is connected
	out     srtp.Sealer       // alike
	profile handshake.Profile
	// rtcpIndex is the SRTCP index last used, for all SSRCs of the transport
	// together, which keeps (key, SSRC, index) unique. rec holds the end of the block
	// of indexes that may be used; a successor starts beyond it.
	rtcpIndex uint32
	streams   []*inStream    // every incoming SSRC since the transport was made
	header    pionrtp.Header // reused, so that parsing does not allocate
}

// rtcpBlock is how many SRTCP indexes are reserved at once.
const rtcpBlock = 1024

// open makes both out of a handshake's keys.
func (s *srtpState) open(r *handshake.Result) error {
	var profile pionsrtp.ProtectionProfile
	newSealer := srtp.NewGCM
	switch r.Profile {
	case handshake.AEADAES128GCM:
		profile = pionsrtp.ProtectionProfileAeadAes128Gcm
	case handshake.AES128CMHMACSHA180:
		profile, newSealer = pionsrtp.ProtectionProfileAes128CmHmacSha1_80, srtp.NewSHA1
	default:
		return fmt.Errorf("srtp profile %#04x: %w", uint16(r.Profile), errs.ErrUnsupported)
	}
	// Replay protection is ours (type ledger.Window): a successor goes on with it.
	in, err := pionsrtp.CreateContext(r.RemoteKey, r.RemoteSalt, profile,
		pionsrtp.SRTPNoReplayProtection(), pionsrtp.SRTCPNoReplayProtection())
	if err != nil {
		return fmt.Errorf("srtp incoming: %w", err)
	}
	out, err := newSealer(r.LocalKey, r.LocalSalt)
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

// unprotect authenticates and decrypts b in place. For an SSRC that is known, the
// rollover counter follows from index; an unknown one starts at zero and takes up
// memory only after it proved authentic.
func (s *srtpState) unprotect(b []byte, ssrc uint32, index uint64, known bool) ([]byte, error) {
	if !known {
		_, known = s.in.ROC(ssrc) // one that was forgotten since
	}
	if known {
		s.in.SetROC(ssrc, uint32(index>>16))
	}
	return s.in.DecryptRTP(b, b, &s.header)
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
// a source is taken once.
func (l *Loop) unprotectRTCP(t *transport, b []byte) ([]byte, error) {
	s := &t.srtp
	index, ok := s.rtcpIndexOf(b)
	if !ok {
		return nil, fmt.Errorf("srtcp packet of %d bytes: %w", len(b), errs.ErrInvalid)
	}
	ssrc := binary.BigEndian.Uint32(b[4:])
	source := s.lookup(ssrc)
	switch {
	case source != nil && !source.rec.RTCP.Fresh(uint64(index)):
		return nil, fmt.Errorf("srtcp index %d: %w", index, errs.ErrExists)
	case source == nil && s.strangers(t) >= maxRTCPSources:
		return nil, fmt.Errorf("rtcp sources: %w", errs.ErrExhausted)
	}
	plain, err := s.in.DecryptRTCP(b, b, nil)
	if err != nil {
		return nil, err
	}
	if source == nil {
		if source, err = l.streamFor(t, ssrc); err != nil {
			return nil, fmt.Errorf("rtcp source: %w", err)
		}
	}
	source.rec.RTCP.Mark(uint64(index))
	return plain, nil
}

// rtcpIndexOf is the index of an SRTCP packet (RFC 3711 section 3.4, RFC 7714 section
// 9.1); false: it is too short to have one.
func (s *srtpState) rtcpIndexOf(b []byte) (uint32, bool) {
	const header, word, sha1Tag = 8, 4, 10
	at := len(b) - word
	if s.profile == handshake.AES128CMHMACSHA180 {
		at -= sha1Tag
	}
	if at < header {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[at:]) & maxSRTCPIndex, true
}

// strangers counts the sources of RTCP that are no producer's.
func (s *srtpState) strangers(t *transport) int {
	n := 0
	for _, known := range s.streams {
		if known.rec.RTCP.Started() && !t.produces(known) {
			n++
		}
	}
	return n
}

// claims says whether an SRTCP packet names a source that is known here.
func (s *srtpState) claims(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	known := s.lookup(binary.BigEndian.Uint32(b[4:]))
	return known != nil && known.rec.RTCP.Started()
}
