package rtc

import (
	"testing"
	"time"
)

// TestLevelMeter feeds levels at chosen times.
func TestLevelMeter(t *testing.T) {
	const start = instant(time.Hour)
	at := func(d time.Duration) instant { return start + instant(d) }
	var m levelMeter
	if m.fresh(start) {
		t.Fatal("a level before the first packet")
	}
	m.add(0x80|10, start)
	for pause, want := range map[time.Duration]bool{
		0: true, 400 * time.Millisecond: true, 800 * time.Millisecond: true, // DTX, one packet lost
		levelLife: false, time.Second: false, time.Hour: false,
	} {
		if got := m.fresh(at(pause)); got != want {
			t.Errorf("after %v: %v", pause, got)
		}
	}
	m.add(50, at(20*time.Millisecond))
	if m.smooth != -10+levelGain*-40 || m.last != -50 {
		t.Errorf("smoothed to %v", m.smooth)
	}
	m.add(127, at(400*time.Millisecond)) // DTX goes on from there
	if m.smooth > -30 || m.smooth < -50 {
		t.Errorf("smoothed to %v", m.smooth)
	}
	m.add(60, at(5*time.Second))
	if m.smooth != -60 {
		t.Errorf("a new utterance begins with %v", m.smooth)
	}
}

// TestLevelsEnd asks for levels while a speaker speaks, is paused and falls silent.
func TestLevelsEnd(t *testing.T) {
	r := newRig(t, nil)
	a, b := pair(r)
	producer := r.produce(a, 5, "0")
	consumer, _ := r.consume(b, producer)
	seq := uint16(0)
	levels := func() (in, out *int32) {
		s, err := r.Stats(r.ctx, StatsTarget{Producer: producer})
		mustNil(t, err)
		c, err := r.Stats(r.ctx, StatsTarget{Consumer: consumer})
		mustNil(t, err)
		return s.Producers[0].AudioLevelDbov, c.Consumers[0].AudioLevelDbov
	}
	speaks := func() {
		t.Helper()
		r.eventually("both levels", func() bool {
			a.speak(5, seq)
			seq++
			in, out := levels()
			return in != nil && *in == -30 && out != nil && *out == -30
		})
	}
	speaks()
	r.clock.advance(believedAge + time.Second) // the kernel's clock stays behind from here on, and counts no more
	if in, out := levels(); in != nil || out != nil {
		t.Fatalf("a second after the last packet: %v, %v", in, out)
	}
	speaks()
	mustNil(t, r.PauseConsumer(r.ctx, consumer))
	r.clock.advance(time.Second)
	r.eventually("the speaker alone", func() bool {
		a.speak(5, seq)
		seq++
		in, out := levels()
		return in != nil && out == nil
	})
	mustNil(t, r.ResumeConsumer(r.ctx, consumer))
	speaks()
	mustNil(t, r.PauseProducer(r.ctx, producer))
	r.clock.advance(time.Second)
	r.eventually("nobody hears a paused speaker", func() bool {
		a.speak(5, seq)
		seq++
		in, out := levels()
		return in != nil && out == nil
	})
}
