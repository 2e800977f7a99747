package rtp

// Reception keeps the statistics of one incoming stream (RFC 3550 appendices A.1,
// A.3 and A.8). Its packets are authentic, so the probation of A.1 is left out.
// The zero value is ready. It belongs to one goroutine. It holds no pointers, since a
// ledger keeps it in shared memory: a process that ends between two stores leaves
// statistics that are at most one packet off.
type Reception struct {
	started    bool
	base       int64  // the first number of the stream, extended; negative before a wrap at the start
	highest    uint32 // with the count of its cycles
	received   uint64
	transit    uint32
	jitter     float64 // in units of the media clock
	priorWant  uint64
	priorTaken uint64
}

// maxMisorder is how far behind its successors a packet may come (RFC 3550 appendix A.1).
const maxMisorder = 100

// Update books a packet. arrival is the time of arrival on the media clock; only
// differences count, and it may wrap.
func (r *Reception) Update(seq uint16, timestamp, arrival uint32) {
	transit := arrival - timestamp
	if !r.started {
		r.base, r.highest, r.transit = int64(seq), uint32(seq), transit
		r.received, r.started = 1, true
		return
	}
	r.received++
	if ahead := int16(seq - uint16(r.highest)); ahead > 0 {
		r.highest += uint32(ahead)
	} else {
		// The first packets may change places, as where a client chooses its path meanwhile.
		if full := int64(r.highest) + int64(ahead); full >= r.base-maxMisorder {
			r.base = min(r.base, full)
		}
	}
	d := int32(transit - r.transit)
	r.transit = transit
	r.jitter += (max(float64(d), -float64(d)) - r.jitter) / 16
}

// ExtendedHighest is the highest sequence number with the count of its cycles.
func (r *Reception) ExtendedHighest() uint32 { return r.highest }

// Received is the number of packets, duplicates included.
func (r *Reception) Received() uint64 { return r.received }

// Lost is expected minus received packets; duplicates make it smaller.
func (r *Reception) Lost() int64 {
	if !r.started {
		return 0
	}
	return int64(r.expected()) - int64(r.received)
}

// Jitter is the interarrival jitter in units of the media clock.
func (r *Reception) Jitter() float64 { return r.jitter }

func (r *Reception) expected() uint64 {
	return uint64(int64(r.highest) - r.base + 1)
}

// Report makes a report block on the stream and begins a new interval for the
// fraction lost. The caller fills LastSenderReport and Delay in.
func (r *Reception) Report(ssrc uint32) ReceptionReport {
	rep := ReceptionReport{SSRC: ssrc}
	if !r.started {
		return rep
	}
	want, taken := r.expected()-r.priorWant, r.received-r.priorTaken
	r.priorWant, r.priorTaken = r.expected(), r.received
	if want > taken {
		rep.FractionLost = uint8(min((want-taken)<<8/want, 255))
	}
	rep.TotalLost = int32(min(max(r.Lost(), minTotalLost), maxTotalLost))
	rep.HighestSequence = r.highest
	rep.Jitter = uint32(r.jitter)
	return rep
}
