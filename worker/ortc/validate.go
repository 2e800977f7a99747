package ortc

import (
	"fmt"
	"strings"

	"github.com/dspeak/sfu/internal/errs"
)

// Bounds on what a client may send. Browsers stay far below them: Chromium
// announces some 20 audio codecs and 10 extensions.
const (
	maxCodecs     = 64
	maxExtensions = 64
	maxFeedback   = 16
	maxParameters = 32
	maxText       = 256
	maxMid        = 16
	maxCNAME      = 255 // RFC 3550 section 6.5
)

// ValidateRtpCapabilities checks bounds and form. Faults wrap errs.ErrInvalid.
func ValidateRtpCapabilities(caps RtpCapabilities) error {
	if n := len(caps.Codecs); n > maxCodecs {
		return invalid("%d codecs, want at most %d", n, maxCodecs)
	}
	if n := len(caps.HeaderExtensions); n > maxExtensions {
		return invalid("%d header extensions, want at most %d", n, maxExtensions)
	}
	for i := range caps.Codecs {
		c := &caps.Codecs[i]
		if err := validateCodec(c.MimeType, c.ClockRate, c.PreferredPayloadType, c.Parameters, c.RtcpFeedback); err != nil {
			return err
		}
	}
	for _, e := range caps.HeaderExtensions {
		if e.Kind != "" && e.Kind != KindAudio && e.Kind != "video" {
			return invalid("header extension kind %q", cut(e.Kind))
		}
		if err := validateExtension(e.URI, e.PreferredID); err != nil {
			return err
		}
	}
	return nil
}

// ValidateRtpParameters checks what a producer sends: bounds, form, and that it
// is one audio encoding. Faults wrap errs.ErrInvalid.
func ValidateRtpParameters(p RtpParameters) error {
	if n := len(p.Codecs); n == 0 || n > maxCodecs {
		return invalid("%d codecs, want 1 to %d", n, maxCodecs)
	}
	if len(p.Mid) > maxMid {
		return invalid("mid of %d bytes, want at most %d", len(p.Mid), maxMid)
	}
	if len(p.Rtcp.CNAME) > maxCNAME {
		return invalid("cname of %d bytes, want at most %d", len(p.Rtcp.CNAME), maxCNAME)
	}
	used := map[uint8]bool{}
	for i := range p.Codecs {
		c := &p.Codecs[i]
		if err := validateCodec(c.MimeType, c.ClockRate, c.PayloadType, c.Parameters, c.RtcpFeedback); err != nil {
			return err
		}
		if used[c.PayloadType] {
			return invalid("payload type %d is used twice", c.PayloadType)
		}
		used[c.PayloadType] = true
	}
	if err := validateExtensions(p.HeaderExtensions); err != nil {
		return err
	}
	return validateEncodings(&p)
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
			return invalid("header extension %s is there twice", cut(e.URI))
		}
		if e.Encrypt {
			return invalid("header extension %s is encrypted, which is not supported", cut(e.URI))
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
	switch {
	case len(e.RID) > maxMid:
		return invalid("rid of %d bytes, want at most %d", len(e.RID), maxMid)
	case e.SSRC == 0 && p.Mid == "":
		return invalid("neither ssrc nor mid is given")
	}
	return nil
}

func validateCodec(mimeType string, clockRate uint32, payloadType uint8, params Parameters, feedback []RtcpFeedback) error {
	kind, name, ok := strings.Cut(strings.ToLower(mimeType), "/")
	if !ok || name == "" || (kind != KindAudio && kind != "video") || len(mimeType) > maxText {
		return invalid("codec mime type %q", cut(mimeType))
	}
	if clockRate == 0 {
		return invalid("codec %s: clock rate missing", cut(mimeType))
	}
	if payloadType > 127 {
		return invalid("codec %s: payload type %d, want at most 127", cut(mimeType), payloadType)
	}
	if n := len(feedback); n > maxFeedback {
		return invalid("codec %s: %d rtcp feedback kinds, want at most %d", cut(mimeType), n, maxFeedback)
	}
	for _, fb := range feedback {
		if fb.Type == "" || len(fb.Type) > maxText || len(fb.Parameter) > maxText {
			return invalid("codec %s: rtcp feedback %q", cut(mimeType), cut(fb.Type))
		}
	}
	return validateParameters(mimeType, params)
}

func validateParameters(mimeType string, params Parameters) error {
	if n := len(params); n > maxParameters {
		return invalid("codec %s: %d parameters, want at most %d", cut(mimeType), n, maxParameters)
	}
	for key, value := range params {
		switch v := value.(type) {
		case int64:
		case string:
			if len(v) > maxText {
				return invalid("codec %s: parameter %s of %d bytes", cut(mimeType), cut(key), len(v))
			}
		default:
			return invalid("codec %s: parameter %s is neither a number nor a text", cut(mimeType), cut(key))
		}
		if key == "" || len(key) > maxText {
			return invalid("codec %s: parameter name %q", cut(mimeType), cut(key))
		}
	}
	return nil
}

func validateExtension(uri string, id uint8) error {
	if uri == "" || len(uri) > maxText {
		return invalid("header extension uri %q", cut(uri))
	}
	if id == 0 || id == 15 { // 0 is padding, 15 is reserved in the one-byte form (RFC 8285)
		return invalid("header extension %s: id %d", uri, id)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errs.ErrInvalid)...)
}

// cut keeps a hostile text short in an error.
func cut(s string) string { return s[:min(len(s), 48)] }
