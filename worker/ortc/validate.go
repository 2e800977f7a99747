package ortc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dspeak/sfu/internal/errs"
)

// Bounds on what a client may send. Browsers stay far below them.
const (
	maxCodecs     = 128 // there are not more payload types
	maxExtensions = 64
	maxFeedback   = 16
	maxParameters = 32
	maxText       = 256
	maxMid        = 16
	maxCNAME      = 255 // RFC 3550 section 6.5
)

const maxPayloadType = 127

// ValidateRtpParameters checks what a producer sends: bounds, form, and that it
// is one audio encoding whose packets can be recognised. Faults wrap
// errs.ErrInvalid.
func ValidateRtpParameters(p RtpParameters) error {
	if err := validateCodecs(p.Codecs); err != nil {
		return err
	}
	if err := validateExtensions(p.HeaderExtensions); err != nil {
		return err
	}
	if n := len(p.Mid); n > maxMid {
		return invalid("mid of %d bytes, want at most %d", n, maxMid)
	}
	if !isVisible(p.Mid) {
		return invalid("mid %q holds a character that SDP does not allow", p.Mid)
	}
	// The cname stands in the SDP of every listener: it must not carry a line end, nor
	// what separates parameters there. No browser's has either.
	if n := len(p.Rtcp.CNAME); n > maxCNAME {
		return invalid("rtcp cname of %d bytes, want at most %d", n, maxCNAME)
	}
	if !isVisible(p.Rtcp.CNAME) || strings.Contains(p.Rtcp.CNAME, ";") {
		return invalid("rtcp cname %q holds a character that SDP does not allow", cut(p.Rtcp.CNAME))
	}
	return validateEncodings(&p)
}

func validateCodecs(codecs []RtpCodecParameters) error {
	if n := len(codecs); n == 0 || n > maxCodecs {
		return invalid("%d codecs, want 1 to %d", n, maxCodecs)
	}
	var used [maxPayloadType + 1]bool
	for i := range codecs {
		c := &codecs[i]
		if err := validateCodec(c.MimeType, c.ClockRate, c.PayloadType, c.Parameters, c.RtcpFeedback); err != nil {
			return err
		}
		if used[c.PayloadType] {
			return invalid("payload type %d is used twice", c.PayloadType)
		}
		used[c.PayloadType] = true
		// With the marker bit these look like RTCP on the same port (RFC 5761 section 4).
		if c.PayloadType >= 64 && c.PayloadType <= 95 {
			return invalid("payload type %d cannot be told from RTCP", c.PayloadType)
		}
		if IsOpus(c.MimeType) {
			if err := validateOpus(c.Parameters); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateExtensions(extensions []RtpHeaderExtensionParameters) error {
	if n := len(extensions); n > maxExtensions {
		return invalid("%d header extensions, want at most %d", n, maxExtensions)
	}
	ids := map[uint8]bool{}
	uris := map[string]bool{}
	for _, e := range extensions {
		if err := validateExtension(e.URI, e.ID); err != nil {
			return err
		}
		if ids[e.ID] {
			return invalid("header extension id %d is used twice", e.ID)
		}
		if uris[e.URI] {
			return invalid("header extension %q is there twice", e.URI)
		}
		if e.Encrypt {
			return invalid("header extension %q is encrypted, which is not supported", e.URI)
		}
		if err := validateParameters(e.Parameters); err != nil {
			return fmt.Errorf("header extension %q: %w", e.URI, err)
		}
		ids[e.ID], uris[e.URI] = true, true
	}
	return nil
}

// validateEncodings wants the one encoding that audio has.
func validateEncodings(p *RtpParameters) error {
	if n := len(p.Encodings); n != 1 {
		return invalid("%d encodings, want one", n)
	}
	e := p.Encodings[0]
	if len(e.RID) > maxMid || !isVisible(e.RID) {
		return invalid("rid %q", cut(e.RID))
	}
	if e.SSRC == 0 && p.Mid == "" {
		return invalid("neither ssrc nor mid is given")
	}
	if e.SSRC == 0 && !hasExtension(p.HeaderExtensions, URIMid) {
		return invalid("neither an ssrc nor the mid header extension is given")
	}
	if e.CodecPayloadType == 0 {
		return nil
	}
	for i := range p.Codecs {
		if p.Codecs[i].PayloadType == e.CodecPayloadType {
			return nil
		}
	}
	return invalid("no codec has the encoding's payload type %d", e.CodecPayloadType)
}

func validateCodec(mimeType string, clockRate uint32, payloadType uint8, params Parameters, feedback []RtcpFeedback) error {
	kind, name, ok := strings.Cut(strings.ToLower(mimeType), "/")
	if !ok || name == "" || (kind != KindAudio && kind != kindVideo) || len(mimeType) > maxText || !isVisible(mimeType) {
		return invalid("codec mime type %q", cut(mimeType))
	}
	if clockRate == 0 {
		return invalid("codec %s: clock rate missing", cut(mimeType))
	}
	if payloadType > maxPayloadType {
		return invalid("codec %s: payload type %d, want at most %d", cut(mimeType), payloadType, maxPayloadType)
	}
	if err := validateFeedback(feedback); err != nil {
		return fmt.Errorf("codec %s: %w", cut(mimeType), err)
	}
	if err := validateParameters(params); err != nil {
		return fmt.Errorf("codec %s: %w", cut(mimeType), err)
	}
	return nil
}

func validateFeedback(feedback []RtcpFeedback) error {
	if n := len(feedback); n > maxFeedback {
		return invalid("%d rtcp feedback kinds, want at most %d", n, maxFeedback)
	}
	for _, fb := range feedback {
		if !validFeedback(fb) {
			return invalid("rtcp feedback %q %q", cut(fb.Type), cut(fb.Parameter))
		}
	}
	return nil
}

// validFeedback reports whether fb can stand in a line of SDP.
func validFeedback(fb RtcpFeedback) bool {
	return fb.Type != "" && len(fb.Type) <= maxText && len(fb.Parameter) <= maxText && isPrintable(fb.Type+fb.Parameter)
}

// validateParameters wants what can stand in an fmtp line of SDP: clients put
// consumers' parameters there as they are, so that a line end or a semicolon in
// a producer's would reach into the sessions of its listeners.
func validateParameters(params Parameters) error {
	if n := len(params); n > maxParameters {
		return invalid("%d parameters, want at most %d", n, maxParameters)
	}
	for name, value := range params {
		if name == "" || len(name) > maxText || !isVisible(name) || strings.ContainsAny(name, ";=") {
			return invalid("parameter name %q", cut(name))
		}
		switch v := value.(type) {
		case int64:
		case string:
			if len(v) > maxText {
				return invalid("parameter %q of %d bytes, want at most %d", cut(name), len(v), maxText)
			}
			if !isPrintable(v) || strings.Contains(v, ";") {
				return invalid("parameter %q holds a character that SDP does not allow", cut(name))
			}
			if name == parameterApt {
				return invalid("parameter apt is not a number")
			}
		default:
			return invalid("parameter %q is neither an integer nor a text", cut(name))
		}
	}
	return nil
}

// validateOpus wants numbers where RFC 7587 section 6.1 has numbers. Unknown
// parameters stay: receivers ignore them.
func validateOpus(params Parameters) error {
	for _, name := range []string{
		"cbr", "maxaveragebitrate", "maxplaybackrate", "maxptime", "minptime", "ptime",
		"sprop-maxcapturerate", "sprop-stereo", "stereo", "usedtx", "useinbandfec",
	} {
		switch v := params[name].(type) {
		case int64:
			if v < 0 || v > 1<<31-1 {
				return invalid("opus parameter %s is %d", name, v)
			}
		case string:
			if _, err := strconv.ParseUint(v, 10, 31); err != nil {
				return invalid("opus parameter %s is %q, want a number", name, cut(v))
			}
		}
	}
	return nil
}

// validateExtension takes ids of both forms: 1 to 14 of the one-byte form, up to
// 255 of the two-byte form. 0 is padding (RFC 8285 section 4.2).
func validateExtension(uri string, id uint8) error {
	if uri == "" || len(uri) > maxText || !isVisible(uri) {
		return invalid("header extension uri %q", cut(uri))
	}
	if id == 0 {
		return invalid("header extension %q: id missing", uri)
	}
	return nil
}

// isVisible reports whether s is ASCII without blanks and control characters.
func isVisible(s string) bool { return isPrintable(s) && !strings.Contains(s, " ") }

// isPrintable reports whether s is ASCII without control characters.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errs.ErrInvalid)...)
}

// cut keeps a hostile text short in an error.
func cut(s string) string { return s[:min(len(s), 48)] }
