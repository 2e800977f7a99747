package rtp

// ExtendSequence returns the extended sequence number of seq that is nearest to
// highest, the highest one so far (RFC 3711 section 3.3.1 and appendix A). Halfway
// between two, the lower one is taken. It never goes below zero.
func ExtendSequence(highest uint64, seq uint16) uint64 {
	index := int64(highest) + int64(int16(seq-uint16(highest)))
	if index < 0 {
		return uint64(seq)
	}
	return uint64(index)
}
