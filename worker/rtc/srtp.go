package rtc

import (
	"encoding/binary"
	"fmt"
	"slices"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/dspeak/sfu/internal/errs"
	"github.com/dspeak/sfu/worker/handshake"
)

const (
	// replayWindow is the number of packets that may arrive late. RFC 3711 section
	// 3.3.2 asks for at least 64.
	replayWindow = 128
	// maxTag is the longest authentication tag of the profiles in use.
	maxTag = 16
	// srtcpOverhead is what SRTCP adds at most: tag and index.
	srtcpOverhead = maxTag + 4
	// maxSRTCPIndex ends the use of a key (RFC 3711 section 9.2).
	maxSRTCPIndex = 1<<31 - 1
	// maxRTCPSources bounds the SSRCs that a client may send RTCP from: each keeps
	// a replay window.
	maxRTCPSources = 64
)

// srtpState is the protection of one transport, both ways: earned state.
//
// The rollover counter of every packet is given to the contexts explicitly, from
// extended sequence numbers kept here and in the producers. So what an index is
// does not depend on what a context saw before.
type srtpState struct {
	in, out *srtp.Context // nil before DTLS is connected
	profile handshake.Profile
	// rtcpIndex is the SRTCP index last used, for all SSRCs of the transport
	// together, which keeps (key, SSRC, index) unique. rtcpReserved is the end of
	// the block of indexes that may be used; a successor starts beyond it.
	rtcpIndex, rtcpReserved uint32
	rtcpSources             []uint32
	streams                 []*inStream    // every incoming SSRC since the transport was made
	header                  pionrtp.Header // reused, so that parsing does not allocate
}

// rtcpBlock is how many SRTCP indexes are reserved at once.
const rtcpBlock = 1024

// open makes the contexts out of a handshake's keys.
func (s *srtpState) open(r *handshake.Result) error {
	var profile srtp.ProtectionProfile
	switch r.Profile {
	case handshake.AEADAES128GCM:
		profile = srtp.ProtectionProfileAeadAes128Gcm
	case handshake.AES128CMHMACSHA180:
		profile = srtp.ProtectionProfileAes128CmHmacSha1_80
	default:
		return fmt.Errorf("srtp profile %#04x: %w", uint16(r.Profile), errs.ErrUnsupported)
	}
	in, err := srtp.CreateContext(r.RemoteKey, r.RemoteSalt, profile,
		srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	if err != nil {
		return fmt.Errorf("srtp incoming: %w", err)
	}
	out, err := srtp.CreateContext(r.LocalKey, r.LocalSalt, profile)
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

// protect protects the packet in b, which has maxTag bytes of capacity to spare,
// in place, under the extended sequence number index. The caller never uses an
// index twice.
func (s *srtpState) protect(b []byte, ssrc uint32, index uint64) ([]byte, error) {
	s.out.SetROC(ssrc, uint32(index>>16))
	return s.out.EncryptRTP(b, b, &s.header)
}

// unprotect authenticates and decrypts b in place. For an SSRC that is known, the
// rollover counter follows from index; an unknown one starts at zero and takes up
// memory only after it proved authentic.
func (s *srtpState) unprotect(b []byte, ssrc uint32, index uint64, known bool) ([]byte, error) {
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
	if s.rtcpIndex == s.rtcpReserved {
		s.rtcpReserved = min(s.rtcpReserved+rtcpBlock, maxSRTCPIndex)
	}
	// The context adds one before use.
	s.out.SetIndex(binary.BigEndian.Uint32(b[4:]), s.rtcpIndex)
	s.rtcpIndex++
	return s.out.EncryptRTCP(b, b, nil)
}

// unprotectRTCP authenticates and decrypts a compound packet in place.
func (s *srtpState) unprotectRTCP(b []byte) ([]byte, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("srtcp packet of %d bytes: %w", len(b), errs.ErrInvalid)
	}
	ssrc := binary.BigEndian.Uint32(b[4:])
	known := s.knowsRTCPSource(ssrc)
	if !known && len(s.rtcpSources) >= maxRTCPSources {
		return nil, fmt.Errorf("rtcp sources: %w", errs.ErrExhausted)
	}
	plain, err := s.in.DecryptRTCP(b, b, nil)
	if err == nil && !known {
		s.rtcpSources = append(s.rtcpSources, ssrc)
	}
	return plain, err
}

func (s *srtpState) knowsRTCPSource(ssrc uint32) bool {
	return slices.Contains(s.rtcpSources, ssrc)
}

// claims says whether an SRTCP packet names a source that is known here.
func (s *srtpState) claims(b []byte) bool {
	return len(b) >= 8 && s.knowsRTCPSource(binary.BigEndian.Uint32(b[4:]))
}
