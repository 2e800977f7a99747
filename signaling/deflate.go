package signaling

import (
	"bytes"
	"compress/flate"
	"net/http"
	"runtime"
	"strings"
)

const (
	// deflateFrom is the size of a message that is worth its compression.
	deflateFrom = 4 << 10
	// deflateLevel is the fastest one: ids are mostly random, and a better one gains little.
	deflateLevel = flate.BestSpeed
)

// deflater compresses messages for sockets that negotiated permessage-deflate
// (RFC 7692) without context takeover: a message is compressed once for all
// receivers. Its memory is that of one flate.Writer a processor, however many sockets
// there are. Any goroutine may use it.
type deflater struct {
	// writers holds all writers that are not in use; a nil one is made at its first use.
	writers chan *flate.Writer
}

func newDeflater() *deflater {
	n := runtime.GOMAXPROCS(0)
	d := &deflater{writers: make(chan *flate.Writer, n)}
	for range n {
		d.writers <- nil
	}
	return d
}

// compress returns the payload of a compressed message, or nil when the text is
// better sent as it is.
func (d *deflater) compress(text []byte) []byte {
	buf := bytes.NewBuffer(make([]byte, 0, len(text)/2))
	w := <-d.writers
	defer func() { d.writers <- w }()
	if w == nil {
		w, _ = flate.NewWriter(buf, deflateLevel) // fails only for a level that does not exist
	} else {
		w.Reset(buf)
	}
	if _, err := w.Write(text); err != nil {
		return nil // a buffer takes everything
	}
	if err := w.Flush(); err != nil {
		return nil
	}
	// A flush ends with an empty block, of which the last four bytes are left out
	// (RFC 7692 section 7.2.1).
	payload := bytes.TrimSuffix(buf.Bytes(), []byte{0, 0, 0xff, 0xff})
	if len(payload) >= len(text) {
		return nil
	}
	return payload
}

// offersDeflate reports whether a client offers permessage-deflate on terms that the
// upgrader's answer keeps: no context takeover on either side, and windows of any size.
// A limit for the server's window is not kept, so such an offer counts as none.
func offersDeflate(h http.Header) bool {
	for _, line := range h.Values("Sec-Websocket-Extensions") {
		for offer := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(offer, ";")
			if strings.EqualFold(strings.TrimSpace(name), "permessage-deflate") && keepable(params) {
				return true
			}
		}
	}
	return false
}

// keepable reports whether all parameters of an offer can be kept.
func keepable(params string) bool {
	if strings.TrimSpace(params) == "" {
		return true
	}
	for param := range strings.SplitSeq(params, ";") {
		name, _, _ := strings.Cut(param, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "client_max_window_bits", "client_no_context_takeover", "server_no_context_takeover":
		default:
			return false
		}
	}
	return true
}
