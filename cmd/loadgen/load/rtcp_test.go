package load

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
)

func TestReceptionReports(t *testing.T) {
	const second = int64(time.Second)
	var r reception
	for i := range 100 {
		if i%10 == 9 {
			continue // lost
		}
		r.packet(uint16(65500+i), uint32(i)*960, 1000*second+int64(i)*second/50)
	}
	r.lastReport, r.lastReportAt = 0xabcd, 1002*second
	got := r.report(7, 1002*second+second/2)
	want := rtcp.ReceptionReport{
		SSRC: 7, LastSequenceNumber: 65500 + 98, TotalLost: 9, FractionLost: 9 * 256 / 99,
		LastSenderReport: 0xabcd, Delay: 1 << 15,
	}
	if got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i := range 10 {
		r.packet(uint16(65500+99+i), uint32(99+i)*960, 1000*second+int64(99+i)*second/50)
	}
	if got := r.report(7, 1003*second); got.FractionLost != 0 || got.TotalLost != 9 {
		t.Fatalf("a calm interval gives %+v", got)
	}
}

func TestReceptionJitter(t *testing.T) {
	var r reception
	for i := range 2000 {
		at := time.Duration(i)*20*time.Millisecond + time.Duration(i%2)*time.Millisecond
		r.packet(uint16(i), uint32(i)*960, int64(at))
	}
	// Each packet differs by one millisecond, 48 units, from the one before.
	if got := r.report(1, 0).Jitter; got < 45 || got > 49 {
		t.Fatalf("jitter %d, want 48", got)
	}
}

func TestNTP(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 500_000_000, time.UTC)
	if got := ntp(at.UnixNano()); got>>32 != uint64(at.Unix())+2_208_988_800 || uint32(got) != 1<<31 {
		t.Fatalf("got %x", got)
	}
}
