package wire

import "encoding/json"

// Decode reads one frame. The returned request holds the request id also when
// the error is not nil, so that the answer can echo it.
func Decode(frame []byte) (Request, *Error) {
	return Request{RequestID: json.RawMessage(nil)}, ErrMalformed()
}
