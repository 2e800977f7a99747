package rtc

import "github.com/dspeak/sfu/worker/ledger"

// seqMap maps the extended sequence numbers of a producer to those of one
// consumer: out = in + offset. The offset is fixed by the first packet after the
// consumer was made or resumed, so that the outgoing numbers go on without a gap,
// and packets older than that one are dropped. As every incoming number is
// forwarded at most once (replay protection sees to it), no outgoing number is
// used twice.
//
// The ledger has all of it but last before its first use (ledger.Mapping): with it,
// and the incoming number, the outgoing number is the same in any process.
type seqMap struct {
	offset int64  // of the present run
	from   uint64 // first incoming number of the present run
	last   uint64 // highest outgoing number used so far
	synced bool   // a run is under way
}

// newSeqMap starts numbering at first.
func newSeqMap(first uint16) seqMap { return seqMap{last: uint64(first) - 1} }

// loadSeqMap goes on with a mapping of the ledger; highest is the highest incoming
// number.
func loadSeqMap(m *ledger.Mapping, highest uint64) seqMap {
	var s seqMap
	s.offset, s.from, s.last, s.synced = m.Load(highest)
	return s
}

// begin notes the run that the incoming number starts.
func (f *fanout) begin(in uint64) {
	f.seq.begin(in)
	f.consumer.rec.Mapping.Begin(f.seq.offset, f.seq.from)
}

// interrupt ends the run under way: the next packet starts a new one.
func (f *fanout) interrupt() {
	if f.seq.synced {
		f.consumer.rec.Mapping.End(f.seq.last)
		f.seq.interrupt()
	}
}

// outgoing maps an incoming number and says whether the packet may go out.
func (m *seqMap) outgoing(in uint64) (out uint64, ok bool) {
	if !m.synced {
		m.begin(in)
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

// begin starts a run with the incoming number in.
func (m *seqMap) begin(in uint64) {
	m.offset, m.from, m.synced = int64(m.last+1)-int64(in), in, true
}

// interrupt ends the run: the next packet starts a new one.
func (m *seqMap) interrupt() { m.synced = false }
