package wire

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/dspeak/sfu/internal/ident"
)

// Production is a producer with the user whose it is.
type Production struct {
	ID     ident.ProducerID
	UserID ident.UserID
}

// picture is a message that tells a whole state. A crowd's has thousands of ids and is
// encoded for each newcomer, so pictures write their JSON themselves: reflection takes
// twenty times as long.
type picture interface {
	kind() Kind
	appendJSON(b []byte) []byte
}

func (CurrentlyInChannel) kind() Kind { return KindInChannel }

func (AvailableProducers) kind() Kind { return KindProducers }

func (m CurrentlyInChannel) body() any { return json.RawMessage(m.appendJSON(nil)) }

func (m AvailableProducers) body() any { return json.RawMessage(m.appendJSON(nil)) }

func (m CurrentlyInChannel) appendJSON(b []byte) []byte {
	b = append(b, `{"type":"currentlyInChannel","inRoom":[`...)
	for i, id := range m.InRoom {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(id))
	}
	b = append(b, `],`...)
	return append(appendProductions(b, m.Producers), '}')
}

func (m AvailableProducers) appendJSON(b []byte) []byte {
	b = append(b, `{"type":"available-producers","data":{`...)
	return append(appendProductions(b, m.Producers), `}}`...)
}

// appendProductions writes the members producers and producerUserMap.
func appendProductions(b []byte, all []Production) []byte {
	b = append(b, `"producers":[`...)
	for i, p := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(p.ID))
	}
	b = append(b, `],"producerUserMap":{`...)
	for i, p := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(p.ID))
		b = append(b, ':')
		b = appendString(b, string(p.UserID))
	}
	return append(b, '}')
}

// appendString writes a JSON string as Encode's encoder does.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return appendHardString(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendHardString writes a string in which something must be escaped or checked.
func appendHardString(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil { // no string fails
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})...)
}
