package rtc

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspeak/sfu/worker/netio"
)

// stall holds the loop until the returned function is called, so that all that
// arrives meanwhile is read in one batch.
func (r *rig) stall() (resume func()) {
	r.t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- r.mail.do(r.ctx, func() {
			close(held)
			<-free
		})
	}()
	<-held
	return func() {
		close(free)
		if err := <-done; err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestMediaWithoutSegmentation: bursts to one listener arrive whole and once
// with segments, on a kernel without them, and on one that refuses them in use
// (it does for a socket without checksums).
func TestMediaWithoutSegmentation(t *testing.T) {
	for name, row := range map[string]struct {
		noOffload, refuses bool
		segments           int
	}{
		"a kernel that takes segments":    {segments: netio.MaxPackets},
		"a kernel without":                {noOffload: true, segments: 1},
		"a kernel that refuses them late": {refuses: true, segments: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := openSockets(t, netio.UDPOptions{NoOffload: row.noOffload})
			if !row.noOffload && s.UDP[0].MaxSegments() == 1 {
				t.Skip("this kernel has no UDP_SEGMENT")
			}
			if row.refuses {
				if err := unix.SetsockoptInt(s.UDP[0].FD(), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
					t.Fatal(err)
				}
			}
			r := newRigOn(t, s, nil)
			a, b := pair(r)
			r.consume(b, r.produce(a, 1111, "0"))
			const bursts, burst = 4, 12
			for i := range uint16(bursts) {
				resume := r.stall()
				for k := range uint16(burst) {
					a.speak(1111, i*burst+k)
				}
				resume()
				for k := range uint16(burst) {
					if p := b.hear(); !bytes.Equal(p.Payload, voice(1111, i*burst+k).Payload) {
						t.Fatalf("packet %d of burst %d is %v", k, i, p)
					}
				}
			}
			if len(b.rtp) > 0 {
				t.Errorf("%d packets came twice", len(b.rtp))
			}
			u, err := r.Usage(r.ctx)
			if err != nil {
				t.Fatal(err)
			}
			refused := uint64(0)
			if row.refuses {
				refused = 1
			}
			if got := s.UDP[0].MaxSegments(); got != row.segments || u.Sockets.MaxSegments != row.segments || u.Sockets.SegmentationRefused != refused {
				t.Errorf("%d segments, told %+v", got, u.Sockets)
			}
		})
	}
}

func TestSocketStats(t *testing.T) {
	b := newBench(t)
	var log strings.Builder
	b.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if got := b.socketStats(); got != (SocketStats{MaxSegments: netio.MaxPackets}) {
		t.Fatalf("sockets that count elsewhere: %+v", got)
	}
	udp := func(n uint64) *netio.Counters {
		return &netio.Counters{
			ReceivedBytes: n, SentBytes: 2 * n, Truncated: 3 * n, KernelDrops: uint32(4 * n), Refused: 5 * n,
			WouldBlock: 6 * n, OffloadDropped: 7 * n,
		}
	}
	tcp := func(n uint64) *netio.TCPCounters {
		return &netio.TCPCounters{
			ReceivedBytes: n, SentBytes: 2 * n, Refused: 3 * n, DroppedFrames: 5 * n, BadFrames: 6 * n,
		}
	}
	b.sockets.counters = &SocketCounters{UDP: []*netio.Counters{udp(1), udp(10)}, TCP: []*netio.TCPCounters{tcp(100), tcp(1000)}}
	b.sockets.counters.UDP[1].LastError = unix.EIO
	b.peers.refused = 7
	want := SocketStats{
		BytesReceived: 1111, BytesSent: 2222, Truncated: 33, KernelDrops: 44, Refused: 55, WouldBlock: 66, SegmentationRefused: 77,
		TCPRefused: 3307, TCPDropped: 5500, TCPBadFrames: 6600, MaxSegments: netio.MaxPackets,
	}
	if got := b.socketStats(); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	b.logSocketFaults()
	for _, part := range []string{"level=WARN", "input/output error", "kernel_drops=44", "would_block=66", "tcp_refused=3307"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("%s is not in %s", part, log.String())
		}
	}
	log.Reset()
	b.sockets.counters.UDP[0].SentBytes++ // no fault
	if b.logSocketFaults(); log.Len() > 0 {
		t.Errorf("logged without a fault: %s", log.String())
	}
}
