package faults

const (
	// chunkSize is how many indexes one piece of a stream's record holds.
	chunkSize = 1024
	// chunksKept is how many pieces stay: together as many indexes as a 16-bit
	// sequence number can lie behind the highest. An older one would be taken for
	// one of the next roll-over and fail its authentication.
	chunksKept = 1 << 15 / chunkSize
	// maxSparse bounds the record of one source's SRTCP indexes.
	maxSparse = 1 << 14
)

// verdict is what the index proof says of a packet.
type verdict uint8

const (
	// fresh: its index was not seen before.
	fresh verdict = iota + 1
	// repeated: the same bytes once more.
	repeated
	// clash: the index was used for other bytes.
	clash
	// unchecked: the record is full or does not reach back so far.
	unchecked
)

// indexes is the record of one SRTP stream under one key: a hash of the bytes that
// each index was used for.
type indexes struct {
	started bool
	highest uint64
	chunks  map[uint64]*[chunkSize]uint32
}

// extend returns the index of a packet with the sequence number, as a receiver
// does that has seen the highest one (RFC 3711 section 3.3.1 and appendix A).
func (x *indexes) extend(sequence uint16) uint64 {
	if !x.started {
		return uint64(sequence)
	}
	last, roll := uint16(x.highest), x.highest>>16 //nolint:gosec // the low 16 bits
	switch {
	case last < 1<<15 && int(sequence)-int(last) > 1<<15 && roll > 0:
		roll--
	case last >= 1<<15 && int(last)-(1<<15) > int(sequence):
		roll++
	}
	return roll<<16 | uint64(sequence)
}

// note books the bytes' hash under the index.
func (x *indexes) note(index uint64, hash uint32) verdict {
	if !x.started {
		x.started, x.highest, x.chunks = true, index, map[uint64]*[chunkSize]uint32{}
	}
	x.highest = max(x.highest, index)
	number := index / chunkSize
	newest := x.highest / chunkSize
	if newest-number >= chunksKept {
		return unchecked
	}
	chunk := x.chunks[number]
	if chunk == nil {
		chunk = new([chunkSize]uint32)
		x.chunks[number] = chunk
		for old := range x.chunks {
			if old+chunksKept <= newest {
				delete(x.chunks, old)
			}
		}
	}
	return compare(&chunk[index%chunkSize], hash)
}

// compare keeps the hash in an empty place, 0, or compares it with what is there.
func compare(place *uint32, hash uint32) verdict {
	switch hash = max(hash, 1); *place {
	case 0:
		*place = hash
		return fresh
	case hash:
		return repeated
	}
	return clash
}

// sparse is the record of one source's SRTCP under one key, whose indexes jump.
type sparse map[uint32]uint32

func (s sparse) note(index, hash uint32) verdict {
	place := s[index]
	if place == 0 && len(s) >= maxSparse {
		return unchecked
	}
	v := compare(&place, hash)
	s[index] = place
	return v
}

// Proof is what the index proof has seen.
type Proof struct {
	// RTP and RTCP count the different indexes.
	RTP  uint64 `json:"rtp"`
	RTCP uint64 `json:"rtcp"`
	// Duplicates are packets that came again with the same bytes.
	Duplicates uint64 `json:"duplicates"`
	// Clashes are indexes that were used for different bytes under one key.
	Clashes uint64 `json:"clashes"`
	// Unchecked packets were too old for the record, or it was full.
	Unchecked uint64 `json:"unchecked"`
	// RollOvers of 16-bit sequence numbers were passed.
	RollOvers uint64 `json:"rollOvers"`
	// Unauthentic packets are not the work of the keys that the transport has.
	Unauthentic uint64 `json:"unauthentic"`
}

func (p *Proof) add(o Proof) {
	p.RTP += o.RTP
	p.RTCP += o.RTCP
	p.Duplicates += o.Duplicates
	p.Clashes += o.Clashes
	p.Unchecked += o.Unchecked
	p.RollOvers += o.RollOvers
	p.Unauthentic += o.Unauthentic
}

// count books a verdict; indexes is the counter of the packet's kind.
func (p *Proof) count(v verdict, indexes *uint64) {
	switch v {
	case fresh:
		*indexes++
	case repeated:
		p.Duplicates++
	case clash:
		p.Clashes++
	case unchecked:
		p.Unchecked++
	}
}
