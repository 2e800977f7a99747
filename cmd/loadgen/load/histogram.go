package load

import "time"

const (
	bucketWidth = 10 * time.Microsecond
	bucketCount = 200_000 // up to two seconds
)

// histogram counts latencies in linear buckets of ten microseconds. It belongs
// to one goroutine.
type histogram struct {
	buckets []uint32
	count   uint64
	highest time.Duration
}

func newHistogram() *histogram { return &histogram{buckets: make([]uint32, bucketCount)} }

// add counts one latency; a negative one (clocks differ by rounding) counts as zero.
func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.buckets[min(int(d/bucketWidth), bucketCount-1)]++
	h.count++
	h.highest = max(h.highest, d)
}

// quantile returns the upper bound of the bucket that holds the q-quantile,
// 0 < q <= 1, or zero without samples.
func (h *histogram) quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	want := uint64(q*float64(h.count) + 0.999999)
	var seen uint64
	for i, n := range h.buckets {
		seen += uint64(n)
		if seen >= want {
			return min(time.Duration(i+1)*bucketWidth, h.highest)
		}
	}
	return h.highest
}
