package rtc

// seqMap maps the extended sequence numbers of a producer to those of one
// consumer: out = in + offset. The offset is fixed by the first packet after the
// consumer was made or resumed, so that the outgoing numbers go on without a gap,
// and packets older than that one are dropped. As every incoming number is
// forwarded at most once (replay protection sees to it), no outgoing number is
// used twice.
//
// The whole state is exported by value for a successor: with it, and the incoming
// number, the outgoing number is the same in any process.
type seqMap struct {
	offset int64  // of the present run
	from   uint64 // first incoming number of the present run
	last   uint64 // highest outgoing number used so far
	synced bool   // a run is under way
}

// newSeqMap starts numbering at first.
func newSeqMap(first uint16) seqMap { return seqMap{last: uint64(first) - 1} }

// outgoing maps an incoming number and says whether the packet may go out.
func (m *seqMap) outgoing(in uint64) (out uint64, ok bool) {
	if !m.synced {
		m.offset = int64(m.last+1) - int64(in)
		m.from = in
		m.synced = true
	}
	if in < m.from {
		return 0, false
	}
	out = uint64(int64(in) + m.offset)
	if out > m.last {
		m.last = out
	}
	return out, true
}

// interrupt ends the run: the next packet starts a new one.
func (m *seqMap) interrupt() { m.synced = false }
